"""How well scores separate two classes, with intervals that respect groups.

Intervals come from a bootstrap that draws whole groups (pairs, users, dialogues) with replacement,
since examples of a group are not independent. Every metric is a function of labels, scores and
weights, so that all draws are computed at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from interp.core.seeds import derive
from probes.base import encoded_groups

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Labels (example,) of 0 and 1, scores (example,), weights (draw, example) -> values (draw,)."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    """The value on the data."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    standard_error: float = float("nan")
    """Standard deviation of the value under resampling."""

    def __str__(self) -> str:
        """The value and its interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    metric: Metric,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A metric with a percentile interval over draws of groups.

    Args:
        metric: Such as `auroc_values`.
        labels: Two classes; the second in sorted order is the positive one.
        scores: Higher for the positive class, shape (example,).
        groups: Group of each example; by default each is one of its own.
        n_draws: Number of draws.
        level: Share of the draws within the interval.
        seed: Which draws.

    Raises:
        ValueError: If there is only one class, or scores are not finite.
    """
    y, scores = binary_labels(labels), finite_scores(scores, len(labels))
    value = float(metric(y, scores, np.ones((1, len(y)), np.float32))[0])
    draws = np.concatenate(
        [metric(y, scores, w) for w in _draws(encoded_groups(groups, len(y)), n_draws, seed)]
    )
    return summarized(value, draws, level)


def auroc(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Area under the ROC curve: how often a positive example scores above a negative one.

    Args:
        labels: Two classes; the second in sorted order is the positive one.
        scores: Higher for the positive class, shape (example,).
        groups: Group of each example; by default each is one of its own.
        n_draws: Draws of the bootstrap.
        level: Share of the draws within the interval.
        seed: Which draws.

    Examples:
        >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])).value
        0.75
    """
    options = {"groups": groups, "n_draws": n_draws, "level": level, "seed": seed}
    return bootstrap(auroc_values, labels, scores, **options)


def auroc_difference(
    labels: np.ndarray,
    scores: np.ndarray,
    others: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """AUROC of one score minus that of another on the same examples, paired in every draw.

    It holds for groups too; for independent examples `delong_test` needs no draws.

    Args:
        labels: Two classes; the second in sorted order is the positive one.
        scores: One score, shape (example,).
        others: The other, shape (example,).
        groups: Group of each example; by default each is one of its own.
        n_draws: Draws of the bootstrap.
        level: Share of the draws within the interval.
        seed: Which draws.
    """
    others = finite_scores(others, len(labels))

    def difference(y: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return auroc_values(y, scores, weights) - auroc_values(y, others, weights)

    options = {"groups": groups, "n_draws": n_draws, "level": level, "seed": seed}
    return bootstrap(difference, labels, scores, **options)


def auroc_value(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUROC without an interval."""
    y = binary_labels(labels)
    return float(auroc_values(y, finite_scores(scores, len(y)), np.ones((1, len(y))))[0])


def auroc_values(
    labels: Int[np.ndarray, " example"],
    scores: Float[np.ndarray, " example"],
    weights: Float[np.ndarray, "draw example"],
) -> Float[np.ndarray, " draw"]:
    """AUROC under each row of weights, ties counted half."""
    high, low = weights_by_score(labels, scores, weights)
    below = low.cumsum(axis=1) - low / 2
    pairs = high.sum(axis=1) * low.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (high * below).sum(axis=1) / pairs


def summarized(value: float, draws: np.ndarray, level: float) -> Estimate:
    """A value with the percentile interval of its draws; draws without a value are left out."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        raise ValueError("no draw has a value: needed more groups")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), float(draws.std()))


def binary_labels(labels: np.ndarray) -> Int[np.ndarray, " example"]:
    """Labels as 0 and 1, the second class in sorted order as 1.

    Raises:
        ValueError: If there are not two classes.
    """
    classes, y = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) != 2:
        raise ValueError(f"labels has classes {classes.tolist()!r}: needed two")
    return y.ravel()


def finite_scores(scores: np.ndarray, n: int) -> Float[np.ndarray, " example"]:
    """Scores as an array of floats.

    Raises:
        ValueError: If they do not fit the labels, or one is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape != (n,):
        raise ValueError(f"scores has shape {scores.shape}: needed one for each of {n} labels")
    if not np.isfinite(scores).all():
        raise ValueError(f"score {int(np.argmin(np.isfinite(scores)))} is not finite")
    return scores


def group_draws(
    groups: Int[np.ndarray, " example"], *, n_draws: int = 1000, seed: int = 0
) -> Float[np.ndarray, "draw example"]:
    """How often each example comes in each draw of groups with replacement."""
    n_groups = int(groups.max()) + 1
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    share = np.full(n_groups, 1 / n_groups)
    return rng.multinomial(n_groups, share, size=n_draws)[:, groups].astype(np.float32)


def _draws(groups: np.ndarray, n_draws: int, seed: int):
    """The draws in blocks that fit into memory."""
    block = max(1, 4_000_000 // len(groups))
    for start in range(0, n_draws, block):
        size = min(block, n_draws - start)
        yield group_draws(groups, n_draws=size, seed=derive(seed, start))


def weights_by_score(
    labels: Real[np.ndarray, " example"],
    scores: Float[np.ndarray, " example"],
    weights: Float[np.ndarray, "draw example"],
) -> tuple[Float[np.ndarray, "draw distinct"], Float[np.ndarray, "draw distinct"]]:
    """Weight of the positive and of the negative examples at each distinct score, lowest first."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    weights, positive = weights[:, order], labels[order] == 1
    high = np.add.reduceat(np.where(positive, weights, 0), starts, axis=1, dtype=np.float64)
    low = np.add.reduceat(np.where(positive, 0, weights), starts, axis=1, dtype=np.float64)
    return high, low
