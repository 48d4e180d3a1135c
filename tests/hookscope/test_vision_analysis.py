"""What the relearning study reports, on rows that are made up."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hookscope.vision_analysis import (
    at_equal_test,
    correlation_over_methods,
    correlation_over_seeds,
    kind_difference,
    summarize,
    with_excess,
)
from interp.training.vision import METHODS

NAMES = [method.name for method in METHODS]
WEIGHT_SPACE = [method.name for method in METHODS if method.weight_space]


def rows_of(
    values: Mapping[str, list[float]], **columns: Mapping[str, list[float]]
) -> pd.DataFrame:
    """Rows of methods whose accuracy after the attack is given by seed."""
    return pd.DataFrame(
        [
            {"images": "digits", "method": m, "factor": 1.0, "seed": s, "held": 0.5, "test": 0.9,
             "held after 0": v} | {name: by[m][s] for name, by in columns.items()}
            for m, numbers in values.items()
            for s, v in enumerate(numbers)
        ]
    )  # fmt: skip


def noise(seed: int, n_seeds: int = 6) -> dict[str, list[float]]:
    random = np.random.default_rng(seed)
    return {name: random.random(n_seeds).tolist() for name in NAMES}


def test_excess_is_beside_the_retrained_network_of_the_same_seed() -> None:
    rows = with_excess(rows_of({"retrained": [0.6, 0.7], "SCRUB": [0.9, 0.8]}))
    own = rows[rows["method"] == "SCRUB"]
    assert own["excess"].tolist() == pytest.approx([0.3, 0.1])
    assert own["rebound"].tolist() == pytest.approx([0.4, 0.3])
    assert rows["kind"].tolist() == ["reference"] * 2 + ["others"] * 2
    table = summarize(rows, ["excess"]).set_index("method")
    assert table.loc["SCRUB", "value"] == pytest.approx(0.2)
    assert table.loc["SCRUB", "low"] < 0.2 < table.loc["SCRUB", "high"]


def test_only_strengths_of_equal_cost_are_compared() -> None:
    rows = with_excess(rows_of({"retrained": [0.6, 0.7], "SCRUB": [0.9, 0.8], "CBFT": [0.6, 0.6]}))
    cost = {"SCRUB": 0.01, "CBFT": 0.05}
    rows["test loss"] = rows["method"].map(cost).fillna(0.0)
    weak = rows[rows["method"] == "SCRUB"].assign(factor=0.5, rebound=0.0, **{"test loss": 0.02})
    found = at_equal_test(pd.concat([rows, weak]))
    assert set(found["method"]) == {"SCRUB"}
    assert found["rebound"].tolist() == pytest.approx([0.2, 0.15])  # means of both strengths


def test_kinds_that_differ_are_told_from_chance() -> None:
    random = noise(0)
    planted = {
        name: [0.2 * v - 0.5 * (name in WEIGHT_SPACE) for v in values]
        for name, values in random.items()
    }
    found = kind_difference(with_gold(planted), "held after 0")
    mean = {name: np.mean(values) for name, values in planted.items()}
    others = [name for name in NAMES if name not in WEIGHT_SPACE]
    expected = np.mean([mean[n] for n in WEIGHT_SPACE]) - np.mean([mean[n] for n in others])
    assert found.estimate.value == pytest.approx(expected)
    assert found.p < 0.01
    assert found.estimate.high < 0
    control = kind_difference(with_gold(random), "held after 0")
    assert control.p > 0.05
    with pytest.raises(ValueError, match="needed some of each kind"):
        kind_difference(with_gold({"SCRUB": [0.1, 0.2]}), "held after 0")


def with_gold(values: Mapping[str, list[float]]) -> pd.DataFrame:
    n = len(next(iter(values.values())))
    rows = with_excess(rows_of({"retrained": [0.5] * n, **values}))
    return rows[rows["kind"] != "reference"]


def test_correlation_over_methods_is_scipys_and_beside_chance() -> None:
    after, column = noise(1), noise(2)
    found = correlation_over_methods(rows_of(after, d=column), "d")
    x, y = (np.array(list(table.values())) for table in (column, after))
    by_seed = [spearmanr(x[:, s], -y[:, s])[0] for s in range(x.shape[1])]
    assert found.estimate.value == pytest.approx(np.mean(by_seed))
    assert found.p > 0.05
    planted = {name: [-v for v in values] for name, values in after.items()}
    found = correlation_over_methods(rows_of(after, d=planted), "d")
    assert found.estimate.value == pytest.approx(1)
    assert found.p < 0.01


def test_correlation_over_seeds_leaves_out_what_does_not_vary() -> None:
    after, column = noise(3), noise(4)
    column["SSD"] = [0.0] * 6
    found = correlation_over_seeds(rows_of(after, d=column), "d")
    own = [name for name in NAMES if name != "SSD"]
    expected = np.mean([spearmanr(column[n], [-v for v in after[n]])[0] for n in own])
    assert found.estimate.value == pytest.approx(expected)
    assert found.estimate.low <= found.estimate.value <= found.estimate.high
    planted = {name: [-v for v in values] for name, values in after.items()}
    assert correlation_over_seeds(rows_of(after, d=planted), "d").p < 0.02
