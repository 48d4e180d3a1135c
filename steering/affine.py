"""Maps: edits that are a matrix and an offset, or any function, instead of a vector.

| fit | h becomes | paper |
|---|---|---|
| `match_moments` | mean and covariance of the target | MiMiC (Singh et al. 2024, 2402.09631) |
| `least_squares` | the partner of h in the target, shrunken to a shift | |
| `nullspace` | its part outside the span of some directions | INLP (Ravfogel et al. 2020) |
| `conceptor` | C h, a soft projection on where a class lies | Postmus and Abreu 2024, 2410.16314 |
| `spectral` | its part along what two sets share | SEA (Qiu et al. 2024, 2405.09719), one half |
| `low_rank` | h + R^T (W h + b - R h) | LoReFT (Wu et al. 2024, 2404.03592) |

A coefficient c moves c of the way: h + c (map(h) - h); 0 changes nothing, 1 is the map itself.
Matching moments of two classes moves *every* example, those of the target class too, unless a gate
is used; and d x d matrices need more examples than dimensions, or shrinkage decides the outcome.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.hooks import Call, Hookable
from interp.core.positions import PositionRule, check_rule
from steering.applying import State, chosen_tokens, watched
from steering.gating import Gate, JoinedGate

Map = Callable[[Tensor], Tensor]
"""From activations, shape (*batch, feature), to activations."""
Matrix = Float[Tensor, "example feature"]
Other = Float[Tensor, "other_example feature"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AffineMap:
    """h to M h + b."""

    matrix: Float[Tensor, "feature feature"]
    """M."""
    offset: Float[Tensor, " feature"]
    """b."""

    def __call__(self, value: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The map on activations."""
        return value @ self.matrix.to(value).mT + self.offset.to(value)


@dataclass(frozen=True, kw_only=True, eq=False)
class MapSteering:
    """Maps at some layers, as an intervention."""

    maps: Mapping[int, Map]
    """The map of each layer: an `AffineMap`, or any function of the activations."""
    site: str = "resid_post"
    """Name of the site."""
    coefficient: float = 1.0
    """How much of the way activations are moved."""
    positions: PositionRule = "all"
    """At which tokens it acts."""
    gate: Gate | JoinedGate | None = None
    """Which examples are steered; all of them without a gate."""

    def __post_init__(self) -> None:
        """Check that there is something to apply."""
        if not self.maps:
            raise ValueError("steering at no layer: needed at least one map")
        check_rule(self.positions)

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        """A context in which the model runs with these maps.

        Raises:
            HookNotFoundError: If the model lacks the site or a layer.
            ValueError: If the gate reads above a steered layer.
        """
        sites = model.hooks.sites.at(self.site, tuple(self.maps))
        with watched(model, self.gate, sites) as state:
            edits = [
                (site, partial(self._edit, which, state))
                for site, which in zip(sites, self.maps.values(), strict=True)
            ]
            with model.hooks.attached(edits=edits):
                yield

    def _edit(self, which: Map, state: State | None, value: Tensor, call: Call) -> Tensor:
        chosen = chosen_tokens(self.positions, state, value, call)
        changed = (value + self.coefficient * (which(value) - value)).to(value.dtype)
        return changed if chosen is None else torch.where(chosen[..., None], changed, value)


def match_moments(
    source: Matrix, target: Other, *, shrinkage: float = 1e-2, covariance: bool = True
) -> AffineMap:
    """The optimal transport between the two classes as if they were Gaussian.

    Args:
        source: Examples of the class that is moved.
        target: Examples of the class that it is moved to.
        shrinkage: Share of the mean variance that is mixed into both covariances.
        covariance: Match covariances too; without, it is the difference of means.
    """
    means = source.double().mean(0), target.double().mean(0)
    matrix = torch.eye(source.shape[1], dtype=torch.float64)
    if covariance:
        a, b = (_covariance(rows, shrinkage) for rows in (source, target))
        root, inverse = _power(a, 0.5), _power(a, -0.5)
        matrix = inverse @ _power(root @ b @ root, 0.5) @ inverse
    return _map(matrix, means[1] - matrix @ means[0])


