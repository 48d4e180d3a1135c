"""Intervals: Wilson's against scipy, the bootstrap by how often it covers."""

import numpy as np
import pytest
from scipy.stats import binomtest

from interp.core.statistics import Interval, mean_interval, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 20), (20, 20), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_that_of_scipy(hits: int, n: int, level: float) -> None:
    expected = binomtest(hits, n).proportion_ci(level, method="wilson")
    got = wilson(hits, n, level=level)
    assert got.value == hits / n
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_ends_are_exact_where_none_or_all_are_hits() -> None:
    assert wilson(0, 20).low == 0 < wilson(0, 20).high
    assert wilson(24, 24).high == 1 > wilson(24, 24).low


@pytest.mark.parametrize(("hits", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="needed 0 to n"):
        wilson(hits, n)


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = [
        mean_interval(random.normal(size=40), n_draws=300, seed=k).contains(0.0) for k in range(100)
    ]
    assert 85 <= sum(covered) <= 100


def test_ratio_is_of_sums_and_units_are_needed() -> None:
    assert mean_interval([1, 3], weights=[1, 7]).value == 0.5
    with pytest.raises(ValueError, match="2 or more"):
        mean_interval([1.0])
    with pytest.raises(ValueError, match="2 values and 3 weights"):
        mean_interval([1, 2], weights=[1, 2, 3])


def test_interval_tells_itself() -> None:
    found = Interval(0.5, 0.25, 0.75)
    assert str(found) == "0.500 [0.250, 0.750]"
    assert found.to_dict() == vars(found)
