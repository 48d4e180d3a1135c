"""Straight lines between two states of the same weights, and how far one is from the other.

An average of the weights on a path of training lies nearer to the start than the end of the path.
The plain interpolation at the same distance from the start tells whether the average is more than
a smaller step.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Weights = Sequence[Float[Tensor, "..."]]


@torch.no_grad()
def displacement(start: Weights, end: Weights) -> float:
    """Euclidean distance between two states, over all weights together.

    Examples:
        >>> displacement([torch.zeros(2)], [torch.tensor([3.0, 4.0])])
        5.0

    Raises:
        ValueError: If the states differ in number or shapes of tensors.
    """
    _check(start, end)
    pairs = zip(start, end, strict=True)
    return sum(float((b.float() - a.float()).norm()) ** 2 for a, b in pairs) ** 0.5


@torch.no_grad()
def interpolate(start: Weights, end: Weights, share: float) -> list[Tensor]:
    """The state at a share of the way: 0 is the start, 1 the end, beyond 1 an extrapolation.

    Raises:
        ValueError: If the states differ in number or shapes of tensors.
    """
    _check(start, end)
    return [torch.lerp(a.detach(), b.detach(), share) for a, b in zip(start, end, strict=True)]


def decay_for(share: float, n_steps: int) -> float:
    """Decay with which the start still has a share of a moving average after some steps.

    Args:
        share: In (0, 1).
        n_steps: Steps of training.

    Examples:
        >>> round(decay_for(0.5, 2), 4)
        0.7071

    Raises:
        ValueError: If the share is out of range or there is no step.
    """
    if not 0 < share < 1 or n_steps < 1:
        raise ValueError(
            f"share={share!r}, n_steps={n_steps!r}: needed 0 < share < 1, and 1 step or more"
        )
    return share ** (1 / n_steps)


def _check(start: Weights, end: Weights) -> None:
    shapes = [[tuple(tensor.shape) for tensor in state] for state in (start, end)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"states of {len(shapes[0])} and {len(shapes[1])} tensors, or of other shapes: needed "
            "two states of the same weights"
        )
