"""Text as colored tokens, flowing over lines like a page.

Each token is a bar of a horizontal bar chart with its text inside, so that hovering anywhere on it
works and the figure needs nothing but plotly. A color shows the score of a token in its context; it
does not show that the token caused anything.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.colors import sample_colorscale

from interp.viz import checks, text_flow, theme
from interp.viz.text_flow import COLUMNS, Piece

_CHARACTER, _LINE = 7.85, 27
"""Pixels that a monospaced character of 13 pixels takes, and a line."""


def token_strip(
    tokens: Sequence[str],
    scores: ArrayLike,
    *,
    title: str,
    value_name: str,
    diverging: bool = True,
    limits: tuple[checks.Real, checks.Real] | None = None,
    breaks: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    **layout: Any,
) -> go.Figure:
    """A text whose tokens have a background colored by their score.

    Lines break at words after about 90 characters and after newlines, which are shown as ↵. The
    scales are paler than those of heatmaps, and without `diverging` run from white to red, so that
    the text stays black on light.

    Args:
        tokens: Decoded text of each token, spaces included.
        scores: One for each token; tokens with NaN are drawn gray and without color.
        title: Says what is seen.
        value_name: Name of the scores, with their unit; titles the color bar.
        diverging: Whether the sign matters: red above 0, blue below, white at 0.
        limits: Scores at the ends of the color scale, as in `heatmap`.
        breaks: Positions of the tokens that begin a block, such as a turn, rising.
        labels: Text in the left margin at each break, such as the role.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If there are no tokens, or scores, breaks, labels or limits do not fit them.
    """
    values = checks.numbers("scores", scores)
    checks.fits("tokens", tokens, len(values), "scores", "positions")
    starts = _checked_breaks(breaks, labels, len(tokens))
    low, high = checks.color_range(values, limits, diverging=diverging)
    pieces = list(text_flow.flow(tokens, starts))
    scale = _pale_scale(diverging)
    figure = go.Figure(_bars(pieces, tokens, values, value_name))
    figure.update_traces(
        marker_color=[_color(values[piece.token], low, high, scale) for piece in pieces],
        insidetextfont_color=[
            theme.INK if np.isfinite(values[piece.token]) else theme.MUTED for piece in pieces
        ],
    )
    figure.add_trace(_key(low, high, scale, value_name))
    first_lines = {piece.token: piece.line for piece in reversed(pieces)}
    for start, label in zip(starts, labels or (), strict=False):
        figure.add_annotation(_margin_label(label, first_lines[start]))
    return _laid_out(figure, pieces, labels or (), title=title, layout=layout)


def _checked_breaks(
    breaks: Sequence[int] | None, labels: Sequence[str] | None, n_tokens: int
) -> tuple[int, ...]:
    """The breaks as positions in the text."""
    starts = tuple(breaks or ())
    if labels is not None and len(labels) != len(starts):
        raise ValueError(f"labels has {len(labels)} labels, but breaks has {len(starts)} positions")
    if list(starts) != sorted(set(starts)) or any(not 0 <= at < n_tokens for at in starts):
        raise ValueError(f"breaks must rise between 0 and {n_tokens - 1}, got {starts!r}")
    return starts


def _bars(
    pieces: Sequence[Piece], tokens: Sequence[str], values: np.ndarray, value_name: str
) -> go.Bar:
    """One bar for each piece, its text inside."""
    return go.Bar(
        base=[piece.column for piece in pieces],
        x=[piece.width for piece in pieces],
        y=[piece.line for piece in pieces],
        width=0.86,
        orientation="h",
        text=[theme.escaped(piece.text) for piece in pieces],
        textposition="inside",
        insidetextanchor="middle",
        insidetextfont={"family": theme.MONOSPACE, "size": 13},
        constraintext="none",
        textangle=0,
        cliponaxis=False,
        marker_line={"color": "white", "width": 1},
        customdata=[float(values[piece.token]) for piece in pieces],
        hovertext=[_hover(piece.token, tokens, values, value_name) for piece in pieces],
        hoverinfo="text",
        showlegend=False,
    )


def _hover(position: int, tokens: Sequence[str], values: np.ndarray, value_name: str) -> str:
    """Position, token and score of a token."""
    score = f"{values[position]:.4g}" if np.isfinite(values[position]) else "none"
    token = theme.escaped(theme.visible(tokens[position]))
    return f"position: {position}<br>token: <b>{token}</b><br>{value_name}: <b>{score}</b>"


def _pale_scale(diverging: bool) -> list[str]:
    """The diverging scale without its dark ends, or the upper half of that."""
    shares = np.linspace(0.2 if diverging else 0.5, 0.8, 13)
    return [str(color) for color in sample_colorscale(theme.DIVERGING, shares.tolist())]


def _color(score: float, low: float, high: float, scale: list[str]) -> str:
    """The color of a score (plotly would choose poor text colors if it saw the numbers)."""
    if not np.isfinite(score):
        return "white"
    return str(sample_colorscale(scale, [float(np.clip((score - low) / (high - low), 0, 1))])[0])


def _key(low: float, high: float, scale: list[str], value_name: str) -> go.Scatter:
    """A trace without points that carries the color bar, thin and below the text."""
    bar = {
        "orientation": "h",
        "len": 200,
        "lenmode": "pixels",
        "thickness": 9,
        "x": 0,
        "xanchor": "left",
        "xpad": 0,
        "y": 0,
        "yanchor": "top",
        "ypad": 14,
        "nticks": 5,
        "title": {"text": value_name, "side": "top"},
    }
    marker = {"cmin": low, "cmax": high, "color": [low], "colorscale": scale, "colorbar": bar}
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={**marker, "showscale": True},
        hoverinfo="skip",
        showlegend=False,
    )


def _margin_label(label: str, line: float) -> dict[str, Any]:
    """The name of a block, left of its first line."""
    return {
        "text": theme.escaped(theme.visible(label, space=" ")),
        "x": 0,
        "xref": "paper",
        "xanchor": "right",
        "xshift": -10,
        "y": line,
        "showarrow": False,
        "font": {"size": 12, "color": theme.MUTED},
    }


def _laid_out(
    figure: go.Figure,
    pieces: Sequence[Piece],
    labels: Sequence[str],
    *,
    title: str,
    layout: dict[str, Any],
) -> go.Figure:
    """The figure in a fixed size, in which a character of text fills one unit of the x axis."""
    n_lines = pieces[-1].line + 1
    left = 16 + (max((7 * len(label) for label in labels), default=0) + 10 if labels else 0)
    margin = {"l": left, "r": 24, "t": 64, "b": 66}
    figure.update_layout(
        width=round(COLUMNS * _CHARACTER) + margin["l"] + margin["r"],
        height=round(n_lines * _LINE) + margin["t"] + margin["b"],
        margin=margin,
        bargap=0,
        barmode="overlay",
        xaxis={"range": [0, COLUMNS], "visible": False, "fixedrange": True},
        yaxis={"range": [n_lines - 0.5, -0.5], "visible": False, "fixedrange": True},
    )
    return theme.styled(figure, title=title, layout=layout)
