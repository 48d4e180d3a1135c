"""The look of every figure: one template, eight colors, two scales, and how tokens are written.

The template is an object that each figure carries (`template=TEMPLATE`); nothing is registered with
plotly and no default changes. The eight categorical colors are those of Okabe and Ito (2008, "Color
Universal Design") with yellow and black, which make poor lines beside gray controls on white,
replaced by indigo and wine; a test holds every pair apart under simulated color blindness.
"""

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

Figure = go.Figure

COLORS: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#332288",
    "#882255",
)
"""Categorical colors in their order: blue, vermilion, green, pink, orange, sky, indigo, wine."""

CONTROL = "#8b919c"
"""Gray of controls and baselines, which never take a color from `COLORS`."""

DIVERGING = "RdBu_r"
"""Scale of signed values, always centered on 0: red is positive, blue is negative."""

SEQUENTIAL = "Viridis"
"""Scale of magnitudes: dark is low, bright is high."""

INK, MUTED, GRID, AXIS = "#1f2430", "#666d7a", "#eceef1", "#aab0bb"
LOG_TICKS = {"dtick": 1, "minor": {"ticks": "outside", "ticklen": 2, "tickcolor": AXIS}}
"""Of logarithmic axes over two decades or more: numbers at powers of ten only."""
FONT = 'Inter, "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif'
MONOSPACE = 'Menlo, "DejaVu Sans Mono", "Liberation Mono", "Courier New", monospace'

_AXIS_STYLE = {
    "automargin": True,
    "gridcolor": GRID,
    "linecolor": AXIS,
    "showline": True,
    "tickcolor": AXIS,
    "tickfont": {"size": 12, "color": MUTED},
    "ticklabelstandoff": 2,
    "ticklen": 4,
    "ticks": "outside",
    "title": {"font": {"size": 13, "color": INK}, "standoff": 12},
    "zeroline": False,
}
_COLORBAR_STYLE = {
    "outlinewidth": 0,
    "thickness": 10,
    "tickfont": {"size": 11, "color": MUTED},
    "ticklen": 3,
    "ticks": "outside",
    "tickcolor": AXIS,
    "title": {"font": {"size": 12, "color": INK}},
}

TEMPLATE = go.layout.Template(
    layout={
        "colorway": COLORS,
        "colorscale": {"diverging": DIVERGING, "sequential": SEQUENTIAL},
        "font": {"family": FONT, "size": 13, "color": INK},
        "hoverlabel": {
            "align": "left",
            "bgcolor": "white",
            "bordercolor": AXIS,
            "font": {"family": FONT, "size": 12, "color": INK},
        },
        "hovermode": "closest",
        "legend": {"font": {"size": 12}, "tracegroupgap": 2},
        "margin": {"l": 64, "r": 24, "t": 64, "b": 56},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "title": {
            "font": {"size": 16, "color": INK, "weight": 600},
            "pad": {"l": 12, "t": 16},
            "subtitle": {"font": {"size": 13, "color": MUTED}},
            "x": 0,
            "xanchor": "left",
            "xref": "container",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
        },
        "xaxis": _AXIS_STYLE | {"showgrid": False},
        "yaxis": _AXIS_STYLE,
    },
    data={
        "heatmap": [{"colorbar": _COLORBAR_STYLE}],
        "scatter": [{"marker": {"colorbar": _COLORBAR_STYLE}}],
    },
)
"""What every figure of the package carries; pass it on to figures of your own."""


def styled(figure: go.Figure, *, title: str, layout: Mapping[str, Any]) -> go.Figure:
    """The figure with template and title, and then with the caller's layout on top.

    Titles are broken into lines that fit a figure of 760 pixels (or of the caller's `width`).

    Args:
        figure: Changed in place and returned.
        title: Plotly markup such as `<i>` or `<br>` is kept.
        layout: Last word on everything, in the form of `Figure.update_layout`.
    """
    shape: Any = figure.layout
    width = layout.get("width") or shape.width or 760
    if "<" not in title:
        title = "<br>".join(textwrap.wrap(title, max(20, int((width - 30) / 8.6))))
    further = 21 * title.count("<br>")
    figure.update_layout(template=TEMPLATE, title_text=title)
    figure.update_layout(margin_t=64 + further, height=(shape.height or 420) + further)
    return figure.update_layout(**layout)


def rgba(color: str, alpha: float | int) -> str:
    """A hexadecimal color with an opacity, as plotly wants it.

    Args:
        color: Such as "#0072B2".
        alpha: From 0, transparent, to 1, opaque.

    Raises:
        ValueError: If color is not of the form "#rrggbb" or alpha is outside 0 to 1.

    Examples:
        >>> rgba("#0072B2", 0.2)
        'rgba(0, 114, 178, 0.2)'
    """
    if len(color) != 7 or color[0] != "#" or set(color[1:].lower()) - set("0123456789abcdef"):
        raise ValueError(f"color must look like '#0072B2', got {color!r}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def visible(token: str, space: str = "·") -> str:
    r"""A token with its whitespace and control characters made visible.

    Args:
        token: Decoded text of one token.
        space: What stands for a space.

    Examples:
        >>> visible(" the\n")
        '·the↵'
    """
    signs = {" ": space, "\n": "↵", "\t": "⇥"}
    return "".join(
        signs.get(char) or (char if char.isprintable() else char.encode("unicode_escape").decode())
        for char in token
    )


def position_labels(tokens: Sequence[str]) -> tuple[str, ...]:
    """Unique axis labels of a token sequence: the position, a colon, the visible token.

    Plotly merges equal categories, so that repeated tokens need their position.

    Args:
        tokens: Decoded text of each token, in order.

    Examples:
        >>> position_labels(["the", " cat", "the"])
        ('0:the', '1:·cat', '2:the')
    """
    return tuple(f"{position}:{visible(token)}" for position, token in enumerate(tokens))


def escaped(text: object) -> str:
    """Text that plotly draws literally, so that a token such as `<s>` is not taken for markup."""
    return html.escape(str(text), quote=False)
