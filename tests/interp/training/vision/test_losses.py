"""Each loss by its formula, with the network's outputs taken as given."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from interp.training.vision import Batch, Network, Networks, Step, Task, losses


def view(networks: Networks, run: int) -> Network:
    return Network(networks.cnn, networks.weights[run], networks.statistics[run], training=True)


@pytest.fixture
def step(networks: Networks, task: Task) -> Step:
    """A step of the first run, with the second as the network before."""

    def batch(rows: Tensor) -> Batch:
        return Batch(task.images.pixels[rows], task.images.labels[rows])

    forget = batch(task.forget[0])
    return Step(
        retain=batch(task.retain[0]), forget=forget, wrong=(forget.y + 1) % 3,
        start=view(networks, 1), share=0.25,
    )  # fmt: skip


def log_softmax(logits: Tensor) -> np.ndarray:
    values = logits.double().numpy()
    return values - np.log(np.exp(values).sum(1, keepdims=True))


def nll(logits: Tensor, labels: Tensor) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels.numpy()].mean())


def kl(target: Tensor, found: Tensor) -> float:
    p, q = log_softmax(target), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(1).mean())


def test_losses_of_labels(networks: Networks, step: Step) -> None:
    network = view(networks, 0)
    kept, gone = network(step.retain.x).logits, network(step.forget.x).logits
    loss = float(losses.ascent_on_forget(network, step, strength=0.5))
    assert loss == pytest.approx(-0.5 * nll(gone, step.forget.y), rel=1e-5)
    loss = float(losses.random_relabel(network, step, strength=2.0))
    expected = nll(kept, step.retain.y) + 2 * nll(gone, step.wrong)
    assert loss == pytest.approx(expected, rel=1e-5)
    loss = float(losses.l1_sparse(network, step, strength=3.0))
    size = float(networks.weights[0].abs().mean())
    assert loss == pytest.approx(nll(kept, step.retain.y) + 3 * size, rel=1e-5)


def test_losses_of_scrub_compare_with_the_start(networks: Networks, step: Step) -> None:
    network = view(networks, 0)
    gone = kl(step.start(step.forget.x).logits, network(step.forget.x).logits)
    loss = float(losses.depart_on_forget(network, step, strength=0.3))
    assert loss == pytest.approx(-0.3 * gone, rel=1e-4)
    kept = kl(step.start(step.retain.x).logits, network(step.retain.x).logits)
    loss = float(losses.scrub_on_retain(network, step, distillation=2.0, label=0.5))
    label = nll(network(step.retain.x).logits, step.retain.y)
    assert loss == pytest.approx(2 * kept + 0.5 * label, rel=1e-4)
    assert float(losses.divergence(step.start, step, step.forget)) == pytest.approx(0, abs=1e-6)


def test_circuit_breaker_turns_then_keeps(networks: Networks, step: Step) -> None:
    network = view(networks, 0)
    kept = network(step.retain.x).features[1] - step.start(step.retain.x).features[1]
    pair = network(step.forget.x).features[1], step.start(step.forget.x).features[1]
    turned = cosine_similarity(*pair, dim=1).clamp(min=0).mean()
    expected = 0.25 * kept.square().mean() + 0.75 * 2 * turned
    loss = losses.circuit_breaker(network, step, strength=2.0)
    torch.testing.assert_close(loss, expected)


def test_distance_is_rewarded(networks: Networks, step: Step) -> None:
    network = view(networks, 0)
    apart = (networks.weights[0] - networks.weights[1]).double().numpy()
    expected = nll(network(step.retain.x).logits, step.retain.y)
    expected -= 2 * np.sqrt((apart**2).mean() + 1e-8)
    loss = float(losses.keep_distance(network, step, strength=2.0))
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("most", [50.0, 0.5])
def test_cbft_rewards_loss_half_way_up_to_a_limit(
    most: float, networks: Networks, step: Step
) -> None:
    network = view(networks, 0)
    half = Network(network.cnn, networks.weights.mean(0), networks.statistics[1], training=True)
    x, y = torch.cat([step.retain.x, step.forget.x]), torch.cat([step.retain.y, step.forget.y])
    expected = nll(network(step.retain.x).logits, step.retain.y)
    expected -= 0.1 * min(most, nll(half(x).logits, y))
    loss = float(losses.disconnect(network, step, strength=0.1, most=most))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_tar_takes_its_gradient_where_the_attacker_ends(networks: Networks, step: Step) -> None:
    network = view(networks, 0)
    found = losses.attacker_gradient(network, step.forget, n_steps=5, lr=0.01)
    weights = networks.weights[0].clone().requires_grad_()
    adam, gradients = torch.optim.Adam([weights], lr=0.01), []

    def logits(weights: Tensor) -> Tensor:
        return Network(network.cnn, weights, network.statistics, training=True)(
            step.forget.x
        ).logits

    for count in range(1, 6):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(logits(weights), step.forget.y).backward()
        adam.step()
        if count in (4, 5):
            p = logits(weights).softmax(1)
            gradients.append(torch.autograd.grad((p * p.log()).sum(1).mean(), weights)[0])
    torch.testing.assert_close(found, torch.stack(gradients).mean(0), rtol=1e-3, atol=1e-5)


def test_tar_applies_that_gradient_to_the_network(networks: Networks, step: Step) -> None:
    def gradient(strength: float) -> Tensor:
        weights = networks.weights[0].clone().requires_grad_()
        network = Network(networks.cnn, weights, networks.statistics[0], training=True)
        loss = losses.tamper_resistant(network, step, strength=strength, n_attack_steps=4)
        return torch.autograd.grad(loss, weights)[0]

    held = losses.attacker_gradient(view(networks, 0), step.forget, n_steps=4, lr=1e-3)
    torch.testing.assert_close(gradient(4.0) - gradient(0.0), 4 * held, rtol=1e-3, atol=1e-4)


def test_entropy_of_even_odds() -> None:
    assert float(losses.entropy(torch.zeros(2, 8))) == pytest.approx(np.log(8))
