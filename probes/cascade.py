"""Cascades: a cheap score for every text, a dear one for those on which the cheap one is unsure.

After McKenzie et al. 2025 (arXiv 2506.10805): everything is scored by the probe, the texts whose
scores lie in a band also by a language model, and the two scores are merged. The paper takes the
scores around the median of the very set that is scored (`median_band`), which needs all of it
beforehand; `fitted_band` chooses the band on a calibration set, so that texts can come one by one.
The probe's activations are counted as free, as in the paper: the model that is watched runs anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression

from interp import viz
from interp.core.seeds import derive
from probes.evaluation import Estimate, auroc, auroc_value, binary_labels

Merge = Literal["mean", "second", "max"]
"""What becomes of two scores: their mean, the later one, or the higher one."""
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Shares of texts that go on to the second stage, by default."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One scorer on one set of texts."""

    name: str
    """What it is."""
    scores: Float[np.ndarray, " example"]
    """Score of each text; log-odds on a common scale, see `calibrated`, where they are merged."""
    flops: Float[np.ndarray, " example"]
    """Floating-point operations for each text."""

    def __post_init__(self) -> None:
        """Check that there is a cost for each score."""
        if len(self.scores) != len(self.flops):
            raise ValueError(
                f"stage {self.name!r} has {len(self.scores)} scores, but {len(self.flops)} costs"
            )


@dataclass(frozen=True)
class Band:
    """Scores between which the next stage is asked."""

    low: float
    """Lower end, included."""
    high: float
    """Upper end, included; below `low` the band is empty."""

    def holds(self, scores: Float[np.ndarray, " example"]) -> Bool[np.ndarray, " example"]:
        """Which scores lie in the band."""
        return (scores >= self.low) & (scores <= self.high)


EMPTY = Band(np.inf, -np.inf)
"""The band in which nothing lies."""


@dataclass(frozen=True, kw_only=True)
class CascadeResult:
    """What a cascade says about each text, and what it cost."""

    scores: Float[np.ndarray, " example"]
    """Merged score."""
    flops: Float[np.ndarray, " example"]
    """Operations for each text, over all stages that saw it."""
    depth: np.ndarray
    """How many stages saw each text."""


def cascade(
    stages: Sequence[Stage], bands: Sequence[Band], *, merge: Merge = "mean"
) -> CascadeResult:
    """Run texts through stages: each band says which texts go on to the next stage.

    Args:
        stages: Scorers, the cheapest first.
        bands: One for each stage but the last, on the merged score so far.
        merge: What becomes of two scores.

    Raises:
        ValueError: If there is not one band for each step.
    """
    if len(bands) != len(stages) - 1:
        raise ValueError(f"{len(stages)} stages and {len(bands)} bands: needed one between two")
    first, *rest = stages
    scores, flops = first.scores.astype(float), first.flops.astype(float)
    depth = np.ones(len(scores), int)
    for stage, band in zip(rest, bands, strict=True):
        goes_on = band.holds(scores) & (depth == depth.max())
        scores = np.where(goes_on, merged(scores, stage.scores, merge, depth), scores)
        flops = flops + np.where(goes_on, stage.flops, 0)
        depth = depth + goes_on
    return CascadeResult(scores=scores, flops=flops, depth=depth)


def merged(
    before: Float[np.ndarray, " example"],
    now: Float[np.ndarray, " example"],
    merge: Merge,
    n_before: Any = 1,
) -> Float[np.ndarray, " example"]:
    """Two scores as one.

    Args:
        before: Merged score of the stages so far.
        now: Score of the next stage.
        merge: How.
        n_before: How many stages are in `before`, for the mean.
    """
    if merge == "mean":
        return (before * n_before + now) / (n_before + 1)
    if merge == "max":
        return np.maximum(before, now)
    if merge == "second":
        return now
    raise ValueError(f"merge={merge!r}: needed 'mean', 'second' or 'max'")


