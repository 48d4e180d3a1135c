"""Points of two quantities, each with a hover text: one value against another, example by example.

A cloud of points shows no uncertainty; draw values with intervals as `bars` or `curves`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.viz import checks, theme


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    *,
    labels: Sequence[str],
    title: str,
    x_title: str,
    y_title: str,
    named: Collection[str] = (),
    diagonal: bool = False,
    **layout: Any,
) -> go.Figure:
    """A dot for each pair of values; hovering shows its label.

    Args:
        x: Values on the x axis, n of them.
        y: Values on the y axis, likewise; a pair with NaN has no dot.
        labels: Name of each dot.
        title: Says what is seen.
        x_title: Name of the x axis, with its unit.
        y_title: Name of the y axis, with its unit.
        named: Labels that are also written beside their dots, which take another color.
        diagonal: Whether to draw where both values are equal.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If x, y and labels do not have the same length, or `named` holds no label.
    """
    across = checks.numbers("x", x)
    up = checks.pair("y", y, "x", across)
    checks.fits("labels", labels, len(across), "x", "values")
    if unknown := sorted(set(named) - set(labels)):
        raise ValueError(f"named holds {unknown!r}, which are no labels")
    colors = [theme.COLORS[1] if label in named else theme.COLORS[0] for label in labels]
    figure = go.Figure(
        go.Scatter(
            x=across,
            y=up,
            mode="markers+text",
            marker={"color": colors, "size": 7, "opacity": 0.75},
            text=[theme.escaped(label) if label in named else "" for label in labels],
            textposition="top center",
            textfont={"size": 11, "color": theme.INK},
            hovertext=[
                f"<b>{theme.escaped(label)}</b><br>{x_title}: {a:.4g}<br>{y_title}: {b:.4g}"
                for label, a, b in zip(labels, across, up, strict=True)
            ],
            hoverinfo="text",
            showlegend=False,
        )
    )
    if diagonal:
        ends = [float(min(across.min(), up.min())), float(max(across.max(), up.max()))]
        line = {"color": theme.CONTROL, "dash": "dot", "width": 1.2}
        figure.add_shape(
            type="line", x0=ends[0], y0=ends[0], x1=ends[1], y1=ends[1], line=line, layer="below"
        )
    figure.update_layout(height=460)
    figure.update_xaxes(title_text=x_title, showgrid=True)
    figure.update_yaxes(title_text=y_title)
    return theme.styled(figure, title=title, layout=layout)
