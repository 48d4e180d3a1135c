"""Names at the ends of lines, in the lines' colors, moved apart where they would overlap."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.viz import theme

_CHARACTERS = 30
"""Longest line of a label."""
_AROUND = 125
"""Pixels of a figure's height that are not the plot."""
_LINE, _CHARACTER = 16.0, 6.9
"""Pixels that a line of a label takes, and a character of it."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """A name and the end of the line that it names."""

    text: str
    """Literal text."""
    x: float
    """Where the line ends."""
    y: float
    """The value there."""
    color: str
    """Color of the line."""
    bold: bool = False
    """Whether the line is emphasized."""


def add(figure: go.Figure, labels: Sequence[Label], layout: go.Layout) -> None:
    """Write the labels right of their lines and make room for them in the right margin.

    Args:
        figure: Changed in place.
        labels: One for each line.
        layout: What the figure will have in the end: height, axis types and range of the y axis.
    """
    final: Any = layout
    log_x, log_y = final.xaxis.type == "log", final.yaxis.type == "log"
    bottom, top = final.yaxis.range
    height = final.height - _AROUND
    levels = np.array([np.log10(label.y) if log_y else label.y for label in labels])
    wrapped = [textwrap.wrap(label.text, _CHARACTERS) or [""] for label in labels]
    pixels = (levels - bottom) / (top - bottom or 1.0) * height
    targets = spread(pixels, _LINE * max(len(lines) for lines in wrapped))
    shifts = targets - pixels
    for label, lines, level, shift in zip(labels, wrapped, levels, shifts, strict=True):
        text = "<br>".join(theme.escaped(line) for line in lines)
        figure.add_annotation(
            text=f"<b>{text}</b>" if label.bold else text,
            x=np.log10(label.x) if log_x else label.x,
            y=level,
            xanchor="left",
            yanchor="middle",
            align="left",
            xshift=7,
            yshift=float(shift),
            showarrow=False,
            font={"size": 12, "color": label.color},
        )
    widest = max(len(line) for lines in wrapped for line in lines)
    figure.update_layout(showlegend=False, margin_r=round(widest * _CHARACTER) + 24)


def spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """The nearest positions (least squares) in the same order that are at least `gap` apart.

    Args:
        positions: Shape (n,), finite, in any order.
        gap: Smallest distance, in the same unit.

    Returns:
        Shape (n,). This is isotonic regression of the positions less their due distances.

    Examples:
        >>> spread(np.array([0.0, 1.0, 30.0]), 10.0)
        array([-4.5,  5.5, 30. ])
    """
    order = np.argsort(positions, kind="stable")
    due = gap * np.arange(len(positions))
    pools: list[tuple[float, int]] = []
    for value in positions[order] - due:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        pools.append((mean, count))
    result = np.empty(len(positions))
    result[order] = np.repeat([mean for mean, _ in pools], [count for _, count in pools]) + due
    return result
