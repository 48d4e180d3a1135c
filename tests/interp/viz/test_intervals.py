from typing import Any

import numpy as np
import pytest

from interp import viz


def bars(*arrays: Any, **options: Any) -> Any:
    return viz.bars(*arrays, title="T", x_title="AUROC", **options)


def test_rows_have_dots_intervals_and_numbers() -> None:
    figure = bars([0.9, 0.5], [0.8, 0.4], [0.95, 0.6], labels=["probe", "length"])
    (dots,) = figure.data
    assert list(dots.x) == [0.9, 0.5]
    assert list(dots.y) == [0, 1]
    np.testing.assert_allclose(dots.error_x.array, [0.05, 0.1])
    np.testing.assert_allclose(dots.error_x.arrayminus, [0.1, 0.1])
    assert list(figure.layout.yaxis.ticktext) == ["probe", "length"]
    assert [note.text for note in figure.layout.annotations] == [
        "0.900 [0.800, 0.950]",
        "0.500 [0.400, 0.600]",
    ]
    assert dots.hovertext[0] == "<b>probe</b><br>AUROC: <b>0.900 [0.800, 0.950]</b>"


def test_first_row_is_on_top() -> None:
    bottom, top = bars([1, 2], labels=["a", "b"]).layout.yaxis.range
    assert bottom > top


def test_controls_are_hollow_and_gray() -> None:
    methods, controls = bars([0.9, 0.5], labels=["a", "b"], controls=["b"]).data
    assert methods.marker.color == viz.COLORS[0]
    assert (controls.marker.color, controls.marker.line.color) == ("white", viz.CONTROL)
    assert list(controls.y) == [1]


def test_references_are_drawn_and_named() -> None:
    figure = bars([0.9], labels=["a"], references={"<chance>": 0.5})
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == 0.5
    assert figure.layout.annotations[-1].text == "&lt;chance&gt;"


def test_missing_and_negative_values_are_written_well() -> None:
    figure = bars([np.nan, -1200], labels=["<i>a</i>", "b"])
    assert [note.text for note in figure.layout.annotations] == ["–", "−1,200"]
    assert figure.layout.yaxis.ticktext[0] == "&lt;i&gt;a&lt;/i&gt;"


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (([1, 2],), {"labels": ["a"]}, "labels has 1 labels, but values has 2 rows"),
        (([1, 2],), {"labels": ["a", "a"]}, r"labels must be unique, got \['a', 'a'\]"),
        (([1],), {"labels": ["a"], "controls": ["b"]}, r"controls names \['b'\], but labels are"),
        (([1], [0]), {"labels": ["a"]}, "values has no high end"),
        (([1], [0], [0.5]), {"labels": ["a"]}, "ends, not distances"),
    ],
)
def test_bad_input_is_named(arrays: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bars(*arrays, **options)
