"""The high-stakes study from end to end on a few shipped pairs: its parts fit and it is resumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hookscope.high_stakes.sets import HighStakesConfig, asked, in_text, sample
from hookscope.high_stakes.study import run_high_stakes_study
from hookscope.high_stakes.tables import threshold_at
from interp import HookedModel, Records, extract
from interp.data import load_fixture
from probes.high_stakes import HighStakes

CONFIG = HighStakesConfig(layers=(1, 2), max_tokens=64, n_prompted=4, max_chars=80)


def _sets() -> HighStakes:
    pairs = load_fixture("high_stakes")
    names = np.unique(pairs.groups)
    slices = [(0, 12), (12, 18), (18, 24), (24, 30)]
    train, synthetic, dev, test = (
        pairs[np.isin(pairs.groups, names[start:stop])] for start, stop in slices
    )
    return HighStakes(
        train=train.as_chat(),
        synthetic=synthetic.as_chat(),
        dev={"mt": dev.as_chat()},
        test={"mt": test.as_chat()},
        n_removed={},
    )


@pytest.mark.model
def test_the_study_runs_and_is_resumed(smollm2: HookedModel, tmp_path: Path) -> None:
    result = run_high_stakes_study(smollm2, _sets(), tmp_path, config=CONFIG)
    shards = sorted(tmp_path.glob("tokens/*/shard-*"))
    before = [path.stat().st_mtime_ns for path in shards]
    again = run_high_stakes_study(smollm2, _sets(), tmp_path, config=CONFIG)
    assert [path.stat().st_mtime_ns for path in shards] == before
    assert again["sets"] == result["sets"]
    assert {row["set"] for row in result["sets"]} == {"synthetic", "mt test"}
    assert result["gain"]["low"] <= result["gain"]["value"] <= result["gain"]["high"]
    assert {row["k"] for row in result["few_shot"]} == {0, 2, 4, 8}
    costs = result["cost"]
    assert costs["paper_monitor_flops_per_token"] / costs["paper_probe_flops_per_token"] > 1e6
    assert (tmp_path / "results.json").exists()


@pytest.mark.model
def test_the_question_changes_nothing_in_the_text(smollm2: HookedModel) -> None:
    records = _sets().test["mt"][:3]
    alone = extract(smollm2, records, layers=2, positions="content")
    both = extract(smollm2, asked(records), layers=2, positions="content")
    own = torch.from_numpy(in_text(both.tokens))
    assert both.tokens.strings[-1].strip() == "are"
    torch.testing.assert_close(both.matrix[own], alone.matrix, atol=1e-3, rtol=1e-3)


@pytest.mark.model
def test_nothing_is_chosen_on_test_sets(smollm2: HookedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 development and 1 test sets"):
        run_high_stakes_study(smollm2, replace(_sets(), dev={}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_samples_are_balanced_and_nested() -> None:
    records = Records.from_texts([str(k) for k in range(40)], labels=[k % 2 for k in range(40)])
    ten, six = sample(records, 10), sample(records, 6)
    assert sum(ten.labels) == 5
    assert {r.text for r in sample(ten, None)} == {r.text for r in ten}
    assert len(six) == 6


@pytest.mark.parametrize("n", [50, 99, 100, 250])
def test_the_threshold_never_exceeds_its_rate(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    assert (scores > threshold_at(scores, 0.01)).mean() <= 0.01
