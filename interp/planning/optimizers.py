"""Muon: momentum whose matrices are made orthogonal before each step.

Jordan et al. 2024; the scale that lets it share Adam's step size, and the decay of matrices, are
from Liu et al. 2025 (arXiv 2502.16982). Convolutions count as matrices of their output channels.
Vectors are left to Adam.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer


class Muon(Optimizer):
    """Orthogonalized momentum for matrices and convolutions, Adam for everything else.

    Args:
        params: Parameters of a model.
        lr: Step size, of the magnitude that Adam would use.
        momentum: Decay of the running mean of gradients.
        betas: Decays of Adam's two means.
        eps: Added to Adam's root mean square.
        weight_decay: Share of every matrix that is taken off at each step, for a step size of 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-5,
        weight_decay: float = 0.1,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Change every parameter that has a gradient; return what the closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                change = self._matrix if p.ndim >= 2 else self._vector
                update = change(p, p.grad, group)
                if p.ndim >= 2:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"])
        return loss

    def _matrix(self, p: Tensor, grad: Tensor, group: dict) -> Tensor:
        mean = self.state[p].setdefault("mean", torch.zeros_like(p))
        mean.lerp_(grad, 1 - group["momentum"])
        nesterov = grad.lerp(mean, group["momentum"]).flatten(1)
        return orthogonalize(nesterov) * 0.2 * max(nesterov.shape) ** 0.5

    def _vector(self, p: Tensor, grad: Tensor, group: dict) -> Tensor:
        state = self.state[p]
        if not state:
            state.update(count=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["count"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(grad, 1 - first)
        state["square"].lerp_(grad.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["count"])
        square = state["square"] / (1 - second ** state["count"])
        return mean / (square.sqrt() + group["eps"])


def orthogonalize(
    matrix: Float[Tensor, "out in"], *, iterations: int = 5
) -> Float[Tensor, "out in"]:
    """The matrix with all singular values near 1 (0.7 to 1.2), by Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
