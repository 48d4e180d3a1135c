"""Intervals of shares and of means over units: scenarios, runs, requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.core.seeds import derive

_Z = 1.959964
Numbers = Sequence[int | float] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    """The number."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        """Number and interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def contains(self, number: float) -> bool:
        """Whether a number lies in the interval."""
        return self.low <= number <= self.high


def wilson(hits: int, n: int) -> Interval:
    """A share with Wilson's interval.

    Raises:
        ValueError: If there are not 0 to n hits, or nothing to count.

    Examples:
        >>> print(wilson(8, 10))
        0.800 [0.490, 0.943]
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}: needed 0 to n hits of at least one")
    share = hits / n
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Interval(share, float(max(0.0, center - half)), float(min(1.0, center + half)))


def mean_interval(
    values: Numbers,
    *,
    weights: Numbers | None = None,
    n_draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of some units, with a percentile bootstrap interval over them.

    Args:
        values: One number for each unit, or one row for each, whose mean counts.
        weights: Denominators: the result is the sum of values over the sum of weights.
        n_draws: Draws of units with replacement.
        seed: Which draws.

    Raises:
        ValueError: If there are fewer than two units.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array.reshape(len(array), -1).mean(axis=1)
    below = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(array) < 2 or len(below) != len(array):
        raise ValueError(f"{len(array)} values and {len(below)} weights: needed 2 or more of each")
    random = np.random.default_rng(derive(seed, "bootstrap"))
    rows = random.integers(0, len(array), (n_draws, len(array)))
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = array[rows].sum(axis=1) / below[rows].sum(axis=1)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(float(array.sum() / below.sum()), float(low), float(high))
