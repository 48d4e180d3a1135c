"""Boards of a grid world: tiles, agent and boxes, with a plan as arrows over the squares.

An arrow stands where one of the four directions is more probable than none; the surer, the darker.
With the true plan given, arrows are green where they are right and vermilion where they are wrong,
and what the plan misses is a gray outline. `board` draws one board, `board_animation` many with a
slider: the plan over ticks of thinking, or the game over steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int

from interp.viz import checks, theme

_CELL = 46
"""Pixels of a square."""
_ANGLES = (0, 180, 270, 90)
"""Clockwise from up, for up, down, left and right."""
_FLOOR, _WALL, _BOX, _BOX_ON, _TARGET = "#f6f3ec", "#5b6270", "#c08a4e", "#8a5a22", "#b8860b"
_NAMES = ("up", "down", "left", "right")


@dataclass(frozen=True, kw_only=True)
class Board:
    """What is drawn on one board."""

    walls: Bool[np.ndarray, "height width"]
    """Squares that are wall; the border around the board is drawn anyway."""
    boxes: Bool[np.ndarray, "height width"]
    """Squares with a box."""
    targets: Bool[np.ndarray, "height width"]
    """Squares where boxes must go."""
    player: int
    """Square of the agent, counted row by row."""
    plan: Float[np.ndarray, "height width 5"] | None = None
    """Probability of never, up, down, left and right on every square."""
    truth: Int[np.ndarray, "height width"] | None = None
    """The true class of every square: 0 never, then the four directions."""

    def __post_init__(self) -> None:
        """Check that the parts have one size."""
        shapes = {self.walls.shape, self.boxes.shape, self.targets.shape}
        for part in (self.plan, self.truth):
            if part is not None:
                shapes.add(part.shape[:2])
        if len(shapes) != 1:
            raise ValueError(f"the parts of the board have shapes {sorted(shapes)}; one is needed")
        if not 0 <= self.player < self.walls.size:
            raise ValueError(f"player is {self.player}, but there are {self.walls.size} squares")


def board(position: Board, *, title: str, **layout: Any) -> go.Figure:
    """One board with its plan.

    Args:
        position: What is drawn.
        title: Says what is seen.
        **layout: For `Figure.update_layout`, applied last.
    """
    figure = go.Figure([*_ground(position), *_pieces(position)])
    return theme.styled(_framed(figure, position, 0), title=title, layout=layout)


def board_animation(
    positions: Sequence[Board],
    *,
    labels: Sequence[str],
    title: str,
    slider: str = "tick",
    milliseconds: int = 500,
    **layout: Any,
) -> go.Figure:
    """Boards one after the other, with a slider and a button that plays them.

    Args:
        positions: Boards with the same walls and targets.
        labels: Name of each board at the slider, each only once.
        title: Says what is seen.
        slider: What the names count.
        milliseconds: How long each board stands when played.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If there is no board, names do not fit, or walls and targets differ.
    """
    if not positions:
        raise ValueError("positions is empty; at least one board is needed")
    checks.fits("labels", labels, len(positions), "positions", "boards")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels must be unique, got {list(labels)!r}")
    first = positions[0]
    for number, position in enumerate(positions):
        if not (
            np.array_equal(position.walls, first.walls)
            and np.array_equal(position.targets, first.targets)
        ):
            raise ValueError(f"board {number} has other walls or targets than the first one")
    ground, moving = _ground(first), _pieces(first)
    figure = go.Figure([*ground, *moving])
    where = list(range(len(ground), len(ground) + len(moving)))
    figure.frames = [
        go.Frame(data=_pieces(position), traces=where, name=label)
        for position, label in zip(positions, labels, strict=True)
    ]
    figure.update_layout(**_controls(labels, slider, milliseconds))
    return theme.styled(_framed(figure, first, 90), title=title, layout=layout)


def _ground(position: Board) -> list[Any]:
    """Targets, which do not move."""
    rows, columns = np.nonzero(position.targets)
    style = {"symbol": "circle-open", "size": 0.42 * _CELL, "color": _TARGET, "line_width": 3}
    return [_marks(rows, columns, "target", style)]


def _pieces(position: Board) -> list[Any]:
    """Boxes, agent, missed squares and arrows: what moves."""
    rows, columns = np.nonzero(position.boxes)
    on = position.targets[rows, columns]
    boxes = {
        "symbol": "square",
        "size": 0.66 * _CELL,
        "color": np.where(on, _BOX_ON, _BOX).tolist(),
        "line": {"color": "#5c3d17", "width": 1.5},
    }
    row, column = divmod(position.player, position.walls.shape[1])
    agent = {
        "symbol": "circle",
        "size": 0.5 * _CELL,
        "color": theme.COLORS[0],
        "line": {"color": "white", "width": 2},
    }
    return [
        _marks(rows, columns, "box", boxes),
        _marks(np.array([row]), np.array([column]), "agent", agent),
        _missed(position),
        _arrows(position),
    ]


def _arrows(position: Board) -> go.Scatter:
    """The decoded plan."""
    if position.plan is None:
        return _marks(np.array([], int), np.array([], int), "plan", {})
    classes = position.plan.argmax(-1)
    rows, columns = np.nonzero(classes)
    chosen, sure = classes[rows, columns], position.plan[rows, columns, classes[rows, columns]]
    colors = [theme.COLORS[6]] * len(rows)
    if position.truth is not None:
        right = position.truth[rows, columns] == chosen
        colors = [theme.COLORS[2] if fits else theme.COLORS[1] for fits in right]
    style = {
        "symbol": "triangle-up",
        "angle": [_ANGLES[k - 1] for k in chosen],
        "size": 0.46 * _CELL,
        "color": colors,
        "opacity": np.clip(sure, 0.25, 1).tolist(),
        "line": {"color": "white", "width": 1},
    }
    hover = [
        f"row {row + 1}, column {column + 1}: <b>{_NAMES[k - 1]}</b> {share:.2f}"
        for row, column, k, share in zip(rows, columns, chosen, sure, strict=True)
    ]
    return _marks(rows, columns, "plan", style, hover)


def _missed(position: Board) -> go.Scatter:
    """Squares of the true plan where nothing was decoded."""
    if position.plan is None or position.truth is None:
        return _marks(np.array([], int), np.array([], int), "missed", {})
    rows, columns = np.nonzero((position.truth > 0) & (position.plan.argmax(-1) == 0))
    style = {
        "symbol": "triangle-up-open",
        "angle": [_ANGLES[k - 1] for k in position.truth[rows, columns]],
        "size": 0.46 * _CELL,
        "color": theme.CONTROL,
        "line_width": 1.5,
    }
    return _marks(rows, columns, "missed", style)


def _marks(
    rows: np.ndarray,
    columns: np.ndarray,
    name: str,
    marker: dict[str, Any],
    hover: list[str] | None = None,
) -> go.Scatter:
    """Markers on squares."""
    return go.Scatter(
        x=columns,
        y=rows,
        mode="markers",
        name=name,
        marker=marker,
        hovertext=hover or [name] * len(rows),
        hoverinfo="text",
        showlegend=False,
    )


def _framed(figure: go.Figure, position: Board, below: int) -> go.Figure:
    """Square cells, the first row on top, no axes."""
    height, width = position.walls.shape
    plain = {"visible": False, "fixedrange": True, "showgrid": False}
    figure.update_xaxes(**plain, range=[-1.5, width + 0.5], constrain="domain")
    figure.update_yaxes(**plain, range=[height + 0.5, -1.5], scaleanchor="x", constrain="domain")
    figure.update_layout(shapes=_tiles(position))
    return figure.update_layout(
        width=max(330, _CELL * (width + 2) + 40),
        height=_CELL * (height + 2) + 84 + below,
        margin={"l": 20, "r": 20, "b": 20 + below},
    )


def _tiles(position: Board) -> list[dict[str, Any]]:
    """A square for each cell of the board and of its border."""
    padded = np.pad(position.walls, 1, constant_values=True)
    return [
        {
            "type": "rect",
            "layer": "below",
            "x0": column - 1.48,
            "x1": column - 0.52,
            "y0": row - 1.48,
            "y1": row - 0.52,
            "fillcolor": _WALL if wall else _FLOOR,
            "line": {"width": 0},
        }
        for (row, column), wall in np.ndenumerate(padded)
    ]


def _controls(labels: Sequence[str], slider: str, milliseconds: int) -> dict[str, Any]:
    """A slider with a step for each frame, and buttons to play and to pause."""

    def options(duration: int) -> dict[str, Any]:
        return {
            "frame": {"duration": duration, "redraw": False},
            "mode": "immediate",
            "transition": {"duration": 0},
        }

    steps = [
        {"label": label, "method": "animate", "args": [[label], options(0)]} for label in labels
    ]
    play = {"label": "play", "method": "animate", "args": [None, options(milliseconds)]}
    pause = {"label": "pause", "method": "animate", "args": [[None], options(0)]}
    return {
        "sliders": [
            {
                "steps": steps,
                "currentvalue": {"prefix": f"{slider} "},
                "pad": {"t": 8, "l": 90},
                "y": 0,
            }
        ],
        "updatemenus": [
            {
                "type": "buttons",
                "buttons": [play, pause],
                "showactive": False,
                "x": 0,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"t": 20},
            }
        ],
    }
