"""The statistics of steering: separation, slopes, rank correlation, and their intervals.

Intervals are percentile bootstraps over examples (or over data sets, where those are the unit).
They say how much the number would move with other examples of the same kind, and nothing about
another model, layer or kind of data.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from interp.core.seeds import derive
from interp.core.statistics import Interval, mean_interval

Estimate = Interval
"""A number with its 95 % interval, as steering calls it."""


def bootstrap(
    statistic: Callable[..., float],
    *columns: ArrayLike,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """A statistic of parallel columns with its percentile interval.

    Args:
        statistic: Function of the columns.
        *columns: Arrays with one row for each unit; rows are drawn together.
        n_resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If the columns differ in length or hold fewer than two rows.
    """
    arrays = [np.asarray(column) for column in columns]
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"columns of lengths {sorted(lengths)}: needed equal ones of 2 or more")
    n, random = lengths.pop(), np.random.default_rng(derive(seed, "bootstrap"))
    draws = random.integers(0, n, (n_resamples, n))
    values = np.array([statistic(*(array[rows] for array in arrays)) for rows in draws])
    low, high = (
        np.nanquantile(values, [0.025, 0.975]) if np.isfinite(values).any() else (np.nan,) * 2
    )
    return Estimate(float(statistic(*arrays)), float(low), float(high))


def mean_estimate(values: ArrayLike, *, n_resamples: int = 1000, seed: int = 0) -> Estimate:
    """The mean with its bootstrap interval."""
    return mean_interval(np.asarray(values, dtype=np.float64), n_draws=n_resamples, seed=seed)


def d_prime(positive: ArrayLike, negative: ArrayLike) -> float:
    """Difference of two means in units of the pooled standard deviation (the n - 1 kind)."""
    a, b = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    spread = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    return float((a.mean() - b.mean()) / spread) if spread > 0 else float("nan")


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """Share of pairs in which the positive value is larger; ties count half."""
    a, b = np.asarray(positive, dtype=np.float64), np.sort(np.asarray(negative, dtype=np.float64))
    below, upto = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float((below + upto).mean() / (2 * len(b)))


def slopes(
    coefficients: Float[np.ndarray, " coefficient"],
    propensities: Float[np.ndarray, "example coefficient"],
) -> Float[np.ndarray, " example"]:
    """Least-squares slope of each example's propensity over the coefficients.

    Raises:
        ValueError: If there are fewer than two different coefficients.
    """
    centered = coefficients - coefficients.mean()
    if not (centered**2).sum() > 0:
        raise ValueError(f"coefficients are {coefficients.tolist()!r}: a slope needs two different")
    return propensities @ centered / (centered**2).sum()


def ranks(values: Float[np.ndarray, "*batch row"]) -> Float[np.ndarray, "*batch row"]:
    """Ranks from 1 along the last axis; ties share their mean rank."""
    above = values[..., :, None] > values[..., None, :]
    equal = values[..., :, None] == values[..., None, :]
    return above.sum(-1) + (equal.sum(-1) + 1) / 2


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation, NaN where one of the two is constant."""
    return float(_correlation(*(ranks(np.asarray(v, dtype=np.float64)) for v in (x, y))))


def spearman_estimate(
    x: ArrayLike, y: ArrayLike, *, n_resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Spearman's rank correlation with its bootstrap interval; NaN for fewer than four rows."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 4:
        return Estimate(np.nan, np.nan, np.nan)
    random = np.random.default_rng(derive(seed, "bootstrap"))
    draws = random.integers(0, len(a), (n_resamples, len(a)))
    values = _correlation(ranks(a[draws]), ranks(b[draws]))
    if not np.isfinite(values).any():
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Estimate(spearman(a, b), float(low), float(high))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis, NaN where a side is constant."""
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.full_like(size, np.nan), where=size > 0)


def trait_and_bias(
    effects: Float[np.ndarray, " example"],
    answer: Bool[np.ndarray, " example"],
) -> tuple[float, float]:
    """Split effects into what the trait does and what the answer token does.

    The model is effect = trait + bias x (+1 or -1), where the sign says which of two answers is the
    matching one: a vector that only prefers "Yes" raises the rows on which "Yes" is the matching
    answer and lowers the others by as much.

    Args:
        effects: Effect on each example, such as its slope.
        answer: Whether the first of the two answers is the matching one.

    Returns:
        The trait effect and the bias; NaN where only one answer occurs.
    """
    trait, bias = _split(effects[None], answer[None])
    return float(trait[0]), float(bias[0])


def trait_and_bias_estimates(
    effects: Float[np.ndarray, " example"],
    answer: Bool[np.ndarray, " example"],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    """Trait effect and bias of `trait_and_bias` with their bootstrap intervals."""
    random = np.random.default_rng(derive(seed, "bootstrap"))
    draws = random.integers(0, len(effects), (n_resamples, len(effects)))
    found = []
    for value, drawn in zip(
        trait_and_bias(effects, answer), _split(effects[draws], answer[draws]), strict=True
    ):
        known = drawn[np.isfinite(drawn)]  # the others drew one answer only
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        found.append(Estimate(value, float(low), float(high)))
    return found[0], found[1]


def _split(effects: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the sum and half the difference of the mean effects under both answers, last axis."""
    means = []
    for where in (answer, ~answer):
        count, total = where.sum(-1), np.where(where, effects, 0.0).sum(-1)
        unknown = np.full(np.shape(total), np.nan)
        means.append(np.divide(total, count, out=unknown, where=count > 0))
    return (means[0] + means[1]) / 2, (means[0] - means[1]) / 2


def leave_one_out_r2(
    features: Float[np.ndarray, "row feature"],
    target: Float[np.ndarray, " row"],
    *,
    seed: int = 0,
) -> Estimate:
    """R2 of predictions for each row from a least-squares fit to the other rows.

    The baseline predicts the mean of the other rows, so that noise scores at or below 0. The
    interval is over rows, with the fits kept.

    Raises:
        ValueError: If there are too few rows to fit the features without one of them.
    """
    design = np.column_stack([np.ones(len(target)), features])
    if len(target) < design.shape[1] + 2:
        raise ValueError(
            f"{len(target)} rows for {features.shape[1]} features: needed {design.shape[1] + 2}"
        )
    errors, baseline = np.empty(len(target)), np.empty(len(target))
    for row in range(len(target)):
        rest = np.arange(len(target)) != row
        weights = np.linalg.lstsq(design[rest], target[rest], rcond=None)[0]
        errors[row] = (target[row] - design[row] @ weights) ** 2
        baseline[row] = (target[row] - target[rest].mean()) ** 2
    return bootstrap(lambda e, b: 1 - float(e.sum() / b.sum()), errors, baseline, seed=seed)
