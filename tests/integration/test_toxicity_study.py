"""The toxicity study from end to end, on a small random model and texts of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hookscope.toxicity.config import QUICK
from hookscope.toxicity.hub_classifier import load_hub_classifier
from hookscope.toxicity.materials import Materials
from hookscope.toxicity.study import run_toxicity_study
from interp import Records
from interp.training import Preference
from tests.tiny_models import save_classifier, tiny_llama

pytestmark = pytest.mark.slow

PEFT = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
RUNS = ["seed 0", "shuffled", "all maps"]


def situations(n: int) -> Records:
    """What has a "q" is dangerous."""
    texts = [f"{'qqq' if k % 2 else 'hhh'} {k}" for k in range(n)]
    return Records.from_texts(texts, labels=[k % 2 for k in range(n)])


@pytest.fixture(scope="module")
def materials() -> Materials:
    """Comments with a "q" are toxic, and so are continuations with one."""
    rng = np.random.default_rng(0)
    letters = list("abcdefg")

    def comments(n: int) -> Records:
        labels = np.arange(n) % 2
        words = [
            "".join(rng.choice(letters, 6)) + (" qqq" if toxic else " hhh") for toxic in labels
        ]
        return Records.from_texts([f"{w} {k}" for k, w in enumerate(words)], labels=labels.tolist())

    return Materials(
        comments=comments(24),
        test_comments=comments(12),
        other_comments=comments(40),
        preferences=tuple(
            Preference(prompt=f"a {c}", chosen=" hh", rejected=" qq") for c in "bcdefghi"
        ),
        prompts=tuple(f"the {c} was" for c in "abcdef"),
        neutral=("one two three four", "five six seven eight"),
        words=("q", "z"),
        stakes=situations(24),
    )


def test_every_part_runs_and_is_resumed(tmp_path: Path, materials: Materials) -> None:
    model, other = tiny_llama(), tiny_llama(seed=1)
    config = replace(QUICK, n_top=8)
    judge = load_hub_classifier(str(save_classifier(tmp_path / "judge")))
    options = {"contrast": other, "second_judge": judge, "config": config}
    part = run_toxicity_study(model, materials, tmp_path, only=["neurons"], **options)
    assert list(part) == ["config", "neurons"]
    found = run_toxicity_study(model, materials, tmp_path, **options)
    assert found["neurons"] == part["neurons"]
    assert found["probes"]["words alone"]["value"] == 1
    training = found["training"]["runs"]
    assert list(training) == RUNS
    assert all(run["loss"][0] == pytest.approx(np.log(2), abs=1e-5) for run in training.values())
    for run in training.values():
        second = run[f"continuations, {judge.name}"]
        assert 0 <= second["low"] <= second["value"] <= second["high"] <= 1
        assert second != run["continuations"]
    for row in found["groups"]["rows"]:
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert sum(row["shrunk"].values()) == pytest.approx(1)
    assert len(found["groups"]["random_directions"]) == config.n_random
    there = {row["group"]: row["effect"] for row in found["patching"]["into_base"]}
    assert there["all neurons"] == pytest.approx(1, abs=0.01)  # nothing else was trained
    both = {row["group"]: row["effect"] for row in found["all maps"]["into_base"]}
    assert both["MLP and attention outputs"] == pytest.approx(1, abs=0.01)
    second = found["second pair"]
    assert sum(second["groups"]["shares"].values()) == pytest.approx(1)
    assert second["groups"]["balance"] > 0  # the direction in which the change goes
    assert second["answers"]["auroc"]["before"]["value"] != 0.5
    brought = {row["group"]: row["effect"] for row in second["patching"]["into_base"]}
    assert brought["all neurons"] == pytest.approx(1, abs=0.01)
    assert set(found["contrast"]["ablated"]) == {"vocabulary", "cosine", "random"}
    assert found["methods"]["budget"] == pytest.approx(training["seed 0"]["kl"]["value"])
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("m*.json")}
    assert run_toxicity_study(model, materials, tmp_path, **options) == found
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("m*.json")} == written
    with pytest.raises(ValueError, match="other choices; use another folder"):
        run_toxicity_study(model, materials, tmp_path, config=replace(config, seed=1))
    with pytest.raises(ValueError, match=r"no parts \['poems'\]: needed some of"):
        run_toxicity_study(model, materials, tmp_path, config=config, only=["poems"])
