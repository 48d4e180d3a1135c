from typing import Any

import numpy as np
import pytest

from interp import viz


def scatter(*arrays: Any, **options: Any) -> Any:
    return viz.scatter(*arrays, title="T", x_title="a", y_title="b", **options)


def test_each_pair_is_a_dot_with_its_label() -> None:
    figure = scatter([0.0, 1.0], [2.0, np.nan], labels=["<one>", "two"], named=["<one>"])
    (dots,) = figure.data
    assert list(dots.x) == [0.0, 1.0]
    assert dots.hovertext[0] == "<b>&lt;one&gt;</b><br>a: 0<br>b: 2"
    assert list(dots.text) == ["&lt;one&gt;", ""]
    assert list(dots.marker.color) == [viz.COLORS[1], viz.COLORS[0]]


def test_diagonal_spans_both_axes() -> None:
    (line,) = scatter([0.0, 1.0], [2.0, 3.0], labels=["a", "b"], diagonal=True).layout.shapes
    assert (line.x0, line.x1) == (line.y0, line.y1) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (([1, 2], [1]), {"labels": ["a", "b"]}, "y has 1 values, but x has 2"),
        (([1], [1]), {"labels": ["a", "b"]}, "labels has 2 labels, but x has 1 values"),
        (([1], [1]), {"labels": ["a"], "named": ["c"]}, r"named holds \['c'\]"),
    ],
)
def test_bad_input_is_named(arrays: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scatter(*arrays, **options)
