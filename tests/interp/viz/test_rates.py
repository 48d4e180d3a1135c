from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from interp import viz


def roc(lines: Any, **options: Any) -> Any:
    return viz.roc(lines, title="T", **options)


def reliability(lines: Any) -> Any:
    return viz.reliability(lines, title="T")


def test_auroc_is_that_of_sklearn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    scores = generator.normal(labels, 1.5).round(1)
    fpr, tpr, _ = roc_curve(labels, scores)
    assert viz.RocCurve(fpr=fpr, tpr=tpr).auroc == pytest.approx(roc_auc_score(labels, scores))


def test_legend_has_name_auroc_and_interval() -> None:
    curve = viz.RocCurve(fpr=[0, 0, 1], tpr=[0, 1, 1], interval=(0.98, 1))
    chance, line = roc({"<a>": curve}).data
    assert line.name.startswith("&lt;a&gt;<br>")
    assert "AUROC 1.000 [0.980, 1.000]" in line.name
    assert list(chance.x) == list(chance.y) == [0, 1]
    assert line.hovertext[1] == (
        "<b>&lt;a&gt;</b><br>false-positive rate: 0<br>true-positive rate: <b>1</b>"
    )


def test_tuples_are_curves_and_controls_are_gray() -> None:
    control = viz.RocCurve(fpr=[0, 1], tpr=[0, 1], control=True)
    _, gray, line = roc({"length": control, "probe": ([0, 1], [0, 1])}).data
    assert (gray.line.color, gray.line.dash) == (viz.CONTROL, "dash")
    assert line.line.color == viz.COLORS[0]


def test_logarithmic_axis_begins_where_asked() -> None:
    figure = roc({"a": ([0, 1], [0, 1])}, log_fpr=True, smallest_fpr=0.01)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.range[0] == pytest.approx(-2)
    np.testing.assert_allclose(figure.data[0].x, figure.data[0].y)


@pytest.mark.parametrize(
    ("fpr", "tpr", "message"),
    [
        ([0, 1], [0, 0.5, 1], "tpr has 3 values, but fpr has 2"),
        ([0, 2], [0, 1], "fpr must lie between 0 and 1, got 2"),
        ([0, 0.5, 0.2], [0, 1, 1], "fpr must rise without NaN"),
        ([0, 1], [0, np.nan], "tpr must rise without NaN"),
    ],
)
def test_bad_roc_curves_are_named(fpr: Any, tpr: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc({"a": (fpr, tpr)})


def test_bad_roc_options_are_named() -> None:
    with pytest.raises(ValueError, match="lines is empty"):
        roc({})
    with pytest.raises(ValueError, match="smallest_fpr must lie between 0 and 1, got 0"):
        roc({"a": ([0, 1], [0, 1])}, smallest_fpr=0.0)


def test_reliability_shows_points_intervals_and_counts() -> None:
    curve = viz.ReliabilityCurve(
        predicted=[0.1, 0.9], observed=[0.2, 0.7], counts=[5, 9], low=[0.1, 0.6], high=[0.5, 0.8]
    )
    figure = reliability({"raw": curve})
    diagonal, line, bars = figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert (list(line.x), list(line.y)) == ([0.1, 0.9], [0.2, 0.7])
    np.testing.assert_allclose(line.error_y.array, [0.3, 0.1])
    np.testing.assert_allclose(line.error_y.arrayminus, [0.1, 0.1])
    assert list(bars.y) == [5, 9]
    assert line.hovertext[0] == (
        "<b>raw</b><br>predicted: 0.100<br>observed: <b>0.200</b><br>examples: 5"
    )
    assert figure.layout.xaxis2.title.text == "predicted probability"


def test_counts_of_several_curves_stand_side_by_side() -> None:
    curve = viz.ReliabilityCurve(predicted=[0.5], observed=[0.5], counts=[1])
    bars = [trace for trace in reliability({"a": curve, "b": curve}).data if trace.type == "bar"]
    assert bars[0].offset + bars[0].width == pytest.approx(bars[1].offset)


def test_bad_reliability_is_named() -> None:
    with pytest.raises(ValueError, match="counts has 1 values, but predicted has 2"):
        viz.ReliabilityCurve(predicted=[0, 1], observed=[0, 1], counts=[1])
    with pytest.raises(ValueError, match="lines must have 1 to 8 curves, got 0"):
        reliability({})
