import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from probes import Estimate, auroc, auroc_difference
from probes.evaluation import auroc_values, group_draws

sizes = st.integers(min_value=4, max_value=40)


@given(sizes, st.integers(min_value=0, max_value=1000))
@settings(max_examples=20, deadline=None)
def test_weighted_auroc_is_that_of_sklearn(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    scores = rng.integers(0, 6, n).astype(float)
    weights = rng.integers(1, 4, size=(3, n)).astype(float)
    expected = [roc_auc_score(y, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(auroc_values(y, scores, weights), expected)


def test_draws_take_whole_groups() -> None:
    groups = np.repeat(np.arange(10), 3)
    draws = group_draws(groups, n_draws=50)
    assert (draws.reshape(50, 10, 3) == draws.reshape(50, 10, 3)[..., :1]).all()
    assert (draws.reshape(50, 10, 3)[..., 0].sum(1) == 10).all()


def test_interval_is_wider_when_examples_of_a_group_are_copies() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    scores = y + rng.normal(size=60)
    y, scores, groups = (np.repeat(column, 5) for column in (y, scores, np.arange(60)))
    alone, clustered = auroc(y, scores), auroc(y, scores, groups=groups)
    assert clustered.high - clustered.low > 1.7 * (alone.high - alone.low)


def test_interval_covers_the_truth() -> None:
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.arange(100) % 2
        found = auroc(y, 1.0 * y + rng.normal(size=100), n_draws=300)
        hits += found.low <= 0.7602 <= found.high
    assert hits >= 52


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    scores = y + rng.normal(size=200)
    worse = scores + 0.8 * rng.normal(size=200)
    gain = auroc_difference(y, scores, worse)
    assert gain.value == pytest.approx(auroc(y, scores).value - auroc(y, worse).value)
    apart = auroc(y, scores).standard_error ** 2 + auroc(y, worse).standard_error ** 2
    assert gain.standard_error < apart**0.5
    assert auroc_difference(y, scores, scores) == Estimate(0.0, 0.0, 0.0, 0.0)


def test_one_class_and_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels has classes \[1.0\]"):
        auroc(np.ones(4), np.arange(4.0))
    with pytest.raises(ValueError, match="score 2 is not finite"):
        auroc(np.array([0, 1, 0]), np.array([0.0, 1.0, np.nan]))
