"""Methods of unlearning: which way to go at each step; how far is up to the budget.

A method has a number of steps and a direction, a gradient to be descended. Those that minimize a
loss are in `loss_methods`; those that are compositions of the parts in `transforms` are in
`gradient_methods`. Directions of the former pass through Adam, as their authors do.

What the numbers here do not show: authors tuned their methods with many trials on larger models.
Defaults are theirs where they carry over to any model, and plain otherwise.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from interp.training.loop import nll
from interp.training.unlearning.task import Task, of_step
from interp.training.unlearning.transforms import Gradients


@runtime_checkable
class Method(Protocol):
    """What `unlearn` asks of a method."""

    @property
    def n_steps(self) -> int:
        """Steps of a run."""
        ...

    def direction(self, task: Task, step: int) -> Gradients:
        """The gradient to descend at a step, of any length."""
        ...


def adam(
    gradients: Gradients, task: Task, *, beta_1: float = 0.9, beta_2: float = 0.999
) -> Gradients:
    """Adam's direction; its moments are kept in the task."""
    state = task.memory.setdefault("adam", {"step": 0, "mean": {}, "square": {}})
    state["step"] += 1
    found = {}
    for name, part in gradients.items():
        mean = state["mean"].setdefault(name, torch.zeros_like(part)).lerp_(part, 1 - beta_1)
        square = state["square"].setdefault(name, torch.zeros_like(part))
        square.lerp_(part.square(), 1 - beta_2)
        root = (square / (1 - beta_2 ** state["step"])).sqrt_().add_(1e-12)
        found[name] = mean / (1 - beta_1 ** state["step"]) / root
    return found


def retain_nll(task: Task, step: int) -> Tensor:
    """Loss of the answers to keep."""
    return nll(task.predict(of_step(task.retain, step)))


def is_mlp(name: str, weight: nn.Parameter) -> bool:
    """Whether a weight is a matrix of an MLP inside a block: what is trained by default."""
    return ".mlp." in name and weight.ndim == 2
