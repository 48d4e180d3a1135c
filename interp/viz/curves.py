"""Lines with interval bands: layer curves, training curves, dose and response, budgets.

A band is whatever interval the caller gives; say in the caption which one. Bands that overlap do
not show that two lines are equal: test their difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.viz import checks, direct_labels, theme

_DASHES = ("dash", "dashdot", "longdash", "longdashdot")
_MOST_LABELED = 8
"""Lines that are named at their ends; more get a legend."""
_MOST_MARKED = 24
"""Points of a line that are drawn as dots."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a figure, checked when it is made."""

    x: ArrayLike
    """Where the values stand, n of them."""
    y: ArrayLike
    """The values, n of them; NaN interrupts the line."""
    low: ArrayLike | None = None
    """Lower ends of the intervals, n of them (ends, not distances), or no band."""
    high: ArrayLike | None = None
    """Upper ends of the intervals, likewise."""
    dash: str | None = None
    """Dash style of plotly ("dash", "dot", ...); solid by default, dashed for controls."""
    emphasis: bool = False
    """Whether this is the line to look at: drawn thicker."""
    control: bool = False
    """Whether this is a control or baseline: drawn gray and dashed, below the others."""

    def __post_init__(self) -> None:
        """Make arrays of the fields and check that they belong together."""
        x = checks.numbers("x", self.x)
        y = checks.pair("y", self.y, "x", x)
        if np.isnan(x).any() or np.isnan(y).all():
            raise ValueError("a curve needs an x for each value and at least one y that is not NaN")
        ends = checks.interval("y", self.low, self.high, y)
        for name, array in zip(("x", "y", "low", "high"), (x, y, *(ends or ())), strict=False):
            object.__setattr__(self, name, array)

    def array(self, field: str) -> np.ndarray:
        """One of x, y, low and high as an array; low and high are y where there is no band."""
        values = getattr(self, field)
        return np.asarray(self.y if values is None else values, dtype=np.float64)


@dataclass(frozen=True)
class _Style:
    color: str
    dash: str
    width: float


def curves(
    lines: Mapping[str, Curve],
    *,
    title: str,
    x_title: str,
    y_title: str,
    references: Mapping[str, checks.Real] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    **layout: Any,
) -> go.Figure:
    """Lines in one plot, each named at its end (more than eight: in a legend).

    Args:
        lines: Name and data of each line.
        title: Says what is seen.
        x_title: Name of the x axis, with its unit.
        y_title: Name of the y axis, with its unit.
        references: Levels to compare with, such as {"chance": 0.5}, as thin dotted lines.
        log_x: Whether the x axis is logarithmic; then every x must be above 0.
        log_y: Whether the y axis is logarithmic; then every value must be above 0.
        **layout: For `Figure.update_layout`, applied last. The ranges of both axes are set, so
            that a logarithmic axis must be asked for by log_x or log_y.

    Raises:
        ValueError: If there are no lines, a reference has the name of a line, or a value on a
            logarithmic axis is not positive.
    """
    drawn = {**lines, **_levels(lines, references or {})}
    for field in (("x",) if log_x else ()) + (("y", "low", "high") if log_y else ()):
        _check_positive(drawn, field)
    styles = _styles(drawn)
    order = sorted(drawn, key=lambda name: (not drawn[name].control, drawn[name].emphasis))
    with_band = [name for name in order if drawn[name].low is not None]
    figure = go.Figure([_band(name, drawn[name], styles[name]) for name in with_band])
    for name in order:
        figure.add_trace(_line(name, drawn[name], styles[name], (x_title, y_title)))
        figure.data[-1].mode = _mode(drawn[name]) if name in lines else "lines"
    figure.update_layout(height=420)
    figure.update_xaxes(title_text=x_title, **_axis(drawn, ("x",), log=log_x))
    figure.update_yaxes(title_text=y_title, **_axis(drawn, ("y", "low", "high"), log=log_y))
    if not log_x and all(_counts_few(curve) for curve in lines.values()):
        figure.update_xaxes(dtick=1)
    if len(drawn) <= _MOST_LABELED:
        final = go.Figure(layout=figure.layout).update_layout(**layout).layout
        labels = [_label(name, drawn[name], styles[name]) for name in drawn]
        direct_labels.add(figure, labels, final)
    return theme.styled(figure, title=title, layout=layout)


