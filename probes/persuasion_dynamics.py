"""Where in dialogues persuasion happens: turns, curves over many dialogues, mixes, correlations.

Everything here works on scores that a probe or any other method gave, so that methods are compared
on the same footing. Dialogues are the unit of every interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.spatial.distance import jensenshannon

from interp import viz
from interp.core.seeds import derive
from probes.base import encoded_groups
from probes.evaluation import Estimate, group_draws, summarized

TurnRule = Literal["first", "peak", "rise"]
"""The first score above the threshold (else the peak), the highest score, or the largest rise."""


def turn_of_persuasion(
    scores: Float[np.ndarray, " turn"], *, rule: TurnRule = "peak", threshold: float = 0.0
) -> int:
    """The turn at which the persuadee is persuaded, if ever.

    Args:
        scores: Scores after the persuadee's turns, in order.
        rule: How the turn is found.
        threshold: For `"first"`.

    Returns:
        Index of the turn.

    Examples:
        >>> turn_of_persuasion(np.array([-2.0, 0.5, 0.2, 1.0]), rule="first")
        1
    """
    scores = np.asarray(scores)
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"scores={scores!r}: needed a number for each turn, and one at least")
    if rule == "rise":
        return int(np.argmax(np.diff(scores, prepend=scores[0])))
    above = np.flatnonzero(scores > threshold)
    if rule == "first" and len(above):
        return int(above[0])
    return int(np.argmax(scores))


@dataclass(frozen=True, kw_only=True)
class TurnErrors:
    """How far the turns of persuasion that methods find are from the annotated ones."""

    true: Int[np.ndarray, " dialogue"]
    """Annotated turns, counted in turns of the persuadee."""
    found: Mapping[str, Float[np.ndarray, " dialogue"]]
    """The turns that each method finds."""
    mean: Mapping[str, Estimate]
    """Mean absolute error of each, in turns of the persuadee."""
    exact: Mapping[str, Estimate]
    """Share of dialogues in which it is right."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each method."""
        rows = [
            {
                "method": name,
                "error": self.mean[name].value,
                "error_low": self.mean[name].low,
                "error_high": self.mean[name].high,
                "exact": self.exact[name].value,
                "exact_low": self.exact[name].low,
                "exact_high": self.exact[name].high,
            }
            for name in self.found
        ]
        return pd.DataFrame(rows)


def turn_errors(
    true: Sequence[int] | np.ndarray,
    found: Mapping[str, Sequence[float] | np.ndarray],
    *,
    seed: int = 0,
) -> TurnErrors:
    """Compare turns of persuasion with the annotated ones, one entry for each dialogue.

    Args:
        true: Annotated turns.
        found: Turns by method.
        seed: Of the bootstrap over dialogues.
    """
    truth = np.asarray(true)
    guesses = {name: np.asarray(turns, float) for name, turns in found.items()}
    gaps = {name: np.abs(turns - truth) for name, turns in guesses.items()}
    return TurnErrors(
        true=truth,
        found=guesses,
        mean={name: mean_estimate(gap, seed=seed) for name, gap in gaps.items()},
        exact={name: mean_estimate(gap < 0.5, seed=seed) for name, gap in gaps.items()},
    )


def mean_estimate(
    values: np.ndarray, *, groups: np.ndarray | None = None, n_draws: int = 1000, seed: int = 0
) -> Estimate:
    """A mean with a percentile interval over draws of groups."""
    values = np.asarray(values, float)
    weights = group_draws(encoded_groups(groups, len(values)), n_draws=n_draws, seed=seed)
    total = weights.sum(1)
    draws = weights[total > 0] @ values / total[total > 0]
    return summarized(float(values.mean()), draws, 0.95)


@dataclass(frozen=True, kw_only=True)
class PositionCurve:
    """A score along dialogues of any length, averaged over dialogues."""

    position: Float[np.ndarray, " bin"]
    """Middle of each bin of the relative position, from 0 to 1."""
    mean: tuple[Estimate, ...]
    """Mean score in each bin."""

    def curve(self, *, emphasis: bool = False) -> viz.Curve:
        """A line with its band, for `viz.curves`."""
        return viz.Curve(
            x=self.position,
            y=[e.value for e in self.mean],
            low=[e.low for e in self.mean],
            high=[e.high for e in self.mean],
            emphasis=emphasis,
        )


