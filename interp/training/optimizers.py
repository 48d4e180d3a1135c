"""Optimizers as pure functions of one tensor, and schedules of the step size.

A state has shape (slot, parameter); slot 0 holds the parameters and the others what the optimizer
remembers. As a step is a function of state and gradient alone, derivatives pass through it, and
momentum is part of the chain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Schedule = Callable[[float], float]
"""From the share of training that is done, in [0, 1), to the factor of the step size."""


def constant(share: float) -> float:
    """The same step size throughout."""
    return 1.0


def linear_decay(share: float) -> float:
    """Falling to 0 in a straight line."""
    return 1.0 - share


def cosine_decay(share: float) -> float:
    """Falling to 0 along half a cosine."""
    return (1.0 + math.cos(math.pi * share)) / 2


@runtime_checkable
class Optimizer(Protocol):
    """A pure step."""

    @property
    def n_slots(self) -> int:
        """Rows of a state."""
        ...

    @property
    def l2(self) -> float:
        """Strength of the penalty l2/2 |theta|^2 whose gradient the step adds to the loss's."""
        ...

    def step(
        self,
        state: Float[Tensor, "slot parameter"],
        gradient: Float[Tensor, " parameter"],
        *,
        lr: float,
        count: int,
    ) -> Float[Tensor, "slot parameter"]:
        """The next state; `count` is 1 at the first step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Gradient descent on batches, with momentum as in torch.optim.SGD."""

    momentum: float = 0.0
    """Decay of the running sum of gradients."""
    weight_decay: float = 0.0
    """Strength of the L2 penalty."""

    @property
    def n_slots(self) -> int:
        """Parameters, and the running sum if there is momentum."""
        return 2 if self.momentum else 1

    @property
    def l2(self) -> float:
        """The weight decay, which here is a penalty."""
        return self.weight_decay

    def step(
        self,
        state: Float[Tensor, "slot parameter"],
        gradient: Float[Tensor, " parameter"],
        *,
        lr: float,
        count: int,
    ) -> Float[Tensor, "slot parameter"]:
        """The next state."""
        theta = state[0]
        change = gradient + self.weight_decay * theta if self.weight_decay else gradient
        if not self.momentum:
            return (theta - lr * change)[None]
        velocity = self.momentum * state[1] + change
        return torch.stack([theta - lr * velocity, velocity])


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay, as torch.optim.AdamW."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the two running means."""
    eps: float = 1e-8
    """Added to the root mean square; a larger one makes derivatives of training smoother."""
    weight_decay: float = 0.0
    """Share of the parameters that lr 1 would take away at a step."""

    @property
    def n_slots(self) -> int:
        """Parameters, mean of gradients, mean of squared gradients."""
        return 3

    @property
    def l2(self) -> float:
        """None: decoupled decay is no penalty on the loss."""
        return 0.0

    def step(
        self,
        state: Float[Tensor, "slot parameter"],
        gradient: Float[Tensor, " parameter"],
        *,
        lr: float,
        count: int,
    ) -> Float[Tensor, "slot parameter"]:
        """The next state."""
        first, second = self.betas
        mean = first * state[1] + (1 - first) * gradient
        square = second * state[2] + (1 - second) * gradient * gradient
        scaled = square / (1 - second**count)
        # The root has no derivative at 0, where a parameter without gradient stays.
        seen = scaled > 0
        root = torch.where(seen, torch.where(seen, scaled, 1.0).sqrt(), 0.0)
        change = mean / (1 - first**count) / (root + self.eps)
        theta = state[0] * (1 - lr * self.weight_decay) - lr * change
        return torch.stack([theta, mean, square])
