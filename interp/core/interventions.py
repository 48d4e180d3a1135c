"""Interventions: add, ablate, replace and patch activations for the length of a `with` block.

Each function returns a value that says what changes where; nothing happens until
`intervention.applied(model)` or `model.intervene(first, second)` opens the block. Several of them
at one site act in the order in which they are given. Vectors that require gradients get them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.activations import Activations
from interp.core.directions import Direction
from interp.core.hooks import Call, Hookable
from interp.core.positions import PositionRule, check_rule, rows_of_texts, selected
from interp.core.sites import LAYER_SITES

Layers = int | Sequence[int]
Change = Callable[[Tensor, Call], Tensor]


@dataclass(frozen=True, kw_only=True)
class SiteEdit:
    """A change of the activations of one kind of site at some layers."""

    change: Change
    """From the value at the site, shape (batch, pos, *feature), to the new value."""
    layers: tuple[int, ...] | None
    """Layers at which it acts; negative ones count from the end; `None` outside the blocks."""
    site: str
    """Name of the site."""
    positions: PositionRule = "all"
    """At which tokens it acts."""

    def applied(self, model: Hookable) -> AbstractContextManager[None]:
        """A context in which the model runs with this change.

        Raises:
            HookNotFoundError: If the model lacks the site or the layer.
        """
        return model.hooks.attached(
            edits=[(site, self._edit) for site in model.hooks.sites.at(self.site, self.layers)]
        )

    def _edit(self, value: Tensor, call: Call) -> Tensor:
        chosen = selected(self.positions, call)
        changed = self.change(value, call).to(value.dtype)
        if changed.shape != value.shape:
            raise ValueError(
                f"the change at {call.site} gave shape {tuple(changed.shape)}: needed that of the "
                f"value, {tuple(value.shape)}"
            )
        if chosen is None:
            return changed
        return torch.where(chosen.reshape(*chosen.shape, *[1] * (value.ndim - 2)), changed, value)


def edit(
    change: Change,
    *,
    layers: Layers | None = None,
    site: str = "resid_post",
    positions: PositionRule = "all",
) -> SiteEdit:
    """Any change: the general form of the other interventions.

    Args:
        change: Function of the value, shape (batch, pos, *feature), and of the `Call`; it must
            return a new tensor of that shape.
        layers: One layer or several; left out for a site outside the blocks.
        site: Name of the site.
        positions: At which tokens the result is used.
    """
    if layers is None and site in LAYER_SITES:
        raise ValueError(f"layers is missing: it says at which {site} to act")
    which = (layers,) if isinstance(layers, int) else None if layers is None else tuple(layers)
    return SiteEdit(change=change, layers=which, site=site, positions=check_rule(positions))


def add(
    vector: Float[Tensor, "*feature"] | Direction,
    *,
    layers: Layers | None = None,
    site: str | None = None,
    coefficient: float = 1.0,
    positions: PositionRule = "all",
) -> SiteEdit:
    """Add a vector times a coefficient.

    Args:
        vector: What to add, of the width of the site; a `Direction` brings its own site.
        layers: One layer or several; may be left out for a `Direction`, and for a site outside
            the blocks.
        site: Name of the site, `resid_post` if nothing says otherwise.
        coefficient: Factor on the vector.
        positions: At which tokens to add it.
    """
    values, layers, site = _resolve(vector, layers, site)
    return edit(
        lambda value, call: value + coefficient * _like(values, value, call),
        layers=layers,
        site=site,
        positions=positions,
    )


def ablate(
    direction: Float[Tensor, "*k feature"] | Direction | None = None,
    *,
    mean: Float[Tensor, "*feature"] | None = None,
    layers: Layers | None = None,
    site: str | None = None,
    positions: PositionRule = "all",
) -> SiteEdit:
    """Remove what a site carries: all of it, or only its part along some directions.

    Args:
        direction: Remove only the component along this direction, or along the span of these
            (one a row; they need not be orthogonal). `None` removes everything.
        mean: What to put in place of what is removed: the mean activation. `None` puts zero.
        layers: One layer or several; may be left out for a `Direction`, and for a site outside
            the blocks.
        site: Name of the site, `resid_post` if nothing says otherwise.
        positions: At which tokens to ablate.

    Raises:
        ValueError: If the directions are zero or linearly dependent.
    """
    basis = None
    if direction is not None:
        values, layers, site = _resolve(direction, layers, site)
        basis = _orthonormal(torch.atleast_2d(values))

    def change(value: Tensor, call: Call) -> Tensor:
        target = torch.zeros_like(value)
        if mean is not None:
            target = _like(mean, value, call).expand_as(value)
        if basis is None:
            return target
        rows = torch.stack([_like(row, value, call) for row in basis])
        return value + (target - value) @ rows.mT @ rows

    return edit(change, layers=layers, site=site or "resid_post", positions=positions)


def replace(
    values: Float[Tensor, "*feature"],
    *,
    layers: Layers | None = None,
    site: str = "resid_post",
    positions: PositionRule = "all",
) -> SiteEdit:
    """Put given values in place of the activations.

    Args:
        values: One vector for every token, shape (*feature), or one for each text and position,
            shape (batch, pos, *feature), where `pos` counts from the start of each text.
        layers: One layer or several.
        site: Name of the site.
        positions: Which tokens are replaced; tokens beyond the values given stay as they are.
    """

    def change(value: Tensor, call: Call) -> Tensor:
        if values.ndim != value.ndim:
            return _like(values, value, call).expand_as(value)
        present = torch.ones(values.shape[:2], dtype=torch.bool)
        return _at_positions(values, present, value, call)

    return edit(change, layers=layers, site=site, positions=positions)


def patch(
    source: Activations,
    *,
    layers: Layers | None = None,
    site: str | None = None,
    positions: PositionRule = "all",
) -> SiteEdit:
    """Put activations from another run in place of this run's, position by position.

    Args:
        source: Token-level activations of as many examples as the run has texts, with every
            position from the first on (as `extract` gives them without pooling).
        layers: Layers to patch, of those that the source holds; all of them by default.
        site: Site to patch; may be left out if the source holds only one.
        positions: Which tokens are patched; tokens beyond the source's text stay as they are.
    """
    which = source.layers if layers is None else layers
    which = (which,) if isinstance(which, int) else tuple(which)
    site = source.site if site is None else site
    if source.tokens is not None and not source.tokens.whole:
        raise ValueError(
            "the source lacks some positions, so its rows do not tell where they belong: extract "
            "it with positions='all'"
        )
    tables = {layer: source.padded(layer=layer, site=site) for layer in which}

    def change(value: Tensor, call: Call) -> Tensor:
        return _at_positions(*tables[call.site.layer], value, call)  # pyright: ignore

    return edit(change, layers=which, site=site, positions=positions)


def _resolve(
    vector: Tensor | Direction, layers: Layers | None, site: str | None
) -> tuple[Tensor, Layers | None, str]:
    """Values, layers and site, from the arguments or from the direction itself."""
    if isinstance(vector, Direction):
        layers = vector.layer if layers is None else layers
        site, vector = site or vector.site, vector.vector
    return vector, layers, site or "resid_post"


def _like(vector: Tensor, value: Tensor, call: Call) -> Tensor:
    """The vector in the type of the value: one for all examples and, in a text, all tokens."""
    feature = value.shape[1 if call.positions is None else 2 :]
    if vector.shape != feature[-vector.ndim :]:
        raise ValueError(
            f"the vector has shape {tuple(vector.shape)}, but this site has {tuple(feature)}"
        )
    return vector.to(value.device, value.dtype)


def _orthonormal(rows: Float[Tensor, "k feature"]) -> Float[Tensor, "k feature"]:
    """An orthonormal basis of the span of the rows."""
    unit = rows.double() / rows.double().norm(dim=-1, keepdim=True)
    basis, triangle = torch.linalg.qr(unit.mT)
    size = triangle.diagonal().abs()
    if len(size) < len(rows) or not bool((size > 1e-6).all()):
        raise ValueError("direction is zero or linearly dependent: there is nothing to ablate")
    return basis.mT.to(rows.dtype)


def _at_positions(values: Tensor, present: Tensor, value: Tensor, call: Call) -> Tensor:
    """Values of each text at the positions of this pass; the old value where there is none."""
    if call.positions is None:  # no texts: the values are for the whole batch
        return values.to(value.device, value.dtype)
    if values.shape[2:] != value.shape[2:]:
        raise ValueError(
            f"values has features of shape {tuple(values.shape[2:])}, but this site has "
            f"{tuple(value.shape[2:])}"
        )
    width = values.shape[1]
    rows = rows_of_texts(len(values), call, "values")[:, None]
    columns = call.positions.clamp(max=width - 1)
    known = present.to(value.device)[rows, columns] & (call.positions < width)
    found = values.to(value.device, value.dtype)[rows, columns]
    return torch.where(known.reshape(*known.shape, *[1] * (value.ndim - 2)), found, value)
