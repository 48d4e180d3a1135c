"""What scores are good for: brittleness, pruning, and finding wrong labels, each by retraining.

Each compares removal by scores with removal at random; wrong labels are planted, so that the
truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from sklearn.metrics import roc_auc_score

from interp import viz
from interp.influence.ensemble import Training
from interp.influence.evaluation import leave_out
from interp.influence.problem import Problem, Queries
from interp.influence.scores import Scores, without_each

RANDOM = "at random"
"""Name of the control."""


@dataclass(frozen=True, kw_only=True)
class RemovalResult:
    """An outcome after retraining without more and more examples, chosen in different ways."""

    outcome: str
    """What was measured."""
    counts: tuple[int, ...]
    """Examples that were removed."""
    ways: tuple[str, ...]
    """How they were chosen; the last is at random."""
    value: Float[np.ndarray, "way count"]
    """The outcome."""
    low: Float[np.ndarray, "way count"]
    """Lower ends of 95% intervals."""
    high: Float[np.ndarray, "way count"]
    """Upper ends."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each way and count."""
        index = pd.MultiIndex.from_product([self.ways, self.counts], names=["way", "removed"])
        columns = {"value": self.value, "low": self.low, "high": self.high}
        data = {name: array.ravel() for name, array in columns.items()}
        return pd.DataFrame(data, index=index).reset_index()

    def plot(self, **layout: Any) -> viz.Figure:
        """The outcome against the number of removed examples."""
        lines = {
            way: viz.Curve(
                x=np.array(self.counts),
                y=self.value[row],
                low=self.low[row],
                high=self.high[row],
                control=way == RANDOM,
            )
            for row, way in enumerate(self.ways)
        }
        return viz.curves(
            lines,
            title=f"{self.outcome.capitalize()} after removal",
            x_title="training examples removed",
            y_title=f"{self.outcome} (95% interval)",
            **layout,
        )


def removal_effects(scores: Scores) -> Float[np.ndarray, "query example"]:
    """Predicted change of the mean measurement at each query when one example is removed."""
    after = scores.predict(without_each(range(scores.n_examples), scores.n_examples))
    return (after.mean(1) - scores.measured.mean(0)).T


def brittleness(
    problem: Problem,
    training: Training,
    queries: Queries,
    scores: Scores,
    *,
    counts: Sequence[int],
    seeds: Sequence[int],
    seed: int = 0,
) -> RemovalResult:
    """Share of queries that are lost when the examples that support them most are removed.

    A query is lost when its mean measurement is no longer above 0; those that are not above 0 to
    begin with are left out.

    Args:
        problem: What to train.
        training: How.
        queries: Measured by a margin: above 0 where the model is right.
        scores: Scores of the same queries.
        counts: Numbers of examples to remove for each query.
        seeds: Seeds of the runs.
        seed: Seed of the random removal.

    Raises:
        ValueError: If no query is right to begin with.
    """
    n, effects = problem.n_examples, removal_effects(scores)
    orders = {
        scores.method: effects.argsort(1),
        RANDOM: np.random.default_rng(seed).random(effects.shape).argsort(1),
    }
    right = np.flatnonzero(scores.measured.mean(0) > 0)
    if not len(right):
        raise ValueError("no query has a mean measurement above 0; measure a margin")
    lost = np.zeros((2, len(counts), len(right)))
    for way, order in enumerate(orders.values()):
        masks = [_first(order[query], count, n) for count in counts for query in right]
        after = leave_out(problem, training, queries, np.stack(masks), seeds=seeds).after
        means = after.mean(1).reshape(len(counts), len(right), -1)
        lost[way] = np.take_along_axis(means, right[None, :, None], 2)[:, :, 0] <= 0
    return _result("share of queries lost", counts, tuple(orders), lost, seed)


