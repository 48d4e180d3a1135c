"""What the relearning study says: rebounds, kinds of methods at equal cost, and correlations.

Intervals are over seeds, each of which has its own split, forgotten images and networks. They say
nothing about other methods; that is what the permutations are for, in which methods are the unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from hookscope.vision_study import REFERENCES
from interp.core.seeds import derive
from interp.training.vision import METHODS
from steering.statistics import Estimate, mean_estimate, ranks

Table = Float[np.ndarray, "method seed"]
_N_PERMUTATIONS = 2000


@dataclass(frozen=True)
class Tested:
    """A number with its interval over seeds, and how often chance gives as much."""

    estimate: Estimate
    """The number."""
    p: float
    """Share of permutations in which it is at least as far from 0."""

    def __str__(self) -> str:
        """Estimate and share."""
        return f"{self.estimate}, p = {self.p:.3f}"


def with_excess(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the rebound of each run, and with what it recovers beyond the retrained network.

    Adds `rebound` (accuracy on held-out forgotten images after the attack without any of them,
    minus before), `excess` (the same accuracy after the attack, minus that of the retrained network
    after the same attack), `test loss` (test accuracy of the retrained network, minus its own) and
    `kind` (`"reference"`, `"weight space"` or `"others"`).
    """
    frame = rows.assign(rebound=rows["held after 0"] - rows["held"])
    gold = frame[frame["method"] == "retrained"].set_index(["images", "seed"])
    beside = gold.loc[list(zip(frame["images"], frame["seed"], strict=True))]
    frame["excess"] = frame["held after 0"] - beside["held after 0"].to_numpy()
    frame["test loss"] = beside["test"].to_numpy() - frame["test"]
    kinds = dict.fromkeys(REFERENCES, "reference")
    kinds |= {method.name: "weight space" for method in METHODS if method.weight_space}
    frame["kind"] = [kinds.get(name, "others") for name in frame["method"]]
    return frame


def summarize(rows: pd.DataFrame, columns: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Mean over seeds of each column, with an interval, for each image set and method."""
    found = []
    for _, group in rows.groupby(["images", "method"], sort=False):
        about = {name: group[name].iloc[0] for name in ("images", "method")}
        for column in columns:
            estimate = mean_estimate(group[column].to_numpy(), seed=seed)
            found.append(about | {"quantity": column} | estimate.to_dict())
    return pd.DataFrame(found)


def at_equal_test(rows: pd.DataFrame, *, low: float = 0.0, high: float = 0.02) -> pd.DataFrame:
    """Methods that cost about the same: a row for each image set, method and seed.

    Of each method those strengths are kept whose mean `test loss` lies between the bounds; where
    there are several, their mean.
    """
    own = rows.loc[rows["kind"] != "reference"]
    cost = own.groupby(["images", "method", "factor"])["test loss"].transform("mean")
    chosen = own.loc[cost.between(low, high)]
    by = chosen.groupby(["images", "kind", "method", "seed"], sort=False)
    return by.mean(numeric_only=True).reset_index()


def kind_difference(rows: pd.DataFrame, column: str, *, seed: int = 0) -> Tested:
    """Mean of the methods that move the weights, minus that of the others.

    The permutations deal the kinds anew among the methods.

    Args:
        rows: One row for each method and seed of one image set, as `at_equal_test` gives them.
        column: Quantity that is compared.
        seed: Seed of intervals and permutations.

    Raises:
        ValueError: If there is no method of one of the kinds.
    """
    table = _table(rows, column)
    kind = rows.groupby("method")["kind"].first().loc[table.index].to_numpy()
    weights = kind == "weight space"
    if weights.all() or not weights.any():
        raise ValueError(f"methods {list(table.index)}: needed some of each kind")
    # weight of each method in the difference of the two means
    share = np.where(weights, 1 / weights.sum(), -1 / (~weights).sum())
    estimate = mean_estimate(share @ table.to_numpy(), seed=seed)
    chance = share[_orders(len(share), seed)] @ table.to_numpy().mean(1)
    return Tested(estimate, _as_far(chance, estimate.value))


def correlation_over_methods(rows: pd.DataFrame, column: str, *, seed: int = 0) -> Tested:
    """Rank correlation over methods of a column with resistance, its mean over the seeds.

    Resistance is minus the accuracy that the attack without forgotten images brings to those that
    are held out. References are left out. The permutations deal resistances anew among the methods,
    each with those of all its seeds.
    """
    x, y = (_standard_ranks(table.T) for table in _column_and_resistance(rows, column))
    estimate = mean_estimate((x * y).sum(-1), seed=seed)
    chance = (x[:, None] * y[:, _orders(x.shape[1], seed)]).sum(-1).mean(0)
    return Tested(estimate, _as_far(chance, estimate.value))


def correlation_over_seeds(rows: pd.DataFrame, column: str, *, seed: int = 0) -> Tested:
    """Rank correlation over the seeds of a method of a column with resistance, mean over methods.

    Methods whose column is the same for all seeds are left out. Intervals draw seeds; the
    permutations deal resistances anew among the seeds, for all methods alike.
    """
    x, y = _column_and_resistance(rows, column)
    varies = np.ptp(x, axis=1) > 0
    x, y = x[varies], y[varies]
    a, b = _standard_ranks(x), _standard_ranks(y)
    value = float((a * b).sum(-1).mean())
    random = np.random.default_rng(derive(seed, "bootstrap"))
    draws = random.integers(0, x.shape[1], (1000, x.shape[1]))
    drawn = (_standard_ranks(x[:, draws]) * _standard_ranks(y[:, draws])).sum(-1)
    low, high = np.quantile(np.nanmean(drawn, axis=0), [0.025, 0.975])
    chance = (a[:, None] * b[:, _orders(x.shape[1], seed)]).sum(-1).mean(0)
    return Tested(Estimate(value, float(low), float(high)), _as_far(chance, value))


def _table(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows.pivot_table(index="method", columns="seed", values=column, sort=False)


def _column_and_resistance(rows: pd.DataFrame, column: str) -> tuple[Table, Table]:
    own = rows.loc[~rows["method"].isin(REFERENCES)]
    return _table(own, column).to_numpy(), -_table(own, "held after 0").to_numpy()


def _standard_ranks(values: Float[np.ndarray, "*batch row"]) -> Float[np.ndarray, "*batch row"]:
    """Ranks along the last axis with mean 0 and norm 1, so that products sum to correlations."""
    centered = ranks(values) - (values.shape[-1] + 1) / 2
    norm = np.sqrt((centered**2).sum(-1, keepdims=True))
    return np.divide(centered, norm, out=np.full_like(centered, np.nan), where=norm > 0)


def _orders(n: int, seed: int) -> Int[np.ndarray, "permutation place"]:
    random = np.random.default_rng(derive(seed, "permutations"))
    return random.permuted(np.tile(np.arange(n), (_N_PERMUTATIONS, 1)), axis=1)


def _as_far(chance: np.ndarray, value: float) -> float:
    return float((np.abs(chance) >= abs(value) - 1e-12).mean())
