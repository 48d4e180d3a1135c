"""The relearning study on few digits: every part, resumed, and the numbers that it reports."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hookscope.vision_study import (
    QUICK,
    resistance_correlation,
    run_vision_study,
    summarize,
    with_excess,
)
from interp.training.vision import METHODS

pytestmark = pytest.mark.slow

SMALL = replace(
    QUICK, n_train=200, n_forget=20, n_attack=6, pretrain_epochs=2, unlearn_epochs=1,
    attack_epochs=1,
)  # fmt: skip
FIRST = METHODS[:2]


def test_a_study_has_every_method_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    found = run_vision_study(tmp_path, settings=[SMALL], n_runs=2, methods=FIRST)
    names = ["retrained", "nothing", *(method.name for method in FIRST)]
    assert [row["method"] for row in found["rows"]] == [n for n in names for _ in range(2)]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    rows = {name: tmp_path / "digits" / f"{name}.json" for name in names}
    rows["NegGrad+"].unlink()
    kept = json.loads(rows["retrained"].read_text())
    kept[0]["test"] = 2.0  # shows that it is read and not measured again
    rows["retrained"].write_text(json.dumps(kept))
    again = run_vision_study(tmp_path, settings=[SMALL], n_runs=2, methods=FIRST)
    assert again["rows"][0]["test"] == 2.0
    numbers = [{k: v for k, v in row.items() if k != "cpu_seconds"} for row in again["rows"][1:]]
    assert numbers == [
        {k: v for k, v in row.items() if k != "cpu_seconds"} for row in found["rows"][1:]
    ]
    with pytest.raises(ValueError, match="holds a study with other choices"):
        run_vision_study(tmp_path, settings=[SMALL], n_runs=3, methods=FIRST)


def rows_of(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"images": "digits", "method": m, "seed": s, "held": 0.5, "test": 0.9, "d": v / 2,
             "held after 0": v}
            for m, numbers in values.items()
            for s, v in enumerate(numbers)
        ]
    )  # fmt: skip


def test_excess_is_beside_the_retrained_network_of_the_same_seed() -> None:
    rows = with_excess(rows_of({"retrained": [0.6, 0.7], "a": [0.9, 0.8]}))
    of_a = rows[rows["method"] == "a"]
    assert of_a["excess"].tolist() == pytest.approx([0.3, 0.1])
    assert of_a["rebound"].tolist() == pytest.approx([0.4, 0.3])
    table = summarize(rows, ["excess"]).set_index("method")
    assert table.loc["a", "value"] == pytest.approx(0.2)
    assert table.loc["a", "low"] < 0.2 < table.loc["a", "high"]


def test_resistance_is_low_accuracy_after_the_attack() -> None:
    values = {"retrained": [0.6, 0.7], "a": [0.9, 0.8], "b": [0.7, 0.7], "c": [0.5, 0.6]}
    found = resistance_correlation(rows_of(values), "d")
    assert found.value == pytest.approx(-1)
