"""Losses that unlearn, each a function of the network in training and one step.

Names, weights and schedules follow Siddiqui et al. 2025 (From Dormant to Deleted, arXiv
2505.22310) and the methods that they compare: NegGrad+, random relabeling, SCRUB (Kurmanji et al.
2023), circuit breakers (Zou et al. 2024), L1-sparse (Jia et al. 2023), TAR (Tamirisa et al. 2024);
distance regularization and connectivity-based fine-tuning (CBFT) are their own. A low loss does not
show that anything is gone: that is what relearning tests.
"""

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, mse_loss, relu

from interp.training.optimizers import AdamW
from interp.training.vision.networks import Network
from interp.training.vision.training import Batch, Step, cross_entropy_on_retain

_FLOOR = 1e-8
"""Under the root of the distance to the start, which is 0 at first."""


def ascent_on_forget(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """Minus the cross entropy on the forgotten images (NegGrad+ alternates it with retaining)."""
    return -strength * cross_entropy(network(step.forget.x).logits, step.forget.y)


def random_relabel(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """Cross entropy of right labels on the retained images, and of wrong ones on the forgotten."""
    wrong = cross_entropy(network(step.forget.x).logits, step.wrong)
    return cross_entropy_on_retain(network, step) + strength * wrong


def divergence(network: Network, step: Step, batch: Batch) -> Tensor:
    """KL(start || network) of the predicted classes, mean over images."""
    target = step.start(batch.x).logits.log_softmax(1)
    found = network(batch.x).logits.log_softmax(1)
    return kl_div(found, target, reduction="batchmean", log_target=True)


def depart_on_forget(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """SCRUB's maximal step: away from what the start says about the forgotten images."""
    return -strength * divergence(network, step, step.forget)


def scrub_on_retain(
    network: Network, step: Step, *, distillation: float = 1.0, label: float = 1.0
) -> Tensor:
    """SCRUB's minimal step: what the start says about the retained images, and their labels."""
    kept = cross_entropy_on_retain(network, step)
    return distillation * divergence(network, step, step.retain) + label * kept


def circuit_breaker(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """Hidden features of forgotten images turned from the start's, those of retained ones kept.

    In the course of training the weight moves from turning to keeping.
    """
    kept, gone = (
        (network(batch.x).features[1], step.start(batch.x).features[1])
        for batch in (step.retain, step.forget)
    )
    turned = relu(cosine_similarity(*gone, dim=1)).mean()
    return step.share * mse_loss(*kept) + (1 - step.share) * strength * turned


def l1_sparse(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """Retaining with a penalty on the mean absolute weight."""
    return cross_entropy_on_retain(network, step) + strength * network.weights.abs().mean()


def keep_distance(network: Network, step: Step, *, strength: float = 1.0) -> Tensor:
    """Retaining with a reward for the root mean square distance of the weights to the start."""
    distance = ((network.weights - step.start.weights).square().mean() + _FLOOR).sqrt()
    return cross_entropy_on_retain(network, step) - strength * distance


def disconnect(
    network: Network, step: Step, *, strength: float = 0.001, most: float = 50.0
) -> Tensor:
    """CBFT: retaining, and a high loss half way between the weights and the start's.

    Args:
        network: What is trained.
        step: The step.
        strength: Weight of the loss half way.
        most: Loss half way (nats) above which there is nothing to gain.
    """
    half_way = Network(
        network.cnn,
        (network.weights + step.start.weights) / 2,
        step.start.statistics,
        training=True,
    )
    x, y = torch.cat([step.retain.x, step.forget.x]), torch.cat([step.retain.y, step.forget.y])
    loss = cross_entropy(half_way(x).logits, y)
    return cross_entropy_on_retain(network, step) - strength * loss.clamp(max=most)


def tamper_resistant(
    network: Network,
    step: Step,
    *,
    strength: float = 4.0,
    retain: float = 1.0,
    n_attack_steps: int = 8,
    attack_lr: float = 1e-3,
) -> Tensor:
    """TAR: predictions on forgotten images stay uncertain while an attacker learns them.

    The gradient is taken at the attacker's weights and applied to the network (first order). The
    attack is Adam on the batch of the step.

    Args:
        network: What is trained.
        step: The step.
        strength: Weight of the attacker's entropy.
        retain: Weight of what keeps the retained images: cross entropy and features.
        n_attack_steps: Steps of the attacker, with a gradient after every fourth.
        attack_lr: Step size of the attacker.
    """
    kept, before = network(step.retain.x), step.start(step.retain.x)
    pairs = zip(kept.features, before.features, strict=True)
    near = torch.stack([mse_loss(a, b) for a, b in pairs]).mean()
    held = attacker_gradient(network, step.forget, n_steps=n_attack_steps, lr=attack_lr)
    # the inner product has the held gradient as its gradient
    resist = (held.detach() * network.weights).sum()
    return strength * resist + retain * (near + cross_entropy(kept.logits, step.retain.y))


def attacker_gradient(network: Network, forget: Batch, *, n_steps: int, lr: float) -> Tensor:
    """Mean gradient of minus the entropy on a batch along an attack that learns the batch."""
    fixed, optimizer = network.weights.detach(), AdamW()

    def logits(weights: Tensor) -> Tensor:
        return Network(network.cnn, weights, network.statistics, training=True)(forget.x).logits

    learn = grad(lambda weights: cross_entropy(logits(weights), forget.y))
    certainty = grad(lambda weights: -entropy(logits(weights)))
    state = torch.stack([fixed, torch.zeros_like(fixed), torch.zeros_like(fixed)])
    found = []
    for count in range(1, n_steps + 1):
        state = optimizer.step(state, learn(state[0]), lr=lr, count=count)
        if count % 4 == 0 or count == n_steps:
            found.append(certainty(state[0]))
    return torch.stack(found).mean(0)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy, in nats, of the predicted classes."""
    logprobs = logits.log_softmax(1)
    return -(logprobs.exp() * logprobs).sum(1).mean()
