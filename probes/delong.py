"""DeLong's test: whether two scores of the same examples have different AUROCs.

The variance of an AUROC is that of a U-statistic, here from midranks (DeLong, DeLong and
Clarke-Pearson 1988; Sun and Xu 2014), so that no pair of examples is looked at. It assumes that the
examples are independent. Where they come in groups (pairs, users, dialogues) the standard error is
too small: `auroc_difference`, a paired bootstrap over groups, is the default in this package.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata

from probes.evaluation import Estimate, binary_labels, finite_scores


@dataclass(frozen=True, kw_only=True)
class DeLongTest:
    """Two AUROCs on the same examples, and whether they differ."""

    first: float
    """AUROC of the one score."""
    second: float
    """AUROC of the other."""
    difference: Estimate
    """First minus second, with its normal interval and standard error."""
    p_value: float
    """Two-sided probability of so large a difference if there were none."""

    def __str__(self) -> str:
        """The difference and its p-value."""
        return f"{self.difference}, p = {self.p_value:.2g}"


def delong_test(
    labels: np.ndarray, scores: np.ndarray, others: np.ndarray, *, level: float = 0.95
) -> DeLongTest:
    """Test the difference of two AUROCs, for independent examples.

    Args:
        labels: Two classes; the second in sorted order is the positive one.
        scores: One score, shape (example,).
        others: The other, shape (example,).
        level: Coverage of the interval.

    Raises:
        ValueError: If a class has fewer than two examples, or the AUROCs differ and their variances
            are estimated as 0, as those of a perfect and a perfectly wrong score are.

    Examples:
        >>> y = np.array([0, 0, 0, 1, 1, 1])
        >>> test = delong_test(y, np.array([1, 2, 4, 3, 5, 6]), np.array([1, 4, 5, 2, 3, 6]))
        >>> print(test)
        0.333 [-0.200, 0.867], p = 0.22
    """
    y = binary_labels(labels)
    smallest = int(np.bincount(y).min())
    if smallest < 2:
        raise ValueError(f"a class has {smallest} example: needed two of each for a variance")
    both = np.stack([finite_scores(scores, len(y)), finite_scores(others, len(y))])
    wins, losses = _placements(both[:, y == 1], both[:, y == 0])
    first, second = wins.mean(1)
    gap = float(first - second)
    variance = sum(np.var(part[0] - part[1], ddof=1) / part.shape[1] for part in (wins, losses))
    error = float(np.sqrt(variance))
    if error == 0 and gap != 0:
        raise ValueError(
            f"the AUROCs are {first:g} and {second:g}: needed a score that is neither perfect nor "
            "perfectly wrong, as the variance of those is estimated as 0"
        )
    half = float(norm.ppf((1 + level) / 2)) * error
    return DeLongTest(
        first=float(first),
        second=float(second),
        difference=Estimate(gap, gap - half, gap + half, error),
        p_value=float(2 * norm.sf(abs(gap) / error)) if error else 1.0,
    )


def _placements(
    positive: Float[np.ndarray, "score n_positive"], negative: Float[np.ndarray, "score n_negative"]
) -> tuple[Float[np.ndarray, "score n_positive"], Float[np.ndarray, "score n_negative"]]:
    """Share of the negatives below each positive, and of the positives above each negative.

    Ties count half: a midrank among all examples less that within the own class counts the
    examples of the other class that lie below.
    """
    n_positive, n_negative = positive.shape[1], negative.shape[1]
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    below = ranks[:, :n_positive] - rankdata(positive, axis=1)
    under = ranks[:, n_positive:] - rankdata(negative, axis=1)
    return below / n_negative, 1 - under / n_positive
