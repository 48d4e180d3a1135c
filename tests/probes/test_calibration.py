import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from probes.calibration import calibrate, choose_threshold, rate


def logits(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that follow the logistic of 0.5 * score - 1."""
    rng = np.random.default_rng(seed)
    scores = 4 * rng.normal(size=n)
    return (rng.random(n) < expit(0.5 * scores - 1)).astype(int), scores


def test_platt_finds_slope_and_intercept() -> None:
    slope, intercept = calibrate(*logits()).x
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-1, abs=0.15)


def test_temperature_keeps_the_boundary() -> None:
    map_ = calibrate(*logits(), method="temperature")
    assert map_(np.zeros(1))[0] == 0.5
    assert 0.3 < map_.x[0] < 0.6


def test_isotonic_follows_the_frequencies() -> None:
    map_ = calibrate(*logits(), method="isotonic")
    at = np.linspace(-6, 6, 13)
    np.testing.assert_allclose(map_(at), expit(0.5 * at - 1), atol=0.1)
    assert (np.diff(map_(np.linspace(-20, 20, 99))) >= 0).all()


def test_unknown_method_is_refused() -> None:
    with pytest.raises((ValueError, TypeError), match="method"):
        calibrate(np.array([0, 1]), np.array([0.0, 1.0]), method="histogram")


@pytest.mark.parametrize("n", [40, 99, 250])
def test_expected_rate_on_fresh_negatives_keeps_the_target(n: int) -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        negatives = rng.normal(size=n)
        t = choose_threshold(np.zeros(n, int), negatives, target_fpr=0.05)
        rates.append(1 - expit(1.702 * t.value) if np.isfinite(t.value) else 0.0)
        assert t.realized_fpr <= 0.05
    exact = np.mean([float(r) for r in rates])
    assert exact < 0.06


def test_confidence_keeps_the_rate_in_most_draws() -> None:
    rng = np.random.default_rng(0)
    thresholds = [
        choose_threshold(
            np.zeros(300, int), rng.random(300), target_fpr=0.05, confidence=0.95
        ).value
        for _ in range(400)
    ]
    assert np.mean(1 - np.array(thresholds) > 0.05) <= 0.07


def test_too_few_negatives_give_no_threshold() -> None:
    t = choose_threshold(np.r_[np.zeros(20), np.ones(5)], np.arange(25.0), target_fpr=0.01)
    assert t.value == np.inf
    with pytest.raises(ValueError, match="needs negatives"):
        choose_threshold(np.ones(5, int), np.arange(5.0))


def test_realized_rates_come_with_exact_intervals() -> None:
    y, scores = logits(500)
    t = choose_threshold(y, scores, target_fpr=0.1)
    found = t.realized(y, scores)
    assert found["fpr"].value == t.realized_fpr <= 0.1
    k, n = int((scores[y == 1] > t.value).sum()), int((y == 1).sum())
    expected = binomtest(k, n).proportion_ci(method="exact")
    assert (found["tpr"].low, found["tpr"].high) == pytest.approx((expected.low, expected.high))
    assert rate(np.zeros(10, bool)).low == 0
