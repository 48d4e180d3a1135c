"""The unlearning study on a small random model: every method, every attack, and resuming."""

import json
from pathlib import Path

import numpy as np
import pytest

from hookscope.unlearning_study import (
    TINY,
    UnlearningConfig,
    methods,
    run_unlearning_study,
    summarize,
    to_frame,
)
from hookscope.unlearning_tasks import FACTS, author_task
from tests.tiny_models import tiny_llama


def test_halves_and_sets_share_no_fact_and_every_kind_is_in_both_halves() -> None:
    task = author_task(2, 3, seed=1)
    facts = [*task.relearn, *task.held, *task.retain]
    assert len({(fact.author, fact.kind) for fact in facts}) == len(facts) == 20
    assert len(task.relearn) == len(task.held) == 4
    for half in (task.relearn, task.held):
        assert {fact.kind for fact in half} == set(FACTS)
    assert not {f.author for f in task.forget} & {f.author for f in task.retain}
    assert author_task(2, 3, seed=1) == task != author_task(2, 3, seed=2)
    one = task.held[0]
    assert one.value in one.choice().prompt
    assert one.paraphrase.prompt != one.example.prompt
    with pytest.raises(ValueError, match="n_forget=9, n_retain=9: needed 1 or more each, 16"):
        author_task(9, 9)


@pytest.mark.model
def test_the_tiny_study_runs_every_method_to_its_budget(tmp_path: Path) -> None:
    model = tiny_llama(n_layers=3)
    found = run_unlearning_study(tmp_path, model, config=TINY)
    frame = to_frame(found)
    names = set(methods(model, 1))
    assert set(frame.method) == names | {"none"}
    unlearned = frame[frame.method != "none"]
    np.testing.assert_array_less(np.abs(unlearned.kl / TINY.budgets[0] - 1), 0.1)
    none = frame[frame.method == "none"].iloc[0]
    assert none.asked > 0.5
    assert none.depth == pytest.approx(0, abs=1e-3)
    reference = found["cells"][frame.index[frame.method == "none"][0]]["retrained"]
    assert np.mean(reference["asked"]) < 0.1
    assert np.mean(reference["depth"]) == pytest.approx(1, abs=1e-3)
    assert (unlearned.forget.min() < none.forget - 0.05).all()
    drops = summarize(found, "drop")
    assert set(drops.method) == names
    assert (drops.low <= drops["mean"]).all()
    assert (drops["mean"] <= drops.high).all()
    cell = tmp_path / "seed-0" / "NPO-0.5.json"
    before = json.loads(cell.read_text())
    cell.unlink()
    again = run_unlearning_study(tmp_path, model, config=TINY)  # only this cell is run anew
    after = json.loads(cell.read_text())
    for name in ("kl", "asked", "relearned", "depth"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5)
    assert len(again["cells"]) == len(found["cells"])
    with pytest.raises(ValueError, match="holds a study with other choices"):
        run_unlearning_study(tmp_path, model, config=UnlearningConfig())
