"""Operationalization: what stands for a concept: vectors, a matrix, or an affine map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.affine import AffineMap, Map, conceptor, match_moments, nullspace
from steering.fitting import fit
from steering.methods import Method, mean_difference
from steering.reading import PairActivations
from steering.repe.identification import NeutralReading, Reading
from steering.rotation import fit_pseudo_rotation
from steering.spectral_editing import Feature, spectral_edit
from steering.statistics import auroc
from steering.vectors import SteeringVector


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """A map for each layer of a site."""

    maps: Mapping[int, Map]
    """The maps."""
    site: str = "resid_post"
    """Name of the site."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PositionDifferences:
    """A vector for each of the first positions."""

    difference: Tensor
    """Shape (pos, d_model)."""
    layer: int
    """Layer after whose block it is added."""


Concept = SteeringVector | Maps | PositionDifferences
"""What stands for a concept."""
Operationalization = Callable[[Reading], Concept]
"""From a reading to what stands for the concept."""


def as_vector(method: Method = mean_difference) -> Operationalization:
    """A vector for each layer that was read (for each head, at a site with heads)."""

    def operationalize(reading: Reading) -> Concept:
        return fit(_pairs(reading), method=method)

    return operationalize


def as_best_heads(n_heads: int) -> Operationalization:
    """ITI: the heads that tell the sides apart best, each with its mean shift in its own spread.

    The vector of a head is the unit mean difference times the standard deviation of all activations
    along it; other heads get zero. Heads are ranked by the AUROC of their activations along the
    mean difference, on the pairs that gave it.
    """

    def operationalize(reading: Reading) -> Concept:
        activations = _pairs(reading)
        vector = fit(activations)
        scores: dict[tuple[int, int], float] = {}
        values = {layer: torch.zeros_like(v) for layer, v in vector.values.items()}
        shifts: dict[tuple[int, int], Tensor] = {}
        for layer, rows in vector.values.items():
            positive, negative = activations.sides(layer)
            if positive.ndim != 3:
                raise ValueError("heads are chosen at a site with heads: read the site 'z'")
            for head, gap in enumerate(rows):
                unit = gap / gap.norm()
                along = positive[:, head] @ unit, negative[:, head] @ unit
                scores[layer, head] = auroc(along[0].numpy(), along[1].numpy())
                shifts[layer, head] = torch.cat(along).std() * unit
        for layer, head in sorted(scores, key=lambda key: -scores[key])[:n_heads]:
            values[layer][head] = shifts[layer, head]
        kept = {layer: v for layer, v in values.items() if bool(v.abs().sum() > 0)}
        return SteeringVector(values=kept, site=vector.site, origin=vector.origin)

    return operationalize


def as_map(
    fitting: Callable[[Tensor, Tensor], Map] = match_moments,
) -> Operationalization:
    """A map for each layer, fitted from negative (source) to positive (target) activations."""

    def operationalize(reading: Reading) -> Concept:
        activations = _pairs(reading)
        maps = {}
        for layer in activations.layers:
            positive, negative = activations.sides(layer)
            maps[layer] = fitting(negative, positive)
        return Maps(maps=maps, site=activations.positive.site)

    return operationalize


def as_conceptor(*, aperture: float = 10.0) -> Operationalization:
    """The soft projection on where the positive activations lie."""
    return as_map(lambda source, target: conceptor(target, aperture=aperture))


def as_nullspace(*, rank: int = 1) -> Operationalization:
    """The projection that removes the first directions of the differences, not centered."""

    def fitting(source: Tensor, target: Tensor) -> AffineMap:
        _, _, directions = torch.linalg.svd((target - source).double(), full_matrices=False)
        return nullspace(directions[:rank])

    return as_map(fitting)


def as_rotation(*, seed: int = 0) -> Operationalization:
    """HPR: the plane between the sides, and angles that depend on the activation."""
    return as_map(lambda source, target: fit_pseudo_rotation(target, source, hidden=32, seed=seed))


def as_spectral(*, keep: float = 0.99, feature: Feature | None = None) -> Operationalization:
    """SEA: what neutral texts share with positive ones, and what they do not with negative ones.

    Args:
        keep: Share of the squared covariance that decides how many directions are kept, or dropped.
        feature: Feature function; none for linear editing.
    """

    def operationalize(reading: Reading) -> Concept:
        if not isinstance(reading, NeutralReading):
            raise TypeError(
                f"a {type(reading).__name__} has no neutral side: use reading_with_neutral"
            )
        pairs, maps = reading.pairs, {}
        for layer in pairs.layers:
            neutral = reading.neutral.at(layer).matrix.float()
            maps[layer] = spectral_edit(neutral, *pairs.sides(layer), keep=keep, feature=feature)
        return Maps(maps=maps, site=pairs.positive.site)

    return operationalize


def as_found(layer: int | None = None) -> Operationalization:
    """What an optimization, a discovery or a reading of positions gave, as it is.

    Args:
        layer: Layer of a map or of position differences, which do not know it themselves.
    """

    def operationalize(reading: Reading) -> Concept:
        if isinstance(reading, SteeringVector):
            return reading
        if isinstance(reading, PairActivations | NeutralReading) or layer is None:
            raise TypeError(
                f"a {type(reading).__name__} is not found as it is: needed a vector, or a layer "
                "for a map or for differences of positions"
            )
        if isinstance(reading, AffineMap):
            return Maps(maps={layer: reading})
        return PositionDifferences(difference=reading, layer=layer)

    return operationalize


def _pairs(reading: Reading) -> PairActivations:
    if not isinstance(reading, PairActivations):
        raise TypeError(f"a {type(reading).__name__} has no sides: read the inputs of pairs")
    return reading
