"""Metrics of two classes, each a function of labels, scores and rows of weights.

Labels are 0 and 1, shape (example,); weights have shape (draw, example), so that all draws of a
bootstrap are computed at once; the result has shape (draw,).
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from interp import viz
from probes.evaluation import (
    Estimate,
    Metric,
    auroc_values,
    binary_labels,
    bootstrap,
    finite_scores,
    weights_by_score,
)

_N_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a score is worth on one set."""

    auroc: Estimate
    """Area under the ROC curve."""
    partial_auroc: Estimate
    """The part below `max_fpr`, scaled so that 0.5 is chance and 1 is perfect."""
    average_precision: Estimate
    """Area under the curve of precision and recall; chance is the share of positives."""
    tpr: Estimate
    """Largest true-positive rate at a false-positive rate of at most `target_fpr`."""
    brier: Estimate
    """Mean squared error of the probabilities."""
    ece: Estimate
    """Mean distance of probability and frequency over ten bins."""
    target_fpr: float
    """The false-positive rate that `tpr` allows."""
    max_fpr: float
    """Where `partial_auroc` ends."""
    n_positive: int
    """Positive examples."""
    n_negative: int
    """Negative examples."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each metric, with its interval."""
        metrics = {f.name: getattr(self, f.name) for f in fields(self)}
        return pd.DataFrame(
            [
                {"metric": name, "value": e.value, "low": e.low, "high": e.high}
                for name, e in metrics.items()
                if isinstance(e, Estimate)
            ]
        )


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    target_fpr: float = 0.01,
    max_fpr: float = 0.1,
    n_draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """All metrics with intervals from a bootstrap over groups.

    Args:
        labels: Two classes; the second in sorted order is the positive one.
        scores: Higher for the positive class, shape (example,).
        groups: Group of each example; by default each is one of its own.
        probabilities: For Brier score and calibration error; the logistic of the scores by default.
        target_fpr: False-positive rate that `tpr` may not exceed.
        max_fpr: Where the partial AUROC ends.
        n_draws: Draws of the bootstrap.
        seed: Which draws.
    """
    y = binary_labels(labels)
    scores = finite_scores(scores, len(y))
    p = expit(scores) if probabilities is None else finite_scores(probabilities, len(y))
    if p.min() < 0 or p.max() > 1:
        raise ValueError(
            f"probabilities lie between {p.min():.3g} and {p.max():.3g}: needed [0, 1]"
        )

    def estimate(metric: Metric, values: np.ndarray) -> Estimate:
        return bootstrap(metric, y, values, groups=groups, n_draws=n_draws, seed=seed)

    return Evaluation(
        auroc=estimate(auroc_values, scores),
        partial_auroc=estimate(partial_auroc(max_fpr), scores),
        average_precision=estimate(average_precision_values, scores),
        tpr=estimate(tpr_at_fpr(target_fpr), scores),
        brier=estimate(brier_values, p),
        ece=estimate(ece_values, p),
        target_fpr=target_fpr,
        max_fpr=max_fpr,
        n_positive=int(y.sum()),
        n_negative=int((1 - y).sum()),
    )


def tpr_at_fpr(target: float) -> Metric:
    """A metric: the largest true-positive rate whose false-positive rate is at most the target.

    It is a point that a threshold reaches, never one between two of them and never the nearest one.
    """
    _check_rate("target", target)

    def values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        fpr, tpr = _rates(labels, scores, weights)
        return np.where(fpr <= target + 1e-12, tpr, 0).max(axis=1)

    return values


def partial_auroc(max_fpr: float) -> Metric:
    """A metric: the AUROC up to a false-positive rate, scaled so that chance is 0.5 (McClish)."""
    _check_rate("max_fpr", max_fpr)

    def values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        areas = [
            _area(f, t, max_fpr) for f, t in zip(*_rates(labels, scores, weights), strict=True)
        ]
        least, most = max_fpr**2 / 2, max_fpr
        return (1 + (np.array(areas) - least) / (most - least)) / 2

    return values


def average_precision_values(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, " draw"]:
    """Sum over thresholds of the gain in recall times the precision."""
    hits, alarms = _counts(labels, scores, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits / (hits + alarms))
        return (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1) / hits[:, -1]


def brier_values(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, " draw"]:
    """Weighted mean squared error."""
    return weights @ np.square(probabilities - labels) / weights.sum(axis=1)


def ece_values(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, " draw"]:
    """Expected calibration error over ten bins of equal width."""
    members = np.eye(_N_BINS)[_bins(probabilities)]
    gaps = np.abs((weights * (labels - probabilities)) @ members)
    return gaps.sum(axis=1) / weights.sum(axis=1)


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, *, estimate: Estimate | None = None
) -> viz.RocCurve:
    """The ROC curve for `viz.roc`, with the interval of an AUROC if one is given."""
    y = binary_labels(labels)
    fpr, tpr = _rates(y, finite_scores(scores, len(y)), np.ones((1, len(y))))
    interval = None if estimate is None else (estimate.low, estimate.high)
    return viz.RocCurve(fpr=np.r_[0, fpr[0]], tpr=np.r_[0, tpr[0]], interval=interval)


def reliability_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_draws: int = 500,
    seed: int = 0,
) -> viz.ReliabilityCurve:
    """Mean probability and share of positives in ten bins, for `viz.reliability`."""
    y, p = binary_labels(labels), finite_scores(probabilities, len(labels))
    bins = _bins(p)
    counts = np.bincount(bins, minlength=_N_BINS)
    rows = []
    for k in np.flatnonzero(counts):
        e = bootstrap(_share_in(bins == k), y, p, groups=groups, n_draws=n_draws, seed=seed)
        rows.append((p[bins == k].mean(), e.value, counts[k], e.low, e.high))
    predicted, observed, n, low, high = map(np.array, zip(*rows, strict=True))
    return viz.ReliabilityCurve(
        predicted=predicted,
        observed=observed,
        counts=n,
        low=np.minimum(low, observed),
        high=np.maximum(high, observed),
    )


def _share_in(members: np.ndarray) -> Metric:
    """A metric: the share of positives among some examples."""

    def values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return weights[:, members] @ labels[members] / weights[:, members].sum(axis=1)

    return values


def _bins(probabilities: np.ndarray) -> np.ndarray:
    return np.minimum((probabilities * _N_BINS).astype(int), _N_BINS - 1)


def _counts(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at each threshold, from the strictest to the loosest."""
    hits, alarms = weights_by_score(labels, -scores, weights)
    return hits.cumsum(axis=1), alarms.cumsum(axis=1)


def _rates(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rates at each threshold."""
    hits, alarms = _counts(labels, scores, weights)
    with np.errstate(invalid="ignore"):
        return alarms / alarms[:, -1:], hits / hits[:, -1:]


def _area(fpr: np.ndarray, tpr: np.ndarray, max_fpr: float) -> float:
    x, y = np.r_[0, fpr], np.r_[0, tpr]
    stop = int(np.searchsorted(x, max_fpr, side="right"))
    x, y = np.r_[x[:stop], max_fpr], np.r_[y[:stop], np.interp(max_fpr, x, y)]
    return float(np.trapezoid(y, x))


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"{name}={rate!r}: needed a rate above 0 and at most 1")
