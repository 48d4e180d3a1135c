"""Fitting: a steering vector at every layer from the activations of pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.tokens import Selection
from steering.contrast import Pairs
from steering.methods import Method, mean_difference
from steering.reading import PairActivations, extract_pairs
from steering.vectors import SteeringVector


def fit(
    activations: PairActivations,
    *,
    method: Method = mean_difference,
    layers: Sequence[int] | None = None,
) -> SteeringVector:
    """A vector for each layer.

    Args:
        activations: Both sides of the pairs.
        method: One of `steering.methods`, or any function of positive and negative activations;
            sites with heads are given to it head by head.
        layers: Layers; all that were read by default.

    Raises:
        ValueError: If the two sides do not differ at a layer.
    """
    values: dict[int, Tensor] = {}
    for layer in activations.layers if layers is None else layers:
        sides = activations.sides(layer)
        scale = float(torch.cat(sides).abs().max())
        if not bool((sides[0] - sides[1]).abs().max() > 1e-6 * scale):
            raise ValueError(
                f"positive and negative activations are equal at layer {layer}: the two sides of "
                "the pairs agree up to the tokens that are read"
            )
        values[layer] = _by_head(method, *sides)
    return SteeringVector(
        values=values,
        site=activations.positive.site,
        norms={layer: activations.norms[layer] for layer in values},
        origin=activations.positive.origin,
        provenance={
            "method": getattr(method, "__name__", repr(method)),
            "n_pairs": len(activations),
        },
    )


def fit_vector(
    model: HookedModel,
    pairs: Pairs,
    *,
    method: Method = mean_difference,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    read: Selection = "last",
    progress: bool = False,
) -> SteeringVector:
    """A vector for each layer, straight from pairs.

    Args:
        model: A language model.
        pairs: The pairs.
        method: How a vector is found, one of `steering.methods`.
        layers: One layer or several, negative ones from the end; `None` for all.
        site: Name of the site.
        read: Which tokens are read, as in `extract_pairs`.
        progress: Show a progress bar.

    Raises:
        ValueError: If the two sides do not differ, or a text cannot be read.
    """
    activations = extract_pairs(
        model, pairs, layers=layers, site=site, read=read, progress=progress
    )
    return fit(activations, method=method)


def _by_head(method: Method, positive: Tensor, negative: Tensor) -> Tensor:
    """The method on each head of a site that has heads, else on the whole."""
    if positive.ndim == 2:
        return method(positive, negative)
    heads = zip(positive.unbind(1), negative.unbind(1), strict=True)
    return torch.stack([method(a, b) for a, b in heads])
