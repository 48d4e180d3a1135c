"""From scores to probabilities and thresholds, on data the probe was not trained on.

A calibration or a threshold holds for data like those it was made with. On other data the rates
differ, which is why `Threshold.realized` exists: report it for every set.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from probes.evaluation import Estimate, binary_labels, finite_scores

Method = Literal["platt", "isotonic", "temperature"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising map from scores to probabilities."""

    method: Method
    """`"platt"`: slope and intercept; `"temperature"`: slope only; `"isotonic"`: any rising map."""
    x: tuple[float, ...]
    """Slope and intercept; for isotonic, scores at which the map is known."""
    y: tuple[float, ...] = ()
    """For isotonic, probabilities at these scores."""

    def __call__(self, scores: np.ndarray) -> Float[np.ndarray, " example"]:
        """Probabilities of the positive class."""
        scores = np.asarray(scores, np.float64)
        if self.method == "isotonic":
            return np.interp(scores, self.x, self.y)
        return expit(self.x[0] * scores + self.x[1])


def calibrate(labels: np.ndarray, scores: np.ndarray, *, method: Method = "platt") -> Calibration:
    """Learn probabilities from scores on held-out data.

    Args:
        labels: Two classes; the second in sorted order is the positive one.
        scores: Scores of the same examples, of a probe that was not trained on them.
        method: `"platt"` fits a logistic curve, `"temperature"` only its slope, `"isotonic"` any
            rising map (which needs hundreds of examples).

    Raises:
        ValueError: If the method is unknown, or there is only one class.
    """
    y = binary_labels(labels)
    scores = finite_scores(scores, len(y))
    if method == "platt":
        fit = LogisticRegression(C=np.inf, max_iter=1000).fit(scores[:, None], y)
        return Calibration(method=method, x=(float(fit.coef_[0, 0]), float(fit.intercept_[0])))
    if method == "temperature":

        def loss(log_slope: float) -> float:
            z = math.exp(log_slope) * scores
            return float((np.logaddexp(0, z) - y * z).mean())

        best: Any = minimize_scalar(loss, bounds=(-8, 8), method="bounded")
        return Calibration(method=method, x=(math.exp(best.x), 0.0))
    if method == "isotonic":
        fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, y)
        return Calibration(
            method=method,
            x=tuple(map(float, fit.X_thresholds_)),
            y=tuple(map(float, fit.y_thresholds_)),
        )
    raise ValueError(f"method={method!r}: needed 'platt', 'isotonic' or 'temperature'")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score above which the answer is yes, and what that promises."""

    value: float
    """The score; infinite where the negatives do not suffice for the target."""
    target_fpr: float
    """The false-positive rate that was asked for."""
    realized_fpr: float
    """The rate on the negatives with which it was chosen."""
    n_negatives: int
    """How many these were."""
    confidence: float | None
    """Probability that the true rate is at most the target; `None`: it is so on average."""

    def realized(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Estimate]:
        """False- and true-positive rate on a set, with exact 95 % intervals (Clopper-Pearson)."""
        y = binary_labels(labels)
        above = finite_scores(scores, len(y)) > self.value
        return {name: rate(above[y == side]) for name, side in (("fpr", 0), ("tpr", 1))}


def choose_threshold(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    target_fpr: float = 0.01,
    confidence: float | None = None,
) -> Threshold:
    """The lowest threshold whose false-positive rate is at most a target, with a promise.

    Without a confidence, the expected rate on further negatives like these is at most the target
    (the bound of conformal prediction, (k + 1) / (n + 1)). With one, the rate itself is so with
    that probability (Clopper-Pearson).

    Args:
        labels: 0 and 1, or two other classes of which the second in sorted order is positive; only
            the negatives count, and there may be no positives.
        scores: Scores of the same examples, of a probe that was not trained on them.
        target_fpr: The rate.
        confidence: Such as 0.95; stricter.

    Raises:
        ValueError: If there are no negatives.
    """
    labels = np.asarray(labels)
    negative = labels == (np.unique(labels)[0] if len(np.unique(labels)) > 1 else 0)
    scores = np.sort(finite_scores(scores, len(labels))[negative])
    n = len(scores)
    if not n:
        raise ValueError("a threshold for a false-positive rate needs negatives: there are none")
    if not 0 < target_fpr < 1:
        raise ValueError(f"target_fpr={target_fpr!r}: needed a rate between 0 and 1")
    if confidence is None:
        allowed = math.floor(target_fpr * (n + 1) + 1e-9) - 1
    else:
        k = np.arange(n)
        allowed = int((beta.ppf(confidence, k + 1, n - k) <= target_fpr).sum()) - 1
    value = float(scores[n - 1 - allowed]) if allowed >= 0 else math.inf
    return Threshold(
        value=value,
        target_fpr=target_fpr,
        realized_fpr=float((scores > value).mean()),
        n_negatives=n,
        confidence=confidence,
    )


def rate(hits: np.ndarray) -> Estimate:
    """The share of true entries with an exact 95 % interval (Clopper-Pearson)."""
    n, k = len(hits), int(np.sum(hits))
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))
    share = k / n
    return Estimate(share, low, high, math.sqrt(share * (1 - share) / n))
