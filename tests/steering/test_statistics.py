"""Statistics against closed forms, scipy, and noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from steering.statistics import (
    auroc,
    bootstrap,
    d_prime,
    leave_one_out_r2,
    mean_estimate,
    slopes,
    spearman,
    trait_and_bias,
    trait_and_bias_estimates,
)


def test_d_prime_of_gaussians_is_the_closed_form() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(3.0, 1.0, 200_000), random.normal(1.0, 2.0, 200_000)
    assert d_prime(a, b) == pytest.approx(2 / np.sqrt((1 + 4) / 2), rel=0.01)
    assert auroc(a, b) == pytest.approx(stats.norm.cdf(2 / np.sqrt(5)), abs=0.005)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_auroc_and_spearman_are_those_of_the_libraries(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 6, 30), random.integers(1, 7, 20)
    labels = np.repeat([1, 0], [30, 20])
    assert auroc(a, b) == pytest.approx(roc_auc_score(labels, np.concatenate([a, b])))
    x, y = random.normal(size=12), random.integers(0, 4, 12)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_slopes_are_those_of_polyfit() -> None:
    random = np.random.default_rng(0)
    x, y = np.array([-1.5, -0.2, 0.0, 2.0]), random.normal(size=(7, 4))
    np.testing.assert_allclose(slopes(x, y), np.polyfit(x, y.T, 1)[0])
    with pytest.raises(ValueError, match="needs two different"):
        slopes(np.array([1.0, 1.0]), y[:, :2])


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for k in range(200):
        found = mean_estimate(random.normal(1.0, 1.0, 40), n_resamples=300, seed=k)
        hits += found.low <= 1.0 <= found.high
    assert 178 <= hits <= 199


def test_trait_and_bias_take_apart_what_they_put_together() -> None:
    answer = np.array([True, False, True, False])
    effects = 0.3 + np.where(answer, 1.0, -1.0) * 2.0
    assert trait_and_bias(effects, answer) == pytest.approx((0.3, 2.0))
    assert all(np.isnan(trait_and_bias(effects, np.ones(4, dtype=bool))))


def test_intervals_of_trait_and_bias_are_those_of_the_plain_bootstrap() -> None:
    random = np.random.default_rng(0)
    answer = random.random(12) < 0.5
    effects = random.normal(size=12) + answer
    found = trait_and_bias_estimates(effects, answer, n_resamples=50)
    for which, estimate in enumerate(found):
        plain = bootstrap(
            lambda e, a, which=which: trait_and_bias(e, a)[which], effects, answer, n_resamples=50
        )
        assert vars(estimate) == pytest.approx(vars(plain))
    assert np.isnan(trait_and_bias_estimates(effects, answer | True)[1].low)


def test_out_of_sample_r2_finds_a_line_and_gives_noise_nothing() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 1))
    assert leave_one_out_r2(x, 2 * x[:, 0] + 0.1 * random.normal(size=60)).low > 0.95
    assert leave_one_out_r2(x, random.normal(size=60)).value < 0.05
    with pytest.raises(ValueError, match="3 rows for 1 features: needed 4"):
        leave_one_out_r2(x[:3], x[:3, 0])


def test_bootstrap_refuses_columns_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        bootstrap(spearman, [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="an interval needs 2"):
        mean_estimate([1.0])