def least_squares(source: Matrix, target: Other, *, shrinkage: float = 1.0) -> AffineMap:
    """The map that brings each row of one set closest to its partner in the other.

    What is fitted is the change from source to target, by ridge regression on the centered source,
    so that strong shrinkage leaves the difference of means and weak shrinkage least squares.

    Args:
        source: Activations that are moved.
        target: Where each of them should come to, row by row.
        shrinkage: Strength of the ridge, in units of the mean variance of the source times the
            number of rows.

    Raises:
        ValueError: If the two are no pairs.
    """
    if source.shape != target.shape:
        raise ValueError(f"shapes {tuple(source.shape)} and {tuple(target.shape)}: needed pairs")
    change, mean = (target - source).double(), source.double().mean(0)
    centered = source.double() - mean
    gram = centered @ centered.mT
    identity = torch.eye(len(gram), dtype=torch.float64)
    ridge = shrinkage * gram.diagonal().sum() / source.shape[1]
    weights = torch.linalg.solve(gram + ridge * identity, change - change.mean(0))
    matrix = (centered.mT @ weights).mT
    identity = torch.eye(source.shape[1], dtype=torch.float64)
    return _map(identity + matrix, change.mean(0) - matrix @ mean)


def nullspace(directions: Float[Tensor, "k feature"]) -> AffineMap:
    """The projection that removes the span of some directions.

    Raises:
        ValueError: If a direction is zero or depends on the others.
    """
    basis, triangle = torch.linalg.qr(directions.double().mT)
    if not bool((triangle.diagonal().abs() > 1e-6 * directions.double().norm()).all()):
        raise ValueError("directions are zero or linearly dependent: leave some out")
    identity = torch.eye(directions.shape[1], dtype=torch.float64)
    return _map(identity - basis @ basis.mT, torch.zeros(directions.shape[1]))


def conceptor(examples: Matrix, *, aperture: float = 10.0) -> AffineMap:
    """A soft projection R (R + aperture^-2)^-1 on the directions in which examples are large.

    Args:
        examples: Examples of the concept.
        aperture: Large values keep everything, small ones almost nothing, in units in which the
            examples' mean square in a direction is 1.
    """
    rows = examples.double()
    correlation = rows.mT @ rows / len(rows)
    correlation = correlation / correlation.diagonal().mean()
    identity = torch.eye(len(correlation), dtype=torch.float64)
    matrix = torch.linalg.solve(correlation + aperture**-2 * identity, correlation).mT
    return _map(matrix, torch.zeros(len(correlation)))


def spectral(neutral: Matrix, other: Matrix, *, keep: float = 0.99, most: bool = True) -> AffineMap:
    """The projection on the directions along which two sets of paired activations covary most.

    Spectral editing keeps what neutral activations share with positive ones, or drops what they
    share with negative ones.

    Args:
        neutral: Activations of the model's own texts.
        other: Activations of their positive, or negative, counterparts.
        keep: Share of the covariance that the kept directions (or the dropped ones) explain.
        most: Keep those directions (for positive counterparts), or drop them (for negative ones).
    """
    a, b = neutral.double() - neutral.double().mean(0), other.double() - other.double().mean(0)
    left, size, _ = torch.linalg.svd(a.mT @ b / len(a))
    explained = size.cumsum(0) / size.sum()
    n = int((explained < keep).sum()) + 1
    basis = left[:, :n] if most else left[:, n:]
    mean = neutral.double().mean(0)
    projection = basis @ basis.mT
    return _map(projection, mean - projection @ mean)


def low_rank(
    rotation: Float[Tensor, "k feature"],
    weight: Float[Tensor, "k feature"],
    bias: Float[Tensor, " k"],
) -> AffineMap:
    """LoReFT: h + R^T (W h + b - R h), where the rows of R are orthonormal.

    Raises:
        ValueError: If they are not.
    """
    gram = rotation @ rotation.mT
    if not torch.allclose(gram, torch.eye(len(gram)).to(gram), atol=1e-4):
        raise ValueError("the rows of rotation are not orthonormal")
    identity = torch.eye(rotation.shape[1]).to(rotation)
    return AffineMap(matrix=identity + rotation.mT @ (weight - rotation), offset=rotation.mT @ bias)


def _map(matrix: Tensor, offset: Tensor) -> AffineMap:
    return AffineMap(matrix=matrix.float(), offset=offset.float())


def _covariance(rows: Matrix, shrinkage: float) -> Tensor:
    centered = rows.double() - rows.double().mean(0)
    covariance = centered.mT @ centered / max(len(rows) - 1, 1)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    return (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * identity


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive matrix."""
    size, basis = torch.linalg.eigh(matrix)
    return basis @ torch.diag(size.clamp(min=1e-12) ** exponent) @ basis.mT
