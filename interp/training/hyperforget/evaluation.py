"""Have sampled classifiers forgotten? Accuracy, alignment, diversity, membership, relearning.

A sample counts as forgetting beside classifiers that were trained without the class. None of these
numbers says what a sampled classifier still holds in its hidden units; relearning comes closest.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.core.seeds import generator
from interp.training.hyperforget.bank import Prompt, RunBank, Split, log_losses
from interp.training.hyperforget.classifiers import Mlp, train_classifiers


def forget_retain_accuracy(
    mlp: Mlp, weights: Float[Tensor, "run parameter"], split: Split, class_: int
) -> tuple[Float[Tensor, " run"], Float[Tensor, " run"]]:
    """Test accuracy on one class, and mean test accuracy over the others."""
    found = mlp.class_accuracies(weights, split.test_x, split.test_y)
    others = [c for c in range(mlp.n_classes) if c != class_]
    return found[:, class_], found[:, others].mean(1)


def alignment(
    prompted: Float[Tensor, "example prompt"], obtained: Float[Tensor, "example prompt"]
) -> Float[Tensor, " prompt"]:
    """R2 of the losses that were asked for as a prediction of the losses that came out.

    Examples:
        >>> alignment(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
        tensor([1.])
    """
    error = (obtained - prompted).square().sum(0)
    return 1 - error / (obtained - obtained.mean(0)).square().sum(0)


def disagreement(
    mlp: Mlp, weights: Float[Tensor, "run parameter"], x: Float[Tensor, "example d_in"]
) -> float:
    """Share of images on which two different classifiers give different answers, over all pairs.

    Raises:
        ValueError: If there are fewer than two classifiers.
    """
    n = len(weights)
    if n < 2:
        raise ValueError(f"{n} classifiers: needed 2 or more to compare")
    answers = torch.stack([mlp.logits(w, x).argmax(1) for w in weights])
    counts = torch.nn.functional.one_hot(answers, mlp.n_classes).sum(0).double()
    same_pairs = (counts * (counts - 1)).sum(1) / (n * (n - 1))
    return float(1 - same_pairs.mean())


def nearest_in_bank(
    bank: RunBank, prompt: Prompt, wanted: Float[Tensor, "example prompt"]
) -> Int[Tensor, " example"]:
    """The checkpoint whose losses are nearest to each prompt: what a look-up gives for it.

    Losses are compared as logarithms, in standard deviations of the bank's.
    """
    known = log_losses(prompt(bank.losses))
    scale = known.std(0).clamp(min=1e-6)
    return torch.cdist(log_losses(wanted) / scale, known / scale).argmin(1)


def distance_to_bank(
    weights: Float[Tensor, "run parameter"], bank: RunBank
) -> Float[Tensor, " run"]:
    """Root mean square difference of weights to the nearest checkpoint; 0 is a copy.

    In standard deviations of each weight in the bank; weights that do not vary are left out.
    """
    scale = bank.weights.std(0)
    varies = scale > 1e-6
    own, known = ((w / scale)[:, varies] for w in (weights, bank.weights))
    # without the matrix product, whose rounding would hide copies
    apart = torch.cdist(own, known, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.amin(1) / int(varies.sum()) ** 0.5


def membership_auroc(
    mlp: Mlp, weights: Float[Tensor, "run parameter"], split: Split, class_: int
) -> Float[np.ndarray, " run"]:
    """How well a low loss tells training images of a class from its test images; chance is 0.5."""
    member, other = (y == class_ for y in (split.train_y, split.test_y))
    x = torch.cat([split.train_x[member], split.test_x[other]])
    y = torch.full((len(x),), class_)
    is_member = np.arange(len(x)) < int(member.sum())
    losses = [cross_entropy(mlp.logits(w, x), y, reduction="none") for w in weights]
    return np.array([roc_auc_score(is_member, -loss.numpy()) for loss in losses])


def relearn_class(
    mlp: Mlp,
    weights: Float[Tensor, "run parameter"],
    split: Split,
    class_: int,
    *,
    n_given: int,
    n_steps: int = 200,
    lr: float = 3e-3,
    seeds: Sequence[int],
) -> Float[Tensor, "run parameter"]:
    """Classifiers after training on the other classes and on a few images of the class.

    Args:
        mlp: Their shape.
        weights: Classifiers that forgot.
        split: Images.
        class_: What they forgot.
        n_given: Images of the class that the attacker has, drawn by each run's seed.
        n_steps: Steps of the attack.
        lr: Step size of the attack.
        seeds: Seed of each run.

    Raises:
        ValueError: If the class has fewer images.
    """
    own, others = ((split.train_y == class_) == is_own for is_own in (True, False))
    images, kept = own.nonzero()[:, 0], others.nonzero()[:, 0]
    if not 0 <= n_given <= len(images):
        raise ValueError(f"n_given={n_given}: class {class_} has {len(images)} training images")
    rows = [torch.cat([kept, _some(images, n_given, seed)]) for seed in seeds]
    return train_classifiers(
        mlp,
        weights,
        split.train_x,
        split.train_y,
        rows=rows,
        class_weights=torch.ones(len(weights), mlp.n_classes),
        kept_steps=[n_steps],
        lr=lr,
        seeds=seeds,
    )[0]


def _some(images: Int[Tensor, " image"], n: int, seed: int) -> Int[Tensor, " given"]:
    return images[torch.randperm(len(images), generator=generator(seed, "given"))[:n]]
