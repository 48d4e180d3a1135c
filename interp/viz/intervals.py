"""Tables of scores as dots with their intervals, one row each, the numbers beside them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from interp.viz import checks, theme


def bars(
    values: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    *,
    labels: Sequence[str],
    title: str,
    x_title: str,
    controls: Collection[str] = (),
    references: Mapping[str, checks.Real] | None = None,
    **layout: Any,
) -> go.Figure:
    """A row for each value, in the given order from the top: label, dot, interval, numbers.

    Args:
        values: Shape (n,); a row with NaN has no dot.
        low: Lower ends of the intervals (ends, not distances), or None.
        high: Upper ends, likewise.
        labels: Name of each row, each only once.
        title: Says what is seen.
        x_title: Name of the values, with their unit.
        controls: Labels of the rows that are controls or baselines: drawn gray and hollow.
        references: Levels to compare with, such as {"chance": 0.5}, as thin dotted lines.
        **layout: For `Figure.update_layout`, applied last.

    Raises:
        ValueError: If intervals or labels do not fit the values, a label comes twice, or a control
            is no label.
    """
    centers = checks.numbers("values", values)
    checks.fits("labels", labels, len(centers), "values", "rows")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels must be unique, got {list(labels)!r}")
    if unknown := sorted(set(controls) - set(labels)):
        raise ValueError(f"controls names {unknown!r}, but labels are {list(labels)!r}")
    ends = checks.interval("values", low, high, centers)
    numbers = [_number(index, centers, ends) for index in range(len(centers))]
    figure = go.Figure(_dots(centers, ends, labels, controls, (x_title, numbers)))
    for row, number in enumerate(numbers):
        figure.add_annotation(
            text=number,
            x=1,
            y=row,
            xref="paper",
            xanchor="left",
            xshift=10,
            showarrow=False,
            font={"size": 12, "color": theme.INK},
        )
    for name, level in (references or {}).items():
        figure.add_vline(
            level,
            line={"color": theme.CONTROL, "dash": "dot", "width": 1.2},
            annotation={"text": theme.escaped(name), "font": {"size": 11, "color": theme.MUTED}},
            annotation_position="top",
        )
    figure.update_layout(
        height=28 * len(centers) + 150,
        margin={"r": 7 * max(len(number) for number in numbers) + 24},
        showlegend=False,
    )
    figure.update_xaxes(title_text=x_title, showgrid=True)
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[theme.escaped(label) for label in labels],
        tickfont_color=theme.INK,
        range=[len(labels) - 0.4, -0.6],
        showline=False,
        ticks="",
    )
    return theme.styled(figure, title=title, layout=layout)


def _number(index: int, centers: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None) -> str:
    """A value and its interval as text."""
    if np.isnan(centers[index]):
        return "–"
    known = centers[np.isfinite(centers)]
    form = ".3f" if np.abs(known).max() < 100 else ",.0f"
    interval = f" [{ends[0][index]:{form}}, {ends[1][index]:{form}}]" if ends else ""
    return f"{centers[index]:{form}}{interval}".replace("-", "−")


def _dots(
    centers: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray] | None,
    labels: Sequence[str],
    controls: Collection[str],
    hover: tuple[str, Sequence[str]],
) -> list[go.Scatter]:
    """The rows of the methods and those of the controls, as far as there are any."""
    name, numbers = hover
    traces = []
    for is_control, color in ((False, theme.COLORS[0]), (True, theme.CONTROL)):
        rows = [row for row, label in enumerate(labels) if (label in controls) is is_control]
        if not rows:
            continue
        error = None
        if ends:
            error = {
                "array": (ends[1] - centers)[rows],
                "arrayminus": (centers - ends[0])[rows],
                "symmetric": False,
                "thickness": 2,
                "width": 0,
            }
        traces.append(
            go.Scatter(
                x=centers[rows],
                y=rows,
                error_x=error,
                mode="markers",
                marker={
                    "color": "white" if is_control else color,
                    "size": 9,
                    "line": {"color": color, "width": 2},
                },
                hovertext=[
                    f"<b>{theme.escaped(labels[row])}</b><br>{name}: <b>{numbers[row]}</b>"
                    for row in rows
                ],
                hoverinfo="text",
                name="controls" if is_control else "methods",
            )
        )
        if error:
            traces[-1].update(error_x_color=color)
    return traces