def _levels(lines: Mapping[str, Curve], references: Mapping[str, checks.Real]) -> dict[str, Curve]:
    """Each reference as a dotted line over the whole x axis."""
    if not lines:
        raise ValueError("lines is empty; at least one curve is needed")
    if twice := sorted(set(references) & set(lines)):
        raise ValueError(f"references and lines share the names {twice!r}; names must differ")
    ends = [
        min(curve.array("x").min() for curve in lines.values()),
        max(curve.array("x").max() for curve in lines.values()),
    ]
    return {
        name: Curve(x=ends, y=[float(level), float(level)], dash="dot", control=True)
        for name, level in references.items()
    }


def _check_positive(lines: Mapping[str, Curve], field: str) -> None:
    """Raise if a value has no logarithm."""
    for name, curve in lines.items():
        smallest = np.nanmin(curve.array(field))
        if smallest <= 0:
            raise ValueError(
                f"a logarithmic axis needs values above 0, but {field} of {name!r} goes down to "
                f"{smallest:g}; leave such points out or use a linear axis"
            )


def _styles(lines: Mapping[str, Curve]) -> dict[str, _Style]:
    """Colors in order, gray for controls; beyond eight, the colors return with dashes."""
    styles, n_colored, n_controls = {}, 0, 0
    for name, curve in lines.items():
        width = 3.4 if curve.emphasis else 2.0
        if curve.control:
            dash = curve.dash or _DASHES[n_controls % len(_DASHES)]
            styles[name] = _Style(theme.CONTROL, dash, 1.2 if dash == "dot" else 1.8)
            n_controls += curve.dash is None
        else:
            rounds, color = divmod(n_colored, len(theme.COLORS))
            dash = curve.dash or ("solid", *_DASHES)[rounds % (len(_DASHES) + 1)]
            styles[name] = _Style(theme.COLORS[color], dash, width)
            n_colored += 1
    return styles


def _mode(curve: Curve) -> str:
    """Dots on short lines, to show where values were measured."""
    short = not curve.control and len(curve.array("x")) <= _MOST_MARKED
    return "lines+markers" if short else "lines"


def _counts_few(curve: Curve) -> bool:
    """Whether x counts something, such as layers, in a range where each can have its tick."""
    x = curve.array("x")
    return bool((x == np.round(x)).all() and np.ptp(x) <= 16)


def _band(name: str, curve: Curve, style: _Style) -> go.Scatter:
    """The area between both ends, where they are known."""
    low, high, x = curve.array("low"), curve.array("high"), curve.array("x")
    known = np.isfinite(low) & np.isfinite(high)
    return go.Scatter(
        x=np.concatenate([x[known], x[known][::-1]]),
        y=np.concatenate([high[known], low[known][::-1]]),
        fill="toself",
        fillcolor=theme.rgba(style.color, 0.15),
        line_width=0,
        mode="lines",
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
        name=theme.escaped(name),
    )


def _line(name: str, curve: Curve, style: _Style, titles: tuple[str, str]) -> go.Scatter:
    """The line itself, with hover text that gives the interval."""
    text = theme.escaped(name)
    hover = []
    for x, y, low, high in zip(*map(curve.array, ("x", "y", "low", "high")), strict=True):
        ends = f" [{low:.4g}, {high:.4g}]" if curve.low is not None else ""
        hover.append(f"<b>{text}</b><br>{titles[0]}: {x:g}<br>{titles[1]}: <b>{y:.4g}</b>{ends}")
    return go.Scatter(
        x=curve.array("x"),
        y=curve.array("y"),
        name=text,
        line={"color": style.color, "dash": style.dash, "width": style.width},
        marker={"size": 6 if curve.emphasis else 5},
        hovertext=hover,
        hoverinfo="text",
        legendgroup=name,
    )


def _label(name: str, curve: Curve, style: _Style) -> direct_labels.Label:
    """The name at the last value."""
    x, y = curve.array("x"), curve.array("y")
    at = np.flatnonzero(np.isfinite(y))[np.argmax(x[np.isfinite(y)])]
    color = theme.MUTED if curve.control else style.color
    return direct_labels.Label(
        text=name, x=float(x[at]), y=float(y[at]), color=color, bold=curve.emphasis
    )


def _axis(lines: Mapping[str, Curve], fields: tuple[str, ...], *, log: bool) -> dict[str, Any]:
    """Type and range of an axis; a fixed range, as else the labels would widen it."""
    values = np.concatenate([curve.array(field) for curve in lines.values() for field in fields])
    values = np.log10(values) if log else values
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 0.5
    ticks = theme.LOG_TICKS if log and high - low >= 2 else {}
    return {"type": "log" if log else "linear", "range": [low - margin, high + margin], **ticks}
