"""Checking predictions by retraining: leave-one-out, leave-k-out, distributional LDS.

Distributional LDS (Mlodozeniec et al. 2025): over random subsets of the training set, the rank
correlation of true and predicted changes of the law at a query; that of the mean is the usual
linear datamodeling score. Truth comes from finitely many seeds, so no prediction can be expected to
reach 1: the correlation of the truth from one half of the seeds with that from the other half
stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from tqdm import tqdm

from interp import viz
from interp.core.seeds import derive
from interp.influence.distributions import law_change
from interp.influence.ensemble import Training, measure_runs
from interp.influence.problem import Problem, Queries
from interp.influence.scores import Scores

SCORED = ("mean", "variance", "W2")
"""Changes of a law that predictions are scored on."""
_RUNS = 256
"""Runs that are trained at once: more are not faster, and take more memory."""


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """Measurements of runs with all examples, and of runs without some."""

    before: Float[np.ndarray, "seed query"]
    """With all examples."""
    after: Float[np.ndarray, "subset seed query"]
    """Without those that a subset removes."""
    removed: Bool[np.ndarray, "subset example"]
    """What each subset removes."""

    def change(self, name: str, seeds: slice = slice(None)) -> Float[np.ndarray, "subset query"]:
        """A change of the law at each query, as in `CHANGES`, from all or some of the seeds."""
        return law_change(name, self.before[seeds], self.after[:, seeds])


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well predicted changes agree with those of retraining."""

    method: str
    """How predictions were made."""
    names: tuple[str, ...]
    """The changes of a law that were compared."""
    value: Float[np.ndarray, " change"]
    """Correlation of predicted and true change, from -1 to 1."""
    low: Float[np.ndarray, " change"]
    """Lower ends of intervals over subsets."""
    high: Float[np.ndarray, " change"]
    """Upper ends."""
    ceiling: Float[np.ndarray, " change"]
    """The same between truths from two halves of the seeds."""
    control: Float[np.ndarray, " change"]
    """The same with predictions of other subsets."""

    def of(self, name: str) -> float:
        """The score of one change."""
        return float(self.value[self.names.index(name)])

    def to_frame(self) -> pd.DataFrame:
        """One row for each change."""
        fields = ("value", "low", "high", "ceiling", "control")
        columns = {name: getattr(self, name) for name in fields}
        return pd.DataFrame({"method": self.method, "change": self.names, **columns})

    def plot(self, **layout: Any) -> viz.Figure:
        """The correlations with their ceilings and controls."""
        return plot_agreement([self], title="Predicted and retrained changes", **layout)


