"""Spectral editing of activations (SEA, Qiu et al. 2024, 2405.09719), linear and not.

From activations of the model's own texts (neutral) and of their positive and negative counterparts:
P keeps the directions along which neutral and positive activations covary most, N drops those along
which neutral and negative ones do. An activation becomes P h + N h at the length it had. With a
feature function f it becomes f'(P f(h)) + f'(N f(h)), where f' is the inverse of f.

The covariances are not centered, as in the paper's code; that code rescales each feature over the
tokens of a batch, which would let a token depend on later ones, so here each activation is. The
third feature function of the paper, the squared exponential, has no inverse (it forgets the sign)
and is left out. What covaries with both sides is kept by P and dropped by N: half of it stays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_EDGE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A function of single features with its inverse."""

    forward: Callable[[Tensor], Tensor]
    """The function."""
    inverse: Callable[[Tensor], Tensor]
    """Its inverse, on whatever a projection leaves: values outside its range are moved into it."""


def _inverse_elu(value: Tensor) -> Tensor:
    return torch.where(value >= 0, value, torch.log1p(value.clamp(min=_EDGE - 1, max=0)))


elu = Feature(forward=torch.nn.functional.elu, inverse=_inverse_elu)
"""x where it is positive, exp(x) - 1 elsewhere."""
tanh = Feature(
    forward=torch.tanh, inverse=lambda value: torch.atanh(value.clamp(_EDGE - 1, 1 - _EDGE))
)
"""Hyperbolic tangent; it flattens large features, so it is for activations of order 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralEdit:
    """The map of spectral editing."""

    positive: Float[Tensor, "feature feature"]
    """P: the projection on what neutral activations share with positive ones."""
    negative: Float[Tensor, "feature feature"]
    """N: the projection off what they share with negative ones."""
    feature: Feature | None = None
    """The feature function, none for linear editing."""

    def __call__(self, value: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The map on activations."""
        positive, negative = self.positive.to(value), self.negative.to(value)
        if self.feature is None:
            edited = value @ (positive + negative)
        else:
            inner = self.feature.forward(value)
            edited = self.feature.inverse(inner @ positive) + self.feature.inverse(inner @ negative)
        norm = edited.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(value.dtype).tiny)
        return edited * (value.norm(dim=-1, keepdim=True) / norm)


def spectral_edit(
    neutral: Float[Tensor, "n_neutral feature"],
    positive: Float[Tensor, "n_positive feature"],
    negative: Float[Tensor, "n_negative feature"],
    *,
    keep: float = 0.99,
    feature: Feature | None = None,
) -> SpectralEdit:
    """Fit spectral editing.

    Args:
        neutral: Activations of the model's own texts.
        positive: Activations of their positive counterparts, in the same order.
        negative: Activations of their negative counterparts, likewise.
        keep: Share of the squared covariance that the kept directions explain, and the dropped.
        feature: Feature function; none for linear editing.

    Raises:
        ValueError: If the three sets differ in size, or `keep` is no share.
    """
    if not len(neutral) == len(positive) == len(negative):
        raise ValueError(
            f"{len(neutral)} neutral, {len(positive)} positive and {len(negative)} negative rows: "
            "needed counterparts, as many of each"
        )
    if not 0 < keep < 1:
        raise ValueError(f"keep={keep}: needed a share between 0 and 1")
    through = torch.nn.Identity() if feature is None else feature.forward
    base, above, below = (through(rows.double()) for rows in (neutral, positive, negative))
    kept, _ = _split(base, above, keep)
    _, rest = _split(base, below, keep)
    return SpectralEdit(positive=kept.float(), negative=rest.float(), feature=feature)


def _split(a: Tensor, b: Tensor, keep: float) -> tuple[Tensor, Tensor]:
    """Projections on the directions of a along which it covaries most with b, and on the rest."""
    left, size, _ = torch.linalg.svd(a.mT @ b / len(a))
    explained = size.square().cumsum(0) / size.square().sum()
    n = int((explained < keep).sum()) + 1
    return left[:, :n] @ left[:, :n].mT, left[:, n:] @ left[:, n:].mT
