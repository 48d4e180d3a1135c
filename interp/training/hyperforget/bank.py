"""The run bank: classifiers that know or ignore a class, with the losses that they have.

All runs begin from the same weights and differ by the class that counts less, by how much less it
counts, and by their batches. Common first weights are what makes the bank small enough: hidden
units keep their places, and classifiers lie in one region of the space of weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.core.seeds import derive
from interp.training.hyperforget.classifiers import Mlp, train_classifiers

_GOLDEN = 0.618034
"""Multiples of it, modulo 1, spread evenly however many there are."""
_LEAST_LOSS = 0.01
"""Nats, added under the logarithm."""
Prompt = Callable[[Tensor], Tensor]
"""From losses by class (example, class) to the numbers that a hypernetwork is asked for."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Labeled images as rows, in two parts."""

    train_x: Float[Tensor, "train d_in"]
    """Images to train on."""
    train_y: Int[Tensor, " train"]
    """Their classes."""
    test_x: Float[Tensor, "test d_in"]
    """Images that no classifier is trained on."""
    test_y: Int[Tensor, " test"]
    """Their classes."""


@dataclass(frozen=True, kw_only=True)
class RunBank:
    """Checkpoints of many runs."""

    mlp: Mlp
    """Shape of the classifiers."""
    weights: Float[Tensor, "checkpoint parameter"]
    """Their weights."""
    losses: Float[Tensor, "checkpoint n_classes"]
    """Mean loss on the training images of each class, in nats."""
    run: Int[Tensor, " checkpoint"]
    """Which run each comes from."""
    step: Int[Tensor, " checkpoint"]
    """After how many steps."""
    weak_class: Int[Tensor, " checkpoint"]
    """The class that counts less in its run."""
    weight: Float[Tensor, " checkpoint"]
    """How much that class counts; 0 where it is left out."""

    def __len__(self) -> int:
        """Number of checkpoints."""
        return len(self.weights)

    def __getitem__(self, rows: Tensor) -> "RunBank":
        """Some of the checkpoints."""
        fields = ("weights", "losses", "run", "step", "weak_class", "weight")
        return RunBank(mlp=self.mlp, **{name: getattr(self, name)[rows] for name in fields})

    def retrained(self, class_: int) -> "RunBank":
        """The ends of runs that never saw a class."""
        chosen = (self.weak_class == class_) & (self.weight == 0) & (self.step == self.step.max())
        return self[chosen]


def forget_and_retain(class_: int) -> Prompt:
    """The loss on one class, and the mean loss on the others."""

    def prompt(losses: Tensor) -> Tensor:
        others = [c for c in range(losses.shape[1]) if c != class_]
        return torch.stack([losses[:, class_], losses[:, others].mean(1)], 1)

    return prompt


def each_class(losses: Float[Tensor, "example n_classes"]) -> Float[Tensor, "example n_classes"]:
    """The loss on every class: which one is to be forgotten is said when sampling."""
    return losses


def log_losses(losses: Tensor) -> Tensor:
    """Logarithms of losses in nats, finite at 0."""
    return (losses + _LEAST_LOSS).log()


def train_bank(
    split: Split,
    *,
    mlp: Mlp,
    classes: Sequence[int],
    n_runs: int = 200,
    kept_steps: Sequence[int] = (20, 40, 60, 90, 130, 180, 240, 300, 400),
    seed: int = 0,
) -> RunBank:
    """Train runs in which one class counts less: in half of them not at all.

    Args:
        split: Images; those to test on are not used.
        mlp: Shape of the classifiers.
        classes: Classes that may count less, taken in turn.
        n_runs: Number of runs.
        kept_steps: Steps after which a checkpoint is kept.
        seed: Seed of first weights and batches.

    Raises:
        ValueError: If there are no classes, one is unknown or has no image, or there are no runs.
    """
    present = set(split.train_y.tolist())
    if n_runs < 1 or not classes or not set(classes) <= present:
        raise ValueError(
            f"n_runs={n_runs}, classes={list(classes)!r}: needed 1 or more, and some of the "
            f"classes of the images, {sorted(present)}"
        )
    weak = torch.tensor([classes[run % len(classes)] for run in range(n_runs)])
    turn = torch.arange(n_runs) // len(classes)
    # every other run of a class leaves it out; in the others its weight spreads over 2 decades
    spread = 10 ** (-2 * ((turn // 2) * _GOLDEN % 1))
    weight = torch.where(turn % 2 == 0, torch.zeros(()), spread)
    class_weights = torch.ones(n_runs, mlp.n_classes).scatter(1, weak[:, None], weight[:, None])
    everything = torch.arange(len(split.train_y))
    weights = train_classifiers(
        mlp,
        mlp.draw(seed).expand(n_runs, -1),
        split.train_x,
        split.train_y,
        rows=[everything] * n_runs,
        class_weights=class_weights,
        kept_steps=kept_steps,
        seeds=[derive(seed, "run", run) for run in range(n_runs)],
    )
    flat = weights.flatten(0, 1)  # checkpoints of all runs after the first kept step come first
    return RunBank(
        mlp=mlp,
        weights=flat,
        losses=mlp.class_losses(flat, split.train_x, split.train_y),
        run=torch.arange(n_runs).repeat(len(kept_steps)),
        step=torch.tensor(kept_steps).repeat_interleave(n_runs),
        weak_class=weak.repeat(len(kept_steps)),
        weight=weight.repeat(len(kept_steps)),
    )
