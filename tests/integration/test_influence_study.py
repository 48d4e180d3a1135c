from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hookscope.influence_study import InfluenceConfig, run_influence_study
from hookscope.influence_tasks import digits, mislabeled
from interp import HookedModel

TINY = InfluenceConfig(
    n_probe_seeds=32,
    n_train=40,
    n_queries=2,
    n_steps=12,
    n_score_seeds=3,
    n_subsets=5,
    n_removed=4,
    n_truth_seeds=6,
    n_points=6,
    n_probe=14,
)
PARTS = ("digits", "digits subsets", "digits one by one", "probe")


@pytest.mark.model
def test_the_study_runs_and_is_resumed(tmp_path: Path, smollm2: HookedModel) -> None:
    found = run_influence_study(tmp_path, model=smollm2, config=TINY, only=PARTS)
    assert found["digits"]["forward_error"] < 1e-4
    assert {row["method"] for row in found["digits subsets"]["lds"]} >= {"unrolled", "TracIn"}
    assert len(found["probe"]["rows"]) == 6
    written = (tmp_path / "probe.json").stat().st_mtime_ns
    again = run_influence_study(tmp_path, model=smollm2, config=TINY, only=PARTS)
    assert again == found
    assert (tmp_path / "probe.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="other choices; use another folder"):
        run_influence_study(tmp_path, config=replace(TINY, seed=1))
    with pytest.raises(ValueError, match=r"no parts \['probe'\]: needed some of"):
        run_influence_study(tmp_path, config=TINY, only=["probe"])


def test_planted_labels_are_wrong_and_only_they() -> None:
    images = digits(50)
    moved = mislabeled(images, 5)
    changed = images.problem.targets != moved.problem.targets
    assert changed.tolist() == [True] * 5 + [False] * 45
    assert torch.equal(images.problem.inputs, moved.problem.inputs)
