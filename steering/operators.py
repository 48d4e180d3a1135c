"""Operators: what a vector does to the activations it meets.

Each is a function of the activations h, shape (batch, pos, *feature), a vector v of the shape of
the features (u is its direction, |v| its length) and a coefficient c; any function with these three
arguments is an operator.

| operator | h becomes | used by |
|---|---|---|
| `add` | h + c v | CAA (Rimsky et al. 2024, 2312.06681), ITI (Li et al. 2023, 2306.03341) |
| `add_keeping_norm` | (h + c v) with the length of h | ICV (Liu et al. 2024, 2311.06668) |
| `ablate` | h - c (h·u) u | refusal ablation (Arditi et al. 2024, 2406.11717) |
| `ablate_then_add` | h - (h·u) u + c v | the part along u is exactly c times that of v |
| `clamp` | the part along u is at least c times that of v | feature clamping |
| `amplify` | h + c (h·u) u | rescaling what is there |
| `rotate` | h turned towards u by c right angles, at most onto it, length kept | |
| `turn` | h turned towards u by c radians, and past it | HPR (Pham and Nguyen 2024, 2409.10053) |

At c = 0, `add`, `add_keeping_norm`, `ablate`, `amplify`, `rotate` and `turn` change nothing.
`ablate_then_add` and `clamp` set a value rather than shift it: c = 0 asks for a component of zero.
None of them says that the model *uses* the direction, or that h stays where the model was trained.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Coefficient = float | Tensor
"""A number, or a tensor that broadcasts against the activations: one for each example or token."""
Operator = Callable[[Tensor, Tensor, Coefficient], Tensor]
"""From activations, vector and coefficient to the new activations."""


def add(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Add the vector c times."""
    return value + coefficient * vector


def add_keeping_norm(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Add the vector c times and give the sum the length that the activation had."""
    moved = value + coefficient * vector
    norm = moved.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(value.dtype).tiny)
    return moved * (value.norm(dim=-1, keepdim=True) / norm)


def ablate(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Remove the share c of the component along the vector: all of it at 1, mirrored at 2."""
    direction = _unit(vector)
    return value - coefficient * _component(value, direction) * direction


def ablate_then_add(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Put c times the vector in place of the component along it."""
    direction = _unit(vector)
    return value - _component(value, direction) * direction + coefficient * vector


def clamp(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Raise the component along the vector to at least c |v|; leave it where it is larger."""
    direction = _unit(vector)
    lacking = coefficient * vector.norm(dim=-1, keepdim=True) - _component(value, direction)
    return value + torch.relu(lacking) * direction


def amplify(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Make the component along the vector 1 + c times as large."""
    return ablate(value, vector, -1.0 * coefficient)


def rotate(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    coefficient: Coefficient = 1.0,
) -> Float[Tensor, "*batch feature"]:
    """Turn the activation towards the vector by c right angles, at most onto it; length kept.

    A negative coefficient turns away from it, at most onto its opposite.
    """
    return _turned(value, vector, coefficient * (math.pi / 2), at_most=math.pi)


def turn(
    value: Float[Tensor, "*batch feature"],
    vector: Float[Tensor, "*head feature"],
    angle: Coefficient,
) -> Float[Tensor, "*batch feature"]:
    """Turn the activation towards the vector by an angle in radians, even past it; length kept."""
    return _turned(value, vector, angle, at_most=None)


def _turned(value: Tensor, vector: Tensor, by: Coefficient, *, at_most: float | None) -> Tensor:
    """A rotation in the plane of each activation and the vector, maybe stopped at the vector."""
    direction = _unit(vector)
    along = _component(value, direction)
    across = value - along * direction
    height = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(height, along) - by
    angle = angle if at_most is None else angle.clamp(0.0, at_most)
    length = torch.hypot(along, height)
    sideways = across / height.clamp(min=torch.finfo(value.dtype).tiny)
    return length * (angle.cos() * direction + angle.sin() * sideways)


def _unit(vector: Tensor) -> Tensor:
    """The direction of a vector; zero stays zero, so that it selects nothing."""
    return vector / vector.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(vector.dtype).tiny)


def _component(value: Tensor, direction: Tensor) -> Tensor:
    """Length of each activation along a unit vector, the last axis kept."""
    return (value * direction).sum(dim=-1, keepdim=True)
