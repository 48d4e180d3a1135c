"""Numbers with intervals: shares, and means over units such as scenarios, runs or prompts.

Intervals say how much a number would move with other units of the same kind, and nothing about
another model or another kind of data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from interp.core.seeds import derive

Numbers = Sequence[int | float] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """A number with its interval, of 95 % unless told otherwise."""

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

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(hits: int | float, n: int, *, level: float = 0.95) -> Interval:
    """A share with Wilson's interval, which holds up where all or none are hits.

    Args:
        hits: How often it happened; a fraction where hits are themselves shares.
        n: Of how many.
        level: Confidence.

    Raises:
        ValueError: If there are not 0 to n hits, or nothing to count.

    Examples:
        >>> print(wilson(8, 10))
        0.800 [0.490, 0.943]
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}: needed 0 to n hits of at least one")
    z, share = NormalDist().inv_cdf((1 + level) / 2), hits / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = center - half if hits > 0 else 0.0  # exactly, whatever the rounding
    high = center + half if hits < n else 1.0
    return Interval(share, low, high)


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
        ValueError: If there are fewer than two units, or not one weight for each.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array.reshape(len(array), -1).mean(axis=1)
    below = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(array) < 2:
        raise ValueError(f"{len(array)} values: an interval needs 2 or more")
    if len(below) != len(array):
        raise ValueError(f"{len(array)} values and {len(below)} weights: needed one for each")
    random = np.random.default_rng(derive(seed, "bootstrap"))
    rows = random.integers(0, len(array), (n_draws, len(array)))
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = array[rows].sum(axis=1) / below[rows].sum(axis=1)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Interval(float(array.sum() / below.sum()), float(low), float(high))
