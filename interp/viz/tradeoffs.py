"""One measure against another with intervals on both axes: what is won and what it costs.

Each point has its own symbol in the legend (colors come again after eight), and points of equal x
stand side by side, so that they and their bars can be told apart; hovering tells the values. Points
that were measured elsewhere stand behind, small and gray, under the symbols of their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from interp.viz import checks, theme

_SYMBOLS = (
    "circle",
    "triangle-down",
    "triangle-up",
    "square",
    "diamond",
    "star",
    "cross",
    "x",
    "pentagon",
    "hexagon2",
)


_STEP = 0.012
"""Share of the width of all points by which those of equal x stand apart; of x if all are equal."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A pair of values, checked when it is made."""

    x: float
    """Value on the x axis."""
    y: float
    """Value on the y axis."""
    x_interval: tuple[float, float] | None = None
    """Ends of the interval of x (not distances), or no bar."""
    y_interval: tuple[float, float] | None = None
    """Ends of the interval of y, likewise."""
    control: bool = False
    """Whether this is a control or baseline: drawn gray and hollow."""

    def __post_init__(self) -> None:
        """Check that the intervals hold their values."""
        for name in ("x", "y"):
            ends: tuple[float, float] | None = getattr(self, f"{name}_interval")
            low, high = ends or (None, None)
            checks.interval(
                name,
                None if low is None else [low],
                None if high is None else [high],
                checks.numbers(name, [getattr(self, name)]),
            )


def tradeoff(
    points: Mapping[str, Point],
    *,
    title: str,
    x_title: str,
    y_title: str,
    behind: Mapping[str, Sequence[Point]] | None = None,
    behind_name: str = "others",
    joined: Sequence[str] = (),
    **layout: Any,
) -> go.Figure:
    """Points with their intervals, others behind them, and a line through some.

    Args:
        points: Name and values of each point, at most ten.
        title: Says what is seen.
        x_title: Name of the x axis, with its unit.
        y_title: Name of the y axis, with its unit.
        behind: Further points without intervals, under names of `points`, whose symbols they take.
        behind_name: What the legend calls them.
        joined: Names of points, in the order of a thin line through them, such as doses.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If there are no points or too many, or a name of `behind` or `joined` is none of
            theirs.
    """
    if not 1 <= len(points) <= len(_SYMBOLS):
        raise ValueError(f"needed 1 to {len(_SYMBOLS)} points, got {len(points)}")
    behind = behind or {}
    if unknown := sorted({*behind, *joined} - set(points)):
        raise ValueError(f"behind or joined names {unknown!r}, but points are {list(points)!r}")
    figure = go.Figure()
    symbols = dict(zip(points, _SYMBOLS, strict=False))
    for number, (name, some) in enumerate(behind.items()):
        figure.add_trace(_others(name, some, symbols[name], behind_name, (x_title, y_title)))
        figure.data[-1].showlegend = number == 0
    places = _side_by_side(points)
    if joined:
        figure.add_scatter(
            x=[places[name] for name in joined],
            y=[points[name].y for name in joined],
            mode="lines",
            line={"color": theme.MUTED, "dash": "dot", "width": 1.2},
            hoverinfo="skip",
            showlegend=False,
        )
    colors = iter(theme.COLORS * 2)
    for name, point in points.items():
        color = theme.CONTROL if point.control else next(colors)
        figure.add_trace(_bars(point, places[name], color))
        figure.data[-1].update(
            marker=_marker(symbols[name], color, hollow=point.control),
            hovertext=[_hover(name, point, (x_title, y_title))],
            name=theme.escaped(name),
        )
    figure.update_layout(height=480)
    figure.update_xaxes(title_text=x_title, showgrid=True)
    figure.update_yaxes(title_text=y_title)
    return theme.styled(figure, title=title, layout=layout)


def _side_by_side(points: Mapping[str, Point]) -> dict[str, float]:
    """Where on the x axis each point is drawn."""
    x = [one.x for one in points.values()]
    step = _STEP * ((max(x) - min(x)) or abs(x[0]) or 1.0)
    places = {}
    for name, point in points.items():
        equal = [other for other, one in points.items() if one.x == point.x]
        places[name] = point.x + step * (equal.index(name) - (len(equal) - 1) / 2)
    return places


def _others(
    name: str, points: Sequence[Point], symbol: str, legend: str, titles: tuple[str, str]
) -> go.Scatter:
    """Small gray points, which the legend calls all by one name."""
    return go.Scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        mode="markers",
        marker={"color": theme.rgba(theme.CONTROL, 0.6), "size": 7, "symbol": symbol},
        hovertext=[_hover(f"{name} ({legend})", point, titles) for point in points],
        hoverinfo="text",
        legendgroup=legend,
        legendrank=2000,
        name=theme.escaped(legend),
    )


def _bars(point: Point, place: float, color: str) -> go.Scatter:
    """A point with its bars, drawn at a place of the x axis."""
    trace = go.Scatter(x=[place], y=[point.y], mode="markers", hoverinfo="text")
    for axis, value, ends in (("x", place, point.x_interval), ("y", point.y, point.y_interval)):
        if ends:
            trace[f"error_{axis}"] = {
                "array": [ends[1] - value],
                "arrayminus": [value - ends[0]],
                "symmetric": False,
                "color": theme.rgba(color, 0.7),
                "thickness": 1.4,
                "width": 3,
            }
    return trace


def _marker(symbol: str, color: str, *, hollow: bool) -> dict[str, Any]:
    """The symbol of a point, those with spikes somewhat larger."""
    return {
        "color": "white" if hollow else color,
        "size": 13 if symbol.startswith(("triangle", "star")) else 10,
        "symbol": symbol,
        "line": {"color": color if hollow else "white", "width": 1.5},
    }


def _hover(name: str, point: Point, titles: tuple[str, str]) -> str:
    """Name, values and intervals."""
    lines = [f"<b>{theme.escaped(name)}</b>"]
    rows = zip(titles, (point.x, point.y), (point.x_interval, point.y_interval), strict=True)
    for title, value, ends in rows:
        interval = f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
        lines.append(f"{title}: <b>{value:.4g}</b>{interval}")
    return "<br>".join(lines)
