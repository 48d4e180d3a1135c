"""Cells of a sweep: which component, at which tokens."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from interp.core.model import HookedModel
from interp.core.tokens import Span, Tokens


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place that is patched."""

    site: str
    """Name of the site."""
    layer: int
    """Layer, from 0."""
    column: int | None = None
    """Which of the sweep's columns (a token position, or a span); `None` for all tokens."""
    units: tuple[int, ...] | None = None
    """Heads of `z`, or neurons of `mlp_post`; `None` for all."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The position axis of a sweep."""

    labels: tuple[str, ...]
    """Name of each column: its token, or its span."""
    masks: tuple[Bool[np.ndarray, "_ _"], ...]
    """For each text, which of its tokens belong to each column."""


def columns_of(tokens: Tokens, spans: Mapping[str, Span] | None = None) -> Columns:
    """A column for each token, or for each span.

    Args:
        tokens: The texts of the run that is patched.
        spans: Spans by name, such as `{"country": Span(text="France")}` or
            `{"turn 1": Span(turn=1)}`. Without them texts must be of one length.

    Raises:
        ValueError: If texts differ in length and no spans are given, or a span picks no token.
    """
    offsets = tokens.offsets
    if spans is not None:
        tables = [tokens.mask(span) for span in spans.values()]
        bounds = list(itertools.pairwise(offsets))
        masks = tuple(
            np.array([table[a:b] for table in tables], bool).reshape(-1, b - a) for a, b in bounds
        )
        return Columns(labels=tuple(spans), masks=masks)
    lengths = sorted(set(tokens.lengths.tolist()))
    if len(lengths) > 1:
        raise ValueError(
            f"texts have {lengths[0]} to {lengths[-1]} tokens, so that a position is not the same "
            "place in each: needed texts of one length, or spans= that name the places"
        )
    strings = np.array(tokens.strings, dtype=object).reshape(len(tokens), lengths[0])
    labels = tuple(
        str(column[0]) if len(set(column)) == 1 else f"{column[0]}/…" for column in strings.T
    )
    return Columns(labels=labels, masks=(np.eye(lengths[0], dtype=bool),) * len(tokens))


def grid(
    model: HookedModel,
    site: str,
    *,
    layers: int | Sequence[int] | None = None,
    columns: Iterable[int | None] = (None,),
    units: Iterable[Sequence[int] | int | None] = (None,),
) -> tuple[Cell, ...]:
    """Every combination of layers, columns and units.

    Args:
        model: The model that is patched.
        site: Name of the site.
        layers: One layer or several, negative ones from the end; `None` for all.
        columns: Which columns; `None` among them stands for all tokens at once.
        units: Heads or neurons: a number for one, a sequence for several that are patched
            together, `None` for all together.

    Raises:
        HookNotFoundError: If the model lacks the site or a layer.
        ValueError: If units are named at a site that has none.
    """
    chosen = range(model.n_layers) if layers is None else layers
    chosen = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    found = [found.layer or 0 for found in model.sites.at(site, chosen)]
    columns, groups = tuple(columns), [_unit_group(group) for group in units]
    if site not in ("z", "mlp_post") and groups != [None]:
        raise ValueError(f"site {site!r} has no units: heads are at 'z', neurons at 'mlp_post'")
    return tuple(
        Cell(site=site, layer=layer, column=column, units=group)
        for layer in found
        for column in columns
        for group in groups
    )


def _unit_group(units: Sequence[int] | int | None) -> tuple[int, ...] | None:
    if units is None:
        return None
    return (units,) if isinstance(units, int) else tuple(units)