def position_curve(
    scores: Sequence[Float[np.ndarray, " _"]], *, n_bins: int = 10, seed: int = 0
) -> PositionCurve:
    """The mean of a score by relative position: where in dialogues it happens.

    Args:
        scores: Scores after the turns of each dialogue, in order; NaN is left out.
        n_bins: Bins of the relative position.
        seed: Of the bootstrap over dialogues.
    """
    rows = [np.asarray(row, float) for row in scores]
    where = np.concatenate([(np.arange(len(row)) + 0.5) / len(row) for row in rows])
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    values = np.concatenate(rows)
    bins = np.minimum((where * n_bins).astype(int), n_bins - 1)
    filled = [k for k in range(n_bins) if np.isfinite(values[bins == k]).any()]
    means = []
    for k in filled:
        chosen = (bins == k) & np.isfinite(values)
        means.append(mean_estimate(values[chosen], groups=owner[chosen], seed=derive(seed, k)))
    return PositionCurve(position=(np.array(filled) + 0.5) / n_bins, mean=tuple(means))


@dataclass(frozen=True, kw_only=True)
class StrategyMix:
    """Shares of strategies at each turn of the persuader: labels against a method."""

    strategies: tuple[str, ...]
    """Columns."""
    true: Float[np.ndarray, "turn strategy"]
    """Shares of the labels."""
    found: Float[np.ndarray, "turn strategy"]
    """Shares that the method gives."""
    distance: Float[np.ndarray, " turn"]
    """Jensen-Shannon distance between them, from 0 to 1 (logarithms to base 2)."""

    def plot(self, **layout: Any) -> viz.Figure:
        """Shares against the turn: labels as lines, the method dashed."""
        turns = np.arange(1, len(self.true) + 1)
        lines = {}
        for k, name in enumerate(self.strategies):
            lines[name] = viz.Curve(x=turns, y=self.true[:, k])
            lines[f"{name}, probe"] = viz.Curve(x=turns, y=self.found[:, k], dash="dot")
        return viz.curves(
            lines,
            title="Strategies along dialogues",
            x_title="turn of the persuader",
            y_title="share of sentences",
            **layout,
        )


def strategy_mix(
    turns: Int[np.ndarray, " piece"],
    labels: np.ndarray,
    probabilities: Float[np.ndarray, "piece strategy"],
    *,
    strategies: Sequence[str],
    n_turns: int = 10,
) -> StrategyMix:
    """Compare the mix of strategies at each turn, over all dialogues.

    Args:
        turns: Turn of each piece, counted in turns of the persuader from 0.
        labels: Strategy of each piece.
        probabilities: What a method gives instead; rows sum to 1.
        strategies: The columns.
        n_turns: Later turns count as the last one.
    """
    at = np.minimum(turns, n_turns - 1)
    true = np.asarray(labels)[:, None] == np.asarray(strategies)
    shares = [
        np.stack([matrix[at == turn].mean(0) for turn in range(n_turns) if (at == turn).any()])
        for matrix in (true, probabilities)
    ]
    return StrategyMix(
        strategies=tuple(strategies),
        true=shares[0],
        found=shares[1],
        distance=np.array([jensen_shannon(p, q) for p, q in zip(*shares, strict=True)]),
    )


def jensen_shannon(p: Float[np.ndarray, " k"], q: Float[np.ndarray, " k"]) -> float:
    """Jensen-Shannon distance of two distributions, from 0 to 1."""
    return float(np.nan_to_num(jensenshannon(p, q, base=2)))


def correlations(
    traits: pd.DataFrame,
    shares: pd.DataFrame,
    *,
    groups: np.ndarray | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Pearson correlations of personality and strategy, with intervals.

    Args:
        traits: A column for each trait, a row for each dialogue.
        shares: A column for each strategy, likewise.
        groups: Group of each dialogue, such as the user; by default each is one of its own.
        n_draws: Draws of the bootstrap.
        seed: Which draws.

    Returns:
        One row for each trait and strategy: `correlation`, `low` and `high`. With fifteen pairs,
        one interval in twenty is expected to miss 0 by chance.
    """
    weights = group_draws(encoded_groups(groups, len(traits)), n_draws=n_draws, seed=seed)
    rows = []
    for trait in traits:
        for strategy in shares:
            value, *draws = _pearson(
                traits[trait].to_numpy(float),
                shares[strategy].to_numpy(float),
                np.concatenate([np.ones((1, len(traits))), weights]),
            )
            estimate = summarized(float(value), np.array(draws), 0.95)
            rows.append(
                {
                    "trait": trait,
                    "strategy": strategy,
                    "correlation": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                }
            )
    return pd.DataFrame(rows)


def _pearson(
    x: np.ndarray, y: np.ndarray, weights: Float[np.ndarray, "draw example"]
) -> Float[np.ndarray, " draw"]:
    """Correlation under each row of weights."""
    share = weights / weights.sum(1, keepdims=True)
    mean = share.__matmul__
    covariance = mean(x * y) - mean(x) * mean(y)
    spread = (mean(x * x) - mean(x) ** 2) * (mean(y * y) - mean(y) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(spread)
