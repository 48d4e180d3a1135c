import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from probes.evaluation import auroc
from probes.metrics import (
    average_precision_values,
    brier_values,
    ece_values,
    evaluate,
    partial_auroc,
    reliability_curve,
    roc_curve,
    tpr_at_fpr,
)


def drawn(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    scores = np.round(y + rng.normal(size=n), 1)
    return y, scores, rng.integers(0, 4, size=(3, n)).astype(float) + np.eye(3, n)[:, ::-1] + 0.5


@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_weighted_metrics_are_those_of_sklearn(seed: int) -> None:
    y, scores, weights = drawn(seed)
    p = 1 / (1 + np.exp(-scores))
    for k, w in enumerate(weights):
        expected = sk.average_precision_score(y, scores, sample_weight=w)
        assert average_precision_values(y, scores, weights)[k] == pytest.approx(expected)
        expected = sk.roc_auc_score(y, scores, sample_weight=w, max_fpr=0.2)
        assert partial_auroc(0.2)(y, scores, weights)[k] == pytest.approx(expected)
        assert brier_values(y, p, weights)[k] == pytest.approx(
            sk.brier_score_loss(y, p, sample_weight=w)
        )


@given(st.integers(0, 500), st.sampled_from([0.01, 0.05, 0.3]))
@settings(max_examples=20, deadline=None)
def test_tpr_never_uses_a_threshold_above_the_target(seed: int, target: float) -> None:
    y, scores, _ = drawn(seed, 150)
    best = 0.0
    for t in np.r_[scores, np.inf]:
        if (scores[y == 0] >= t).mean() <= target:
            best = max(best, (scores[y == 1] >= t).mean())
    assert tpr_at_fpr(target)(y, scores, np.ones((1, 150)))[0] == pytest.approx(best)


def test_tpr_is_not_read_at_the_nearest_point() -> None:
    y = np.r_[np.zeros(30), np.ones(10)]
    scores = np.r_[5.0, np.zeros(29), 9.0, np.full(9, 3.0)]  # points: fpr 0 -> .1, fpr 1/30 -> 1
    assert tpr_at_fpr(0.03)(y, scores, np.ones((1, 40)))[0] == pytest.approx(0.1)


def test_calibration_error_is_that_of_the_bins() -> None:
    y = np.array([0, 1, 1, 1])
    p = np.array([0.12, 0.18, 0.95, 1.0])
    expected = 0.5 * abs(0.5 - 0.15) + 0.5 * abs(1 - 0.975)
    assert ece_values(y, p, np.ones((1, 4)))[0] == pytest.approx(expected)


def test_evaluation_has_every_metric_with_its_interval() -> None:
    y, scores, _ = drawn(0, 200)
    found = evaluate(y, scores, groups=np.arange(200) // 2, n_draws=200)
    frame = found.to_frame()
    assert len(frame) == 6
    assert (frame["low"] <= frame["value"] + 1e-9).all()
    assert found.auroc.value == auroc(y, scores).value
    assert found.n_positive + found.n_negative == 200
    with pytest.raises(ValueError, match=r"needed \[0, 1\]"):
        evaluate(y, scores, probabilities=scores)
    with pytest.raises(ValueError, match="needed a rate above 0"):
        evaluate(y, scores, target_fpr=0.0)


def test_curves_are_ready_to_draw() -> None:
    y, scores, _ = drawn(0, 200)
    curve = roc_curve(y, scores, estimate=auroc(y, scores, n_draws=50))
    assert curve.auroc == pytest.approx(sk.roc_auc_score(y, scores))
    p = 1 / (1 + np.exp(-scores))
    bins = reliability_curve(y, p, n_draws=50)
    assert np.sum(bins.counts) == 200
