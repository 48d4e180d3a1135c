"""How well scores separate and how honest they are: ROC curves and calibration plots.

Both draw finished numbers; computing them, with intervals, is the caller's task. An AUROC does not
say how a threshold fares on other data, and calibration on one set says nothing about another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from interp.viz import checks, theme

_LEGEND = {"x": 1.02, "y": 1, "yanchor": "top"}


@dataclass(frozen=True, kw_only=True)
class RocCurve:
    """One ROC curve: rates at falling thresholds."""

    fpr: ArrayLike
    """False-positive rates, rising from 0 to 1, n of them."""
    tpr: ArrayLike
    """True-positive rates, rising likewise."""
    interval: tuple[checks.Real, checks.Real] | None = None
    """Interval of the AUROC, for the legend."""
    control: bool = False
    """Whether this is a control or baseline: drawn gray and dashed."""

    def __post_init__(self) -> None:
        """Make arrays of the rates and check them."""
        fpr = checks.shares("fpr", self.fpr)
        tpr = checks.pair("tpr", checks.shares("tpr", self.tpr), "fpr", fpr)
        for name, rates in (("fpr", fpr), ("tpr", tpr)):
            if np.isnan(rates).any() or (np.diff(rates) < 0).any():
                raise ValueError(f"{name} must rise without NaN; sort by falling threshold")
            object.__setattr__(self, name, rates)

    @property
    def auroc(self) -> float:
        """Area under the curve by the trapezoid rule."""
        return float(np.trapezoid(np.asarray(self.tpr), np.asarray(self.fpr)))


@dataclass(frozen=True, kw_only=True)
class ReliabilityCurve:
    """What a model claims and what happens, by bins."""

    predicted: ArrayLike
    """Mean predicted probability of each bin, n of them; NaN for empty bins."""
    observed: ArrayLike
    """Share of positives in each bin."""
    counts: ArrayLike
    """Examples in each bin."""
    low: ArrayLike | None = None
    """Lower ends of the intervals of `observed`, or none."""
    high: ArrayLike | None = None
    """Upper ends, likewise."""

    def __post_init__(self) -> None:
        """Make arrays of the fields and check that they belong together."""
        predicted = checks.shares("predicted", self.predicted)
        observed = checks.shares("observed", self.observed)
        checks.pair("observed", observed, "predicted", predicted)
        counts = checks.pair("counts", self.counts, "predicted", predicted)
        ends = checks.interval("observed", self.low, self.high, observed)
        names = ("predicted", "observed", "counts", "low", "high")
        for name, array in zip(names, (predicted, observed, counts, *(ends or ())), strict=False):
            object.__setattr__(self, name, array)


def roc(
    lines: Mapping[str, RocCurve | tuple[ArrayLike, ArrayLike]],
    *,
    title: str,
    log_fpr: bool = False,
    smallest_fpr: float = 1e-3,
    **layout: Any,
) -> go.Figure:
    """ROC curves with their AUROC in the legend and the diagonal of chance.

    Args:
        lines: Name and data of each curve; a tuple is (fpr, tpr).
        title: Says what is seen.
        log_fpr: Whether the false-positive rate is logarithmic, to see strict thresholds.
        smallest_fpr: Where a logarithmic axis begins; below 1/negatives there is nothing to see.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If there are no lines or smallest_fpr does not lie between 0 and 1.
    """
    if not lines:
        raise ValueError("lines is empty; at least one ROC curve is needed")
    if not 0 < smallest_fpr < 1:
        raise ValueError(f"smallest_fpr must lie between 0 and 1, got {smallest_fpr!r}")
    start = np.log10(smallest_fpr)
    diagonal = np.logspace(start, 0, 100) if log_fpr else np.array([0.0, 1.0])
    figure = go.Figure(_diagonal(diagonal))
    colors = iter(theme.COLORS * (1 + len(lines) // len(theme.COLORS)))
    seconds: list[str] = []
    for name, line in lines.items():
        curve = line if isinstance(line, RocCurve) else RocCurve(fpr=line[0], tpr=line[1])
        figure.add_trace(_roc_line(name, curve, theme.CONTROL if curve.control else next(colors)))
        seconds.append(_area(curve))
    figure.update_layout(width=_width([*lines, *seconds]), height=510, legend=_LEGEND)
    figure.update_xaxes(title_text="false-positive rate", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="true-positive rate", range=[-0.01, 1.01])
    if log_fpr:
        figure.update_xaxes(type="log", range=[start, 0.01], tickformat="~g", **theme.LOG_TICKS)
    else:
        figure.update_xaxes(constrain="domain", constraintoward="left", showgrid=True)
        figure.update_yaxes(scaleanchor="x", constrain="domain", constraintoward="top")
    return theme.styled(figure, title=title, layout=layout)


def reliability(
    lines: Mapping[str, ReliabilityCurve],
    *,
    title: str,
    **layout: Any,
) -> go.Figure:
    """Observed share of positives against predicted probability, above the counts of the bins.

    Args:
        lines: Name and data of each curve.
        title: Says what is seen.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If there are no lines or more than eight.
    """
    if not 0 < len(lines) <= len(theme.COLORS):
        raise ValueError(f"lines must have 1 to {len(theme.COLORS)} curves, got {len(lines)}")
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.76, 0.24], vertical_spacing=0.05
    )
    figure.add_trace(_diagonal(np.array([0.0, 1.0]), name="perfectly calibrated"), row=1, col=1)
    for place, (name, curve) in enumerate(lines.items()):
        color, width = theme.COLORS[place], min(0.6 / np.size(curve.counts), 0.06) / len(lines)
        figure.add_trace(_reliability_line(name, curve, color), row=1, col=1)
        figure.add_trace(_count_bars(name, curve, color), row=2, col=1)
        figure.data[-1].update(width=width, offset=(place - len(lines) / 2) * width)
    figure.update_layout(
        width=_width([*lines, "perfectly calibrated"]),
        height=560,
        barmode="overlay",
        legend=_LEGEND,
    )
    figure.update_xaxes(range=[-0.02, 1.02], tick0=0, dtick=0.2)
    figure.update_xaxes(title_text="predicted probability", row=2, col=1)
    figure.update_yaxes(title_text="observed share", range=[-0.02, 1.02], row=1, col=1)
    figure.update_yaxes(title_text="examples", rangemode="tozero", nticks=4, row=2, col=1)
    return theme.styled(figure, title=title, layout=layout)


def _width(texts: Iterable[str]) -> int:
    """Pixels of a square plot with these texts in its legend."""
    return round(510 + 6.5 * max(map(len, texts)))


def _diagonal(rates: np.ndarray, name: str = "chance") -> go.Scatter:
    """Where both axes are equal."""
    return go.Scatter(
        x=rates,
        y=rates,
        mode="lines",
        name=name,
        line={"color": theme.CONTROL, "dash": "dot", "width": 1.2},
        hoverinfo="skip",
        legendrank=2000,
    )


def _area(curve: RocCurve) -> str:
    """The AUROC and its interval as text."""
    ends = f" [{curve.interval[0]:.3f}, {curve.interval[1]:.3f}]" if curve.interval else ""
    return f"AUROC {curve.auroc:.3f}{ends}"


def _roc_line(name: str, curve: RocCurve, color: str) -> go.Scatter:
    """One curve; its name in the legend has a second line with the AUROC."""
    text = theme.escaped(name)
    muted = f'<span style="color:{theme.MUTED}">{_area(curve)}</span>'
    points = zip(np.asarray(curve.fpr), np.asarray(curve.tpr), strict=True)
    return go.Scatter(
        x=curve.fpr,
        y=curve.tpr,
        mode="lines",
        name=f"{text}<br>{muted}",
        line={
            "color": color,
            "dash": "dash" if curve.control else "solid",
            "width": 1.8 if curve.control else 2.4,
        },
        hovertext=[
            f"<b>{text}</b><br>false-positive rate: {fpr:.4g}"
            f"<br>true-positive rate: <b>{tpr:.4g}</b>"
            for fpr, tpr in points
        ],
        hoverinfo="text",
    )


def _reliability_line(name: str, curve: ReliabilityCurve, color: str) -> go.Scatter:
    """One calibration curve with its intervals."""
    text = theme.escaped(name)
    predicted, observed, counts = map(np.asarray, (curve.predicted, curve.observed, curve.counts))
    error = None
    if curve.low is not None and curve.high is not None:
        error = {
            "array": np.asarray(curve.high) - observed,
            "arrayminus": observed - np.asarray(curve.low),
            "symmetric": False,
            "thickness": 1.4,
            "width": 0,
        }
    return go.Scatter(
        x=predicted,
        y=observed,
        error_y=error,
        mode="lines+markers",
        connectgaps=True,
        name=text,
        legendgroup=name,
        line={"color": color, "width": 2},
        marker={"size": 7},
        hovertext=[
            f"<b>{text}</b><br>predicted: {claim:.3f}<br>observed: <b>{share:.3f}</b>"
            f"<br>examples: {count:g}"
            for claim, share, count in zip(predicted, observed, counts, strict=True)
        ],
        hoverinfo="text",
    )


def _count_bars(name: str, curve: ReliabilityCurve, color: str) -> go.Bar:
    """The counts, at the bins' mean predictions."""
    counts = np.asarray(curve.counts)
    return go.Bar(
        x=curve.predicted,
        y=counts,
        marker={"color": theme.rgba(color, 0.55), "line_width": 0},
        name=theme.escaped(name),
        legendgroup=name,
        showlegend=False,
        hovertext=[f"<b>{theme.escaped(name)}</b><br>examples: {count:g}" for count in counts],
        hoverinfo="text",
    )
