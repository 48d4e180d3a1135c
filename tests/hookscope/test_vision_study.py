"""The relearning study on few digits: every part, resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hookscope.vision_study import QUICK, run_vision_study
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
    labels = [*names, "NegGrad+ x0.5"]
    assert [row["method"] for row in found["rows"]] == [
        n for n in (*names, "NegGrad+") for _ in range(2)
    ]
    assert [row["factor"] for row in found["rows"]] == [1.0] * 8 + [0.5] * 2
    assert "held after 5" in found["rows"][0]
    assert "held after 5" not in found["rows"][-1]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    rows = {label: tmp_path / "digits" / f"{label}.json" for label in labels}
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
