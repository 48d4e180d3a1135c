"""How the law of a measurement changes when training examples are left out.

Training with another seed gives another model, so that a measurement has a law. Distributional
influence is a difference between the laws with and without some examples (Mlodozeniec et al.
2025): of the mean, the variance, a quantile, or a distance of the two. All differences here are
"without the examples" minus "with them"; distances have no sign.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp import viz

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From samples before and after, (..., seed) each, to a difference (...)."""


def mean_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Change of the mean."""
    return np.asarray(after.mean(-1) - before.mean(-1))


def variance_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Change of the variance (of the sample, divided by n - 1)."""
    return np.asarray(after.var(-1, ddof=1) - before.var(-1, ddof=1))


def quantile_change(q: float) -> Change:
    """Change of the quantile q, between 0 and 1."""

    def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return np.asarray(np.quantile(after, q, axis=-1) - np.quantile(before, q, axis=-1))

    return change


def wasserstein2(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Wasserstein-2 distance of two samples of one size: between their sorted values."""
    return np.asarray(np.sqrt(((np.sort(after, -1) - np.sort(before, -1)) ** 2).mean(-1)))


def kolmogorov_smirnov(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Largest difference of the two distribution functions, from 0 to 1."""
    before, after = np.broadcast_arrays(before, after)
    values = np.concatenate([before, after], -1)
    order = values.argsort(-1)
    steps = np.where(order < before.shape[-1], 1 / before.shape[-1], -1 / after.shape[-1])
    gaps = np.abs(steps.cumsum(-1))
    ordered = np.take_along_axis(values, order, -1)
    gaps[..., :-1][ordered[..., 1:] == ordered[..., :-1]] = 0  # only behind the last of equals
    return np.asarray(gaps.max(-1))


CHANGES: Mapping[str, Change] = {
    "mean": mean_change,
    "variance": variance_change,
    "quantile 0.1": quantile_change(0.1),
    "quantile 0.9": quantile_change(0.9),
    "W2": wasserstein2,
    "KS": kolmogorov_smirnov,
}
"""The differences that are reported."""


def law_change(
    name: str,
    before: Float[np.ndarray, "seed query"],
    after: Float[np.ndarray, "subset seed query"],
) -> Float[np.ndarray, "subset query"]:
    """A change of `CHANGES` at each query and for each subset that is left out."""
    x, y = np.broadcast_arrays(before.T[None], after.transpose(0, 2, 1))
    return CHANGES[name](x, y).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class DistributionalInfluence:
    """Changes of laws by groups of left-out examples, with intervals over seeds."""

    names: tuple[str, ...]
    """Names of the changes."""
    groups: tuple[str, ...]
    """What was left out."""
    value: Float[np.ndarray, "change group query"]
    """Changes of the law at each query."""
    low: Float[np.ndarray, "change group query"]
    """Lower ends of the intervals."""
    high: Float[np.ndarray, "change group query"]
    """Upper ends."""
    before: Float[np.ndarray, "seed query"]
    """Measurements with all examples."""
    after: Float[np.ndarray, "group seed query"]
    """Measurements without those of a group."""

    def of(self, name: str) -> Float[np.ndarray, "group query"]:
        """One of the changes."""
        return self.value[self.names.index(name)]

    def to_frame(self) -> pd.DataFrame:
        """One row for each change, group and query."""
        axes = [self.names, self.groups, range(self.value.shape[2])]
        index = pd.MultiIndex.from_product(axes, names=["change", "group", "query"])
        columns = {"value": self.value, "low": self.low, "high": self.high}
        data = {name: array.ravel() for name, array in columns.items()}
        return pd.DataFrame(data, index=index).reset_index()

    def plot(self, *, query: int = 0, n_named: int = 3, **layout: Any) -> viz.Figure:
        """Change of the mean against change of the variance at a query, a dot for each group."""
        x, y = self.of("mean")[:, query], self.of("variance")[:, query]
        far = np.argsort(-self.of("W2")[:, query])[:n_named]
        return viz.scatter(
            x,
            y,
            labels=self.groups,
            named=[self.groups[index] for index in far],
            title=f"What leaving examples out does to the law at query {query}",
            x_title="change of the mean",
            y_title="change of the variance",
            **layout,
        )

    def plot_laws(self, group: str, *, query: int = 0, **layout: Any) -> viz.Figure:
        """Distribution functions at a query with and without a group."""
        after = self.after[self.groups.index(group)]
        laws = {"all examples": self.before[:, query], f"without {group}": after[:, query]}
        return plot_laws(laws, title=f"The law at query {query}", **layout)


def distributional_influence(
    before: Float[np.ndarray, "seed query"],
    after: Float[np.ndarray, "group seed query"],
    *,
    groups: Sequence[str] | None = None,
    n_draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> DistributionalInfluence:
    """Compare laws before and after, predicted (`Scores.predict`) or retrained (`leave_out`).

    Args:
        before: Measurements of runs with all examples.
        after: Measurements of the runs of the same seeds without each group.
        groups: Names of the groups; their numbers by default.
        n_draws: Draws of seeds, the same before and after, behind the percentile intervals.
        level: Share of the draws that an interval holds.
        seed: Seed of the draws.

    Raises:
        ValueError: If there are fewer than 3 seeds or names do not fit.
    """
    n_groups, n_seeds = after.shape[:2]
    if n_seeds < 3:
        raise ValueError(f"{n_seeds} seeds: needed 3 or more to speak of a law")
    names = tuple(groups) if groups is not None else tuple(map(str, range(n_groups)))
    if len(names) != n_groups:
        raise ValueError(f"groups has {len(names)} names, but after has {n_groups} groups")
    value = _changes(before, after)
    random = np.random.default_rng(seed)
    draws = [random.integers(0, n_seeds, n_seeds) for _ in range(n_draws)]
    spread = np.stack([_changes(before[rows], after[:, rows]) for rows in draws])
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return DistributionalInfluence(
        names=tuple(CHANGES),
        groups=names,
        value=value,
        low=np.minimum(low, value),
        high=np.maximum(high, value),
        before=before,
        after=after,
    )


def _changes(before: np.ndarray, after: np.ndarray) -> Float[np.ndarray, "change group query"]:
    return np.stack([law_change(name, before, after) for name in CHANGES])


def plot_laws(
    laws: Mapping[str, np.ndarray], *, title: str, x_title: str = "measurement", **layout: Any
) -> viz.Figure:
    """Distribution functions of samples, such as the predicted and the true law at a query."""
    lines = {}
    for name, sample in laws.items():
        y = (np.arange(len(sample)) + 0.5) / len(sample)
        lines[name] = viz.Curve(x=np.sort(sample), y=y, control=name == "all examples")
    return viz.curves(
        lines, title=title, x_title=x_title, y_title="share of runs at or below", **layout
    )