def leave_out(
    problem: Problem,
    training: Training,
    queries: Queries,
    removed: Bool[np.ndarray, "subset example"],
    *,
    seeds: Sequence[int],
    common: bool = True,
    progress: bool = False,
) -> Retrained:
    """Retrain without some examples, once for each subset and seed.

    Args:
        problem: What to train.
        training: How.
        queries: Where the runs are measured.
        removed: A row for each subset; one example in each is leave-one-out.
        seeds: Seeds of the runs.
        common: Whether a run without examples shares initial parameters and draws with the run of
            its seed; `False` gives every subset seeds of its own, for the same laws with more
            noise.
        progress: Show a progress bar.

    Raises:
        ValueError: If `removed` does not fit the training set.
        FloatingPointError: If a run diverges.
    """
    if removed.shape[1] != problem.n_examples:
        raise ValueError(f"removed has {removed.shape[1]} columns: needed {problem.n_examples}")
    keep = torch.from_numpy(~removed).to(problem.inputs.device)
    rows = [torch.ones_like(keep[0]), *keep]
    own = [list(seeds)] * len(rows)
    if not common:
        own[1:] = [[derive(s, "subset", m) for s in seeds] for m in range(len(keep))]
    per_block = max(1, _RUNS // len(seeds))
    blocks = []
    for start in tqdm(range(0, len(rows), per_block), disable=not progress, desc="retraining"):
        part = slice(start, start + per_block)
        runs = [s for block in own[part] for s in block]
        masks = torch.stack(rows[part]).repeat_interleave(len(seeds), 0)
        measured = measure_runs(problem, training, queries, seeds=runs, keep=masks)
        blocks.append(measured.unflatten(0, (-1, len(seeds))).numpy(force=True))
    measured = np.concatenate(blocks)
    return Retrained(before=measured[0], after=measured[1:], removed=removed)


def distributional_lds(
    retrained: Retrained, scores: Scores, *, n_draws: int = 500, level: float = 0.95, seed: int = 0
) -> Agreement:
    """Rank correlation of true and predicted changes over subsets, mean over queries.

    Args:
        retrained: The truth, over subsets of which each removes as many random examples.
        scores: What predicts; its queries are those of the truth, its seeds may be others.
        n_draws: Draws of subsets behind the intervals.
        level: Share of the draws that an interval holds.
        seed: Seed of the draws and of the control.

    Raises:
        ValueError: If there are fewer than 5 subsets, or arrays do not fit.
    """
    return _agreement(retrained, scores, _rank_correlation, n_draws, level, seed)


def leave_out_correlation(
    retrained: Retrained, scores: Scores, *, n_draws: int = 500, level: float = 0.95, seed: int = 0
) -> Agreement:
    """Pearson correlation of true and predicted changes over subsets, mean over queries.

    Queries are not pooled: where one has far larger changes than others, the correlation over all
    of them would be high for any predictions.

    Args:
        retrained: The truth, such as of leave-one-out.
        scores: What predicts; its queries are those of the truth, its seeds may be others.
        n_draws: Draws of subsets behind the intervals.
        level: Share of the draws that an interval holds.
        seed: Seed of the draws and of the control.

    Raises:
        ValueError: If there are fewer than 5 subsets, or arrays do not fit.
    """
    return _agreement(retrained, scores, _linear_correlation, n_draws, level, seed)


Correlation = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From true and predicted changes (change, subset, query) to one number for each change."""


def _agreement(
    retrained: Retrained,
    scores: Scores,
    correlate: Correlation,
    n_draws: int,
    level: float,
    seed: int,
) -> Agreement:
    n_subsets, n_seeds, n_queries = retrained.after.shape
    if n_subsets < 5 or scores.measured.shape[1] != n_queries:
        raise ValueError(
            f"{n_subsets} subsets and {n_queries} queries, scores of {scores.measured.shape[1]} "
            "queries: needed 5 subsets or more and as many queries"
        )
    after = scores.predict(retrained.removed)
    predicted = np.stack([law_change(name, scores.measured, after) for name in SCORED])
    halves = [slice(0, n_seeds // 2), slice(n_seeds // 2, 2 * (n_seeds // 2))]
    true, first, second = (
        np.stack([retrained.change(name, part) for name in SCORED])
        for part in (slice(None), *halves)
    )
    random = np.random.default_rng(seed)
    draws = [random.integers(0, n_subsets, n_subsets) for _ in range(n_draws)]
    spread = np.stack([correlate(true[:, rows], predicted[:, rows]) for rows in draws])
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], axis=0)
    value = correlate(true, predicted)
    return Agreement(
        method=scores.method,
        names=SCORED,
        value=value,
        low=np.minimum(low, value),
        high=np.maximum(high, value),
        ceiling=correlate(first, second),
        control=correlate(true, np.roll(predicted, random.integers(1, n_subsets), axis=1)),
    )


def _pearson(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    """Correlation along an axis; 0 where one side is constant, as it tells nothing apart."""
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    scale = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    return np.where(scale > 0, (a * b).sum(axis) / np.where(scale > 0, scale, 1), 0.0)


def _rank_correlation(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return _pearson(rankdata(true, axis=1), rankdata(predicted, axis=1), 1).mean(1)


def _linear_correlation(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return _pearson(true, predicted, 1).mean(1)


def plot_agreement(results: Sequence[Agreement], *, title: str, **layout: Any) -> viz.Figure:
    """Scores of several methods with the ceilings and the controls beside them."""
    rows: list[tuple[str, float, float, float]] = []
    for place, change in enumerate(SCORED):
        for one in results:
            value, low, high = (float(part[place]) for part in (one.value, one.low, one.high))
            rows.append((f"{change}: {one.method}", value, low, high))
        for name in ("ceiling", "control"):
            level = float(getattr(results[0], name)[place])
            rows.append((f"{change}: {name}", level, level, level))
    labels, value, low, high = zip(*rows, strict=True)
    return viz.bars(
        np.array(value),
        np.array(low),
        np.array(high),
        labels=labels,
        title=title,
        x_title="correlation of predicted and true change",
        controls=[label for label in labels if label.endswith(("ceiling", "control"))],
        **layout,
    )
