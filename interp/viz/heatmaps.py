"""Heatmaps of labeled matrices: layer by position, train set by test set, head by layer.

A color says how large a value is, not how sure it is; draw values with intervals as `curves`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.viz import checks, theme

_MOST_COLUMNS, _MOST_CELLS = 14, 168
"""Largest matrix whose numbers are written into the cells."""


def heatmap(
    values: ArrayLike,
    *,
    x: Collection[object],
    y: Collection[object],
    title: str,
    x_title: str,
    y_title: str,
    value_name: str,
    diverging: bool = False,
    limits: tuple[checks.Real, checks.Real] | None = None,
    hover: Sequence[Sequence[str]] | np.ndarray | None = None,
    **layout: Any,
) -> go.Figure:
    """A matrix as colored cells, the first row at the bottom (layer 0 below layer 1).

    Small matrices carry their numbers in the cells. NaN cells stay white.

    Args:
        values: Shape (rows, columns), finite or NaN.
        x: Label of each column; repeated labels get their position, such as "3:the".
        y: Label of each row, likewise.
        title: Says what is seen.
        x_title: Name of the columns, with their unit.
        y_title: Name of the rows, with their unit.
        value_name: Name of the values, with their unit; titles the color bar.
        diverging: Whether the sign matters: red above 0, blue below, white at 0.
        limits: Values at the ends of the color scale; a diverging scale takes the farther one for
            both ends. By default those of the data.
        hover: Further text for each cell, same shape as values.
        **layout: For `Figure.update_layout`, applied last; `yaxis_autorange="reversed"` puts the
            first row at the top.

    Raises:
        ValueError: If values is not a matrix of numbers, or labels, hover or limits do not fit it.
    """
    matrix = checks.numbers("values", values, ndim=2)
    n_rows, n_columns = matrix.shape
    checks.fits("x", x, n_columns, "values", "columns")
    checks.fits("y", y, n_rows, "values", "rows")
    low, high = checks.color_range(matrix, limits, diverging=diverging)
    small = matrix.size <= _MOST_CELLS and n_columns <= _MOST_COLUMNS
    trace = go.Heatmap(
        z=matrix,
        x=_categories(x),
        y=_categories(y),
        zmin=low,
        zmax=high,
        zmid=0 if diverging else None,
        colorscale=theme.DIVERGING if diverging else theme.SEQUENTIAL,
        colorbar={"title": {"text": value_name, "side": "right"}},
        customdata=_details(hover, matrix.shape),
        hovertemplate=_hover_template(x_title, y_title, value_name, hover is not None),
        hoverongaps=False,
        texttemplate="%{z:.2f}" if small else None,
        textfont={"size": 11},
        xgap=1 if n_columns <= 100 else 0,
        ygap=1 if n_rows <= 50 else 0,
    )
    figure = go.Figure(trace)
    row = 34 if n_rows <= 8 else 21
    figure.update_layout(height=int(np.clip(150 + row * n_rows, 230, 780)))
    plain = {"type": "category", "showgrid": False, "showline": False, "ticks": ""}
    figure.update_xaxes(**plain, title_text=x_title, tickangle=_tick_angle(x))
    figure.update_yaxes(**plain, title_text=y_title)
    return theme.styled(figure, title=title, layout=layout)


def _categories(labels: Collection[object]) -> list[str]:
    """Labels as unique literal text."""
    texts = [label if isinstance(label, str) else f"{label}" for label in labels]
    unique = texts if len(set(texts)) == len(texts) else theme.position_labels(texts)
    return [theme.escaped(text) for text in unique]


def _tick_angle(labels: Collection[object]) -> int | None:
    """Slanted where level labels would run into each other (about 90 characters fit)."""
    n_characters = sum(len(str(label)) + 2 for label in labels)
    return -55 if n_characters > 90 and max(len(str(label)) for label in labels) > 3 else None


def _details(
    hover: Sequence[Sequence[str]] | np.ndarray | None, shape: tuple[int, ...]
) -> list[list[str]] | None:
    """Further hover text as literal text, one for each cell."""
    if hover is None:
        return None
    rows = [[theme.escaped(text) for text in row] for row in hover]
    lengths = {len(row) for row in rows}
    if len(rows) != shape[0] or lengths != {shape[1]}:
        raise ValueError(
            f"hover has {len(rows)} rows of {sorted(lengths)} texts, but values has shape {shape}"
        )
    return rows


def _hover_template(x_title: str, y_title: str, value_name: str, detailed: bool) -> str:
    """Column, row and value in that order, then the further text."""
    lines = [f"{x_title}: %{{x}}", f"{y_title}: %{{y}}", f"{value_name}: <b>%{{z:.4g}}</b>"]
    return "<br>".join([*lines, "%{customdata}"] if detailed else lines) + "<extra></extra>"