def calibrated(
    scores: Float[np.ndarray, " n"], labels: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from scores to log-odds, by logistic regression on a calibration set."""
    fit = LogisticRegression().fit(scores[:, None], binary_labels(labels))

    def log_odds(values: np.ndarray) -> np.ndarray:
        return fit.decision_function(np.asarray(values)[:, None])

    return log_odds


def median_band(scores: Float[np.ndarray, " example"], share: float) -> Band:
    """The band around the median that holds a share of the scores: the rule of the paper."""
    return _band_around(np.sort(scores), share, 0.5)


def fitted_band(
    first: Float[np.ndarray, " example"],
    second: Float[np.ndarray, " example"],
    labels: np.ndarray,
    share: float,
    *,
    merge: Merge = "mean",
) -> Band:
    """The band that holds a share of a calibration set and gives the highest AUROC there.

    Args:
        first: Scores of the first stage.
        second: Scores of the second stage.
        labels: Two classes.
        share: Which share of the texts goes on, between 0 and 1.
        merge: What becomes of two scores.
    """
    ranked, both = np.sort(first), merged(first, second, merge)
    centers = np.linspace(share / 2, 1 - share / 2, 21)
    bands = [_band_around(ranked, share, center) for center in centers]
    values = [auroc_value(labels, np.where(b.holds(first), both, first)) for b in bands]
    near = -np.abs(centers - 0.5)  # of equal ones the most central
    return bands[max(range(len(bands)), key=lambda k: (values[k], near[k]))]


def _band_around(ranked: np.ndarray, share: float, center: float) -> Band:
    """The band of `share` of the sorted scores around the quantile `center`."""
    if not 0 <= share <= 1:
        raise ValueError(f"share={share!r}: needed a number between 0 and 1")
    n = round(share * len(ranked))
    if n == 0:
        return EMPTY
    start = int(np.clip(round(center * len(ranked) - n / 2), 0, len(ranked) - n))
    # The ends of the set are no ends of the scores: what lies beyond them belongs to the band too.
    low = -np.inf if start == 0 else float(ranked[start])
    high = np.inf if start + n == len(ranked) else float(ranked[start + n - 1])
    return Band(low, high)


@dataclass(frozen=True, kw_only=True)
class BudgetPoint:
    """One way to spend one budget."""

    curve: str
    """How texts for the second stage are chosen."""
    share: float
    """Share of the texts that went on to it."""
    flops: float
    """Mean operations for a text."""
    auroc: Estimate
    """How well the merged scores separate."""


@dataclass(frozen=True, kw_only=True)
class BudgetCurve:
    """AUROC against cost for several ways to choose who goes on."""

    points: tuple[BudgetPoint, ...]
    """All points, curve by curve."""
    stages: tuple[str, str]
    """Names of the two stages."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each point."""
        rows = [
            {
                "curve": p.curve,
                "share": p.share,
                "flops": p.flops,
                "auroc": p.auroc.value,
                "low": p.auroc.low,
                "high": p.auroc.high,
            }
            for p in self.points
        ]
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """AUROC against mean operations for a text, on a logarithmic axis."""
        return plot_budget(self.to_frame(), stages=self.stages, **layout)


def plot_budget(frame: pd.DataFrame, *, stages: tuple[str, str], **layout: Any) -> viz.Figure:
    """The figure of a budget curve from its frame."""
    first, second = stages
    lines = {
        str(name): viz.Curve(
            x=part["flops"],
            y=part["auroc"],
            low=part["low"] if name == CALIBRATED else None,
            high=part["high"] if name == CALIBRATED else None,
            emphasis=name == CALIBRATED,
        )
        for name, part in frame.groupby("curve", sort=False)
    }
    return viz.curves(
        lines,
        title=f"{first}, then {second}",
        x_title="operations for a text (mean, logarithmic)",
        y_title="AUROC",
        log_x=True,
        **layout,
    )


_DRAWS = 1000
"""Draws of the bootstrap for a point, over all its choices of texts."""
CALIBRATED = "band from calibration"
MEDIAN = "band around the median"
ORACLE = "oracle"
RANDOM = "random texts"


def budget_curve(
    first: Stage,
    second: Stage,
    labels: np.ndarray,
    *,
    calibration: tuple[np.ndarray, np.ndarray, np.ndarray],
    shares: Sequence[float] = SHARES,
    merge: Merge = "mean",
    seed: int = 0,
) -> BudgetCurve:
    """What a second stage adds when it may see more and more of the texts.

    Four ways to choose the texts: the band that was best on the calibration set; the band around
    the median of this set; an oracle, which knows the labels and picks the texts whose scores gain
    the most; and chance, averaged over ten draws. Only the first could be used as it stands.

    Args:
        first: The first stage.
        second: The second stage.
        labels: Two classes.
        calibration: Scores of both stages and labels on other texts.
        shares: Shares of the texts that go on.
        merge: What becomes of two scores.
        seed: Which draws.
    """
    y, both = binary_labels(labels), merged(first.scores, second.scores, merge)
    gain = np.where(y == 1, 1, -1) * (both - first.scores)
    ranked = np.argsort(-gain, kind="stable")
    rng = np.random.default_rng(derive(seed, "random texts"))
    draws = [rng.permutation(len(y)) for _ in range(10)]

    def point(curve: str, choices: Sequence[np.ndarray]) -> BudgetPoint:
        scores = [np.where(chosen, both, first.scores) for chosen in choices]
        found = [auroc(y, one, n_draws=_DRAWS // len(scores), seed=seed) for one in scores]
        mean = (np.mean([getattr(e, f) for e in found]) for f in ("value", "low", "high"))
        costs = [first.flops + np.where(chosen, second.flops, 0) for chosen in choices]
        return BudgetPoint(
            curve=curve,
            share=float(np.mean(choices)),
            flops=float(np.mean(costs)),
            auroc=Estimate(*map(float, mean)),
        )

    ways: Mapping[str, Callable[[float], list[np.ndarray]]] = {
        CALIBRATED: lambda s: [fitted_band(*calibration, s, merge=merge).holds(first.scores)],
        MEDIAN: lambda s: [median_band(first.scores, s).holds(first.scores)],
        ORACLE: lambda s: [_first(ranked, s)],
        RANDOM: lambda s: [_first(order, s) for order in draws],
    }
    points = [point(name, choose(share)) for name, choose in ways.items() for share in shares]
    return BudgetCurve(points=tuple(points), stages=(first.name, second.name))


def _first(order: np.ndarray, share: float) -> Bool[np.ndarray, " example"]:
    chosen = np.zeros(len(order), bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def forward_flops(
    n_tokens: Any, *, n_parameters: float, n_layers: int = 0, d_model: int = 0
) -> Float[np.ndarray, " example"]:
    """Operations of a forward pass over texts: S (2 N + 2 m d S).

    Args:
        n_tokens: S, tokens of each text.
        n_parameters: N, parameters that are multiplied (an embedding that is looked up is not).
        n_layers: m; with `d_model` for the attention between tokens, left out when 0.
        d_model: d.
    """
    n = np.atleast_1d(np.asarray(n_tokens, np.float64))
    return n * (2 * n_parameters + 2 * n_layers * d_model * n)


def probe_flops(
    n_tokens: Any, *, d_model: int, has_queries: bool = False
) -> Float[np.ndarray, " example"]:
    """Operations of a probe on texts: one product with d weights a token, two with a query.

    Counted as in the paper, a multiplication and its addition as one; times two to compare with
    `forward_flops`.
    """
    return np.atleast_1d(np.asarray(n_tokens, np.float64)) * d_model * (2 if has_queries else 1)
