from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from interp import viz


def tradeoff(points: dict[str, viz.Point], **options: Any) -> Any:
    return viz.tradeoff(points, title="T", x_title="won", y_title="kept", **options)


ONE = viz.Point(x=0.5, y=0.8, x_interval=(0.4, 0.7), y_interval=(0.75, 0.9))
OTHER = viz.Point(x=0.9, y=0.2, control=True)


def test_points_have_bars_on_both_axes_and_say_what_they_are() -> None:
    figure = tradeoff({"<one>": ONE, "other": OTHER})
    one, other = figure.data
    np.testing.assert_allclose([*one.error_x.array, *one.error_x.arrayminus], [0.2, 0.1])
    np.testing.assert_allclose([*one.error_y.array, *one.error_y.arrayminus], [0.1, 0.05])
    assert one.name == "&lt;one&gt;"
    assert one.hovertext == (
        "<b>&lt;one&gt;</b><br>won: <b>0.5</b> [0.4, 0.7]<br>kept: <b>0.8</b> [0.75, 0.9]",
    )
    assert one.marker.symbol != other.marker.symbol
    assert (other.marker.color, other.marker.line.color) == ("white", viz.CONTROL)
    assert other.error_x.array is None
    assert go.Figure(figure.to_dict()) == figure


def test_points_of_equal_x_stand_side_by_side_and_their_bars_end_where_they_should() -> None:
    first, second, far = tradeoff({"a": ONE, "b": ONE, "c": OTHER}).data
    assert first.x[0] < 0.5 < second.x[0] < 0.52
    assert far.x[0] == 0.9
    for drawn in (first, second):
        assert drawn.x[0] - drawn.error_x.arrayminus[0] == pytest.approx(0.4)
        assert drawn.x[0] + drawn.error_x.array[0] == pytest.approx(0.7)


@pytest.mark.parametrize("x", [0.0, 0.5, -2000.0])
def test_points_stand_side_by_side_where_all_have_the_same_x(x: float) -> None:
    some = {name: viz.Point(x=x, y=0.1) for name in "abc"}
    first, middle, last = (trace.x[0] for trace in tradeoff(some).data)
    assert first < middle == x < last
    assert last - first < 0.05 * (abs(x) or 1)
    assert list(tradeoff({"a": some["a"]}).data[0].x) == [x]


def test_others_stand_behind_under_the_same_symbol_and_one_legend_entry() -> None:
    behind = {"b": [OTHER, ONE], "a": [ONE]}
    figure = tradeoff({"a": ONE, "b": OTHER}, behind=behind, behind_name="published")
    of_b, of_a, a, b = figure.data
    assert list(of_b.x) == [0.9, 0.5]
    assert (of_b.marker.symbol, of_a.marker.symbol) == (b.marker.symbol, a.marker.symbol)
    assert [one.showlegend for one in (of_b, of_a)] == [True, False]
    assert of_a.hovertext[0].startswith("<b>a (published)</b>")


def test_a_line_joins_points_in_the_given_order() -> None:
    line = tradeoff({"a": ONE, "b": OTHER}, joined=["b", "a"]).data[0]
    assert (list(line.x), list(line.y)) == ([0.9, 0.5], [0.2, 0.8])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"does not hold its center 0.5"):
        viz.Point(x=0.5, y=1.0, x_interval=(0.6, 0.7))
    with pytest.raises(ValueError, match="needed 1 to 10 points, got 0"):
        tradeoff({})
    with pytest.raises(ValueError, match=r"names \['c'\], but points are \['a'\]"):
        tradeoff({"a": ONE}, joined=["c"])
    with pytest.raises(ValueError, match=r"names \['d'\]"):
        tradeoff({"a": ONE}, behind={"d": [ONE]})
