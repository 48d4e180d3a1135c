from typing import Any

import numpy as np
import pytest

from interp import viz

TITLES = {"title": "T", "x_title": "token", "y_title": "layer", "value_name": "effect (nats)"}


def heatmap(values: Any, x: Any = None, y: Any = None, **options: Any) -> Any:
    shape = np.shape(values)
    x = range(shape[1]) if x is None else x
    y = range(shape[0]) if y is None else y
    return viz.heatmap(values, x=x, y=y, **TITLES, **options)


def test_holds_values_and_labels() -> None:
    values = np.array([[1.0, -2.0, 0.5], [0.0, np.nan, 3.0]])
    figure = heatmap(values, x=["a", "b", "c"], y=np.arange(2))
    (trace,) = figure.data
    np.testing.assert_array_equal(trace.z, values)
    assert list(trace.x) == ["a", "b", "c"]
    assert list(trace.y) == ["0", "1"]
    assert (trace.zmin, trace.zmax) == (-2, 3)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "category"
    assert figure.layout.xaxis.title.text == "token"
    assert trace.colorbar.title.text == "effect (nats)"


def test_repeated_labels_get_their_position() -> None:
    (trace,) = heatmap(np.ones((1, 3)), x=["the", " cat", "the"]).data
    assert list(trace.x) == ["0:the", "1:·cat", "2:the"]


def test_labels_are_drawn_literally() -> None:
    (trace,) = heatmap(np.ones((1, 2)), x=["<s>", "&"]).data
    assert list(trace.x) == ["&lt;s&gt;", "&amp;"]


def test_diverging_colors_are_centered_on_zero() -> None:
    (trace,) = heatmap([[-1.0, 4.0]], diverging=True).data
    assert (trace.zmin, trace.zmid, trace.zmax) == (-4, 0, 4)


def test_diverging_limits_are_mirrored() -> None:
    (trace,) = heatmap([[-1.0, 4.0]], diverging=True, limits=(-3, 2)).data
    assert (trace.zmin, trace.zmax) == (-3, 3)


@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
def test_constant_values_have_a_scale(value: float) -> None:
    (trace,) = heatmap([[value, value]]).data
    assert trace.zmin < trace.zmax


def test_hover_names_column_row_value_and_details() -> None:
    (trace,) = heatmap([[1.0]], hover=[["<top> token"]]).data
    assert trace.hovertemplate == (
        "token: %{x}<br>layer: %{y}<br>effect (nats): <b>%{z:.4g}</b><br>%{customdata}"
        "<extra></extra>"
    )
    assert trace.customdata[0][0] == "&lt;top&gt; token"


def test_only_small_matrices_show_numbers() -> None:
    assert heatmap(np.ones((5, 5))).data[0].texttemplate == "%{z:.2f}"
    assert heatmap(np.ones((5, 50))).data[0].texttemplate is None


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[1.0, 2, 3]], {"x": ["a", "b"]}, "x has 2 labels, but values has 3 columns"),
        ([[1.0], [2]], {"y": ["a"]}, "y has 1 labels, but values has 2 rows"),
        ([1.0, 2], {"x": "ab", "y": "a"}, r"values must have 2 dimension\(s\), got shape \(2,\)"),
        (np.ones((0, 2)), {}, r"values is empty \(shape \(0, 2\)\)"),
        ([[np.inf]], {}, r"values has 1 infinite value\(s\)"),
        ([["a"]], {}, r"values must hold numbers, got \[\['a'\]\]"),
        ([[1.0]], {"limits": (1, 0)}, r"limits must be two finite numbers .* got \(1, 0\)"),
        ([[1.0]], {"hover": [["a", "b"]]}, r"hover has 1 rows of \[2\] texts, but .* \(1, 1\)"),
    ],
)
def test_bad_input_is_named(values: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heatmap(values, **options)
