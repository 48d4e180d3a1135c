import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from probes import auroc_difference, delong_test


def by_pairs(y: np.ndarray, scores: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Difference and standard error from the kernel of every pair, with covariances written out."""
    kernels = []
    for row in (scores, others):
        positive, negative = row[y == 1], row[y == 0]
        kernels.append(
            [[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive]
        )
    matrices = np.array(kernels)  # (score, positive, negative)
    over_positives, over_negatives = np.cov(matrices.mean(2)), np.cov(matrices.mean(1))
    S = over_positives / matrices.shape[1] + over_negatives / matrices.shape[2]
    means = matrices.mean((1, 2))
    return means[0] - means[1], np.sqrt(max(S[0, 0] + S[1, 1] - 2 * S[0, 1], 0))


@given(st.integers(6, 30), st.integers(0, 1000), st.integers(3, 40))
@settings(max_examples=25, deadline=None)
def test_midranks_give_what_all_pairs_give(n: int, seed: int, n_values: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[0, 0, 1, 1, rng.integers(0, 2, n - 4)])
    scores, others = rng.integers(0, n_values, size=(2, n)).astype(float)
    gap, error = by_pairs(y, scores, others)
    if error < 1e-12:
        return
    found = delong_test(y, scores, others)
    assert found.first == pytest.approx(roc_auc_score(y, scores))
    assert found.second == pytest.approx(roc_auc_score(y, others))
    assert found.difference.value == pytest.approx(gap, abs=1e-12)
    assert found.difference.standard_error == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * norm.cdf(-abs(gap) / error))


def planted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a score, and that score with more noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    scores = 1.5 * y + rng.normal(size=n)
    return y, scores, scores + 0.8 * rng.normal(size=n)


def test_bootstrap_of_independent_examples_agrees() -> None:
    y, scores, worse = planted(600)
    found, drawn = delong_test(y, scores, worse).difference, auroc_difference(y, scores, worse)
    assert found.value == pytest.approx(drawn.value)
    assert found.standard_error == pytest.approx(drawn.standard_error, rel=0.1)
    assert found.low == pytest.approx(drawn.low, abs=0.2 * found.standard_error)
    assert found.high == pytest.approx(drawn.high, abs=0.2 * found.standard_error)
    assert found.low > 0


def test_copies_of_examples_fool_it_and_not_the_bootstrap_over_groups() -> None:
    y, scores, worse = planted(100)
    groups = np.repeat(np.arange(100), 6)
    alone = delong_test(y, scores, worse).difference
    copied = (column[groups] for column in (y, scores, worse))
    y, scores, worse = copied
    assert delong_test(y, scores, worse).difference.standard_error < 0.5 * alone.standard_error
    clustered = auroc_difference(y, scores, worse, groups=groups)
    assert clustered.standard_error == pytest.approx(alone.standard_error, rel=0.15)


def test_scores_of_equal_worth_are_rejected_as_often_as_promised() -> None:
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = np.arange(80) % 2
        scores, others = y + rng.normal(size=(2, 80))
        p_values.append(delong_test(y, scores, others).p_value)
    rejected = int((np.array(p_values) < 0.05).sum())
    assert 2 <= rejected <= 20  # ten expected; 0.1 % of the binomial lies outside


def test_the_same_score_twice_does_not_differ() -> None:
    y, scores, _ = planted(40)
    found = delong_test(y, scores, 2 * scores + 1)
    assert found.p_value == 1
    assert (found.difference.low, found.difference.high) == (0, 0)
    swapped = delong_test(y, scores, -scores)
    assert swapped.second == pytest.approx(1 - swapped.first)


def test_too_few_examples_and_perfect_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="a class has 1 example"):
        delong_test(np.array([0, 0, 1]), np.arange(3.0), np.arange(3.0))
    y, scores = np.array([0, 0, 1, 1]), np.arange(4.0)
    with pytest.raises(ValueError, match="the AUROCs are 1 and 0: needed a score"):
        delong_test(y, scores, -scores)