def prune(
    problem: Problem,
    training: Training,
    queries: Queries,
    scores: Scores,
    *,
    counts: Sequence[int],
    seeds: Sequence[int],
    seed: int = 0,
) -> RemovalResult:
    """Mean measurement at held-out queries after removing what is predicted to be worst for it.

    Args:
        problem: What to train.
        training: How.
        queries: Held-out examples, measured by a loss (lower is better).
        scores: Scores of other queries, measured by the same loss: these choose what to remove.
        counts: Numbers of examples to remove.
        seeds: Seeds of the runs.
        seed: Seed of the random removal.
    """
    n, effect = problem.n_examples, removal_effects(scores).mean(0)
    orders = {
        f"harmful by {scores.method}": effect.argsort(),
        f"helpful by {scores.method}": (-effect).argsort(),
        RANDOM: np.random.default_rng(seed).permutation(n),
    }
    masks = [_first(order, count, n) for order in orders.values() for count in counts]
    after = leave_out(problem, training, queries, np.stack(masks), seeds=seeds).after
    runs = after.mean(2).reshape(len(orders), len(counts), len(seeds))
    return _result("mean measurement", counts, tuple(orders), runs, seed)


def self_influence(scores: Scores) -> Float[np.ndarray, " example"]:
    """Mean drop of an example's own loss with its weight: high where only it asks for its label.

    Args:
        scores: Scores whose queries are the training examples, measured by their loss.

    Raises:
        ValueError: If there are not as many queries as examples.
    """
    if scores.values.shape[1] != scores.n_examples:
        raise ValueError(
            f"{scores.values.shape[1]} queries and {scores.n_examples} examples: needed the "
            "training examples as queries"
        )
    return -np.einsum("snn->n", scores.values) / len(scores.values)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well a number tells planted wrong labels from right ones."""

    auroc: float
    """Area under the ROC curve; 0.5 is chance."""
    low: float
    """Lower end of the 95% interval over examples."""
    high: float
    """Upper end."""


def detect_mislabeled(
    values: Float[np.ndarray, " example"],
    wrong: Bool[np.ndarray, " example"],
    *,
    n_draws: int = 500,
    seed: int = 0,
) -> Detection:
    """AUROC of a number, such as self-influence or the loss, for wrong labels.

    Args:
        values: A number for each training example, higher where a label looks wrong.
        wrong: Whose labels are wrong.
        n_draws: Bootstrap draws of examples within both classes.
        seed: Seed of the draws.

    Raises:
        ValueError: If all labels are right or all are wrong.
    """
    if wrong.all() or not wrong.any():
        raise ValueError(f"{int(wrong.sum())} of {len(wrong)} labels are wrong: needed both kinds")
    random, classes = np.random.default_rng(seed), [np.flatnonzero(wrong), np.flatnonzero(~wrong)]
    draws = []
    for _ in range(n_draws):
        rows = np.concatenate([random.choice(part, len(part)) for part in classes])
        draws.append(roc_auc_score(wrong[rows], values[rows]))
    low, high = np.quantile(draws, [0.025, 0.975])
    value = float(roc_auc_score(wrong, values))
    return Detection(auroc=value, low=min(float(low), value), high=max(float(high), value))


def _first(order: Int[np.ndarray, " example"], count: int, n: int) -> np.ndarray:
    mask = np.zeros(n, dtype=bool)
    mask[order[:count]] = True
    return mask


def _result(
    outcome: str,
    counts: Sequence[int],
    ways: tuple[str, ...],
    units: Float[np.ndarray, "way count unit"],
    seed: int,
) -> RemovalResult:
    """Means over units (queries or seeds), with bootstrap intervals over them."""
    n_units = units.shape[2]
    draws = np.random.default_rng(seed).integers(0, n_units, (500, n_units))
    low, high = np.quantile(units[:, :, draws].mean(3), [0.025, 0.975], axis=2)
    value = units.mean(2)
    return RemovalResult(
        outcome=outcome,
        counts=tuple(counts),
        ways=ways,
        value=value,
        low=np.minimum(low, value),
        high=np.maximum(high, value),
    )
