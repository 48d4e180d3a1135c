from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import viz
from interp.viz.direct_labels import spread


def curves(lines: Any, **options: Any) -> Any:
    return viz.curves(lines, title="T", x_title="layer", y_title="AUROC", **options)


def test_bands_lie_below_lines_and_controls_below_methods() -> None:
    lines = {
        "probe": viz.Curve(x=[0, 1], y=[0.5, 0.9], low=[0.4, 0.8], high=[0.6, 1], emphasis=True),
        "other": viz.Curve(x=[0, 1], y=[0.5, 0.8]),
        "shuffled": viz.Curve(x=[0, 1], y=[0.5, 0.5], control=True),
    }
    band, *drawn = curves(lines).data
    assert band.fill == "toself"
    assert list(band.x) == [0, 1, 1, 0]
    np.testing.assert_allclose(band.y, [0.6, 1, 0.8, 0.4])
    assert [trace.name for trace in drawn] == ["shuffled", "other", "probe"]
    control, other, probe = drawn
    assert (control.line.color, control.line.dash) == (viz.CONTROL, "dash")
    assert (probe.line.color, probe.line.dash) == (viz.COLORS[0], "solid")
    assert other.line.color == viz.COLORS[1]
    assert probe.line.width > other.line.width


def test_hover_names_line_layer_value_and_interval() -> None:
    lines = {"<a>": viz.Curve(x=[3], y=[0.5], low=[0.4], high=[0.6])}
    assert curves(lines).data[1].hovertext[0] == (
        "<b>&lt;a&gt;</b><br>layer: 3<br>AUROC: <b>0.5</b> [0.4, 0.6]"
    )


def test_lines_are_named_at_their_ends() -> None:
    lines = {
        "a": viz.Curve(x=[0, 5], y=[0, 1]),
        "b": viz.Curve(x=[0, 2, 5], y=[0, 3, np.nan]),
    }
    figure = curves(lines)
    ends = {note.text: (note.x, note.y) for note in figure.layout.annotations}
    assert ends == {"a": (5, 1), "b": (2, 3)}
    assert figure.layout.showlegend is False


def test_labels_stand_at_logarithms_on_logarithmic_axes() -> None:
    figure = curves({"a": viz.Curve(x=[1, 1000], y=[1, 100])}, log_x=True, log_y=True)
    (note,) = figure.layout.annotations
    assert (note.x, note.y) == pytest.approx((3, 2))
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert figure.layout.xaxis.range[1] > 3


def test_labels_that_would_overlap_move_apart() -> None:
    lines = {name: viz.Curve(x=[0, 1], y=[0, 1]) for name in "abc"} | {
        "d": viz.Curve(x=[0, 1], y=[0, 0])
    }
    shifts = [note.yshift for note in curves(lines).layout.annotations]
    assert np.diff(sorted(shifts[:3])) == pytest.approx([16, 16])
    assert shifts[3] == 0


def test_more_than_eight_lines_get_a_legend() -> None:
    lines = {f"{seed}": viz.Curve(x=[0, 1], y=[0, seed]) for seed in range(10)}
    figure = curves(lines)
    assert not figure.layout.annotations
    assert figure.layout.showlegend is not False
    looks = {(trace.line.color, trace.line.dash) for trace in figure.data}
    assert len(looks) == 10


def test_references_are_dotted_lines_over_the_whole_axis() -> None:
    reference, _ = curves({"a": viz.Curve(x=[2, 7], y=[0, 1])}, references={"chance": 0.5}).data
    assert (list(reference.x), list(reference.y)) == ([2, 7], [0.5, 0.5])
    assert (reference.name, reference.line.dash) == ("chance", "dot")


def test_gaps_leave_the_band_out() -> None:
    nan = np.nan
    lines = {"a": viz.Curve(x=[0, 1, 2], y=[1, nan, 3], low=[0, nan, 2], high=[2, nan, 4])}
    band, line = curves(lines).data
    assert len(band.x) == 4
    assert np.isnan(line.y[1])


def test_curves_keep_arrays() -> None:
    curve = viz.Curve(x=[0, 1], y=[1, 2])
    assert isinstance(curve.x, np.ndarray)
    np.testing.assert_array_equal(curve.array("low"), [1, 2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 300), min_size=1, max_size=8), st.floats(1, 40))
def test_spread_keeps_order_and_distance_and_the_mean(values: list[float], gap: float) -> None:
    positions = np.array(values)
    moved = spread(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-9).all()
    assert moved.mean() == pytest.approx(positions.mean())


def test_spread_leaves_alone_what_is_apart() -> None:
    np.testing.assert_allclose(spread(np.array([50.0, 0, 100]), 20.0), [50, 0, 100])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": [0], "y": [1, 2]}, "y has 2 values, but x has 1"),
        ({"x": [], "y": []}, "x is empty"),
        ({"x": [np.nan], "y": [1]}, "needs an x for each value"),
        ({"x": [0], "y": [np.nan]}, "at least one y that is not NaN"),
        ({"x": [0], "y": [1], "low": [0]}, "y has no high end: an interval needs low and high"),
        ({"x": [0], "y": [1], "high": [2]}, "y has no low end"),
        (
            {"x": [0], "y": [1], "low": [0.2], "high": [0.2]},
            r"interval of y at index 0 is \[0.2, 0.2\] and does not hold its center 1",
        ),
        ({"x": [0], "y": [1], "low": [0, 1], "high": [2]}, "low of y has 2 values, but its center"),
    ],
)
def test_bad_curves_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz.Curve(**options)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ({}, {}, "lines is empty"),
        ({"a": viz.Curve(x=[0], y=[1])}, {"log_x": True}, "x of 'a' goes down to 0"),
        ({"a": viz.Curve(x=[1], y=[-1])}, {"log_y": True}, "y of 'a' goes down to -1"),
        ({"a": viz.Curve(x=[1], y=[1])}, {"references": {"a": 0}}, r"share the names \['a'\]"),
    ],
)
def test_bad_lines_are_named(lines: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curves(lines, **options)
