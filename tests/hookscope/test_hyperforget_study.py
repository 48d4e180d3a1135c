"""The HyperForget study with tiny sizes: every part, resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hookscope.hyperforget_study import NETWORKS, QUICK, run_hyperforget_study
from interp.training.hyperforget import DiffusionConfig

pytestmark = pytest.mark.slow

TINY = replace(
    QUICK, n_runs=22, n_samples=3, n_given=(2,), attack_steps=2, classes=(0,),
    diffusion=DiffusionConfig(d_model=8, n_layers=1, n_heads=1, n_noise_steps=50, n_steps=3),
)  # fmt: skip


def test_both_networks_stand_beside_their_controls(tmp_path: Path) -> None:
    found = run_hyperforget_study(tmp_path, config=TINY)
    assert list(found["parts"]) == [f"digits, {name}" for name in NETWORKS]
    for part, n_losses in zip(found["parts"].values(), (2, 10), strict=True):
        assert len(part["alignment"]["r2"]) == n_losses
        assert len(part["alignment"]["r2 of shuffled prompts"]) == n_losses
        assert len(part["alignment"]["r2 of the nearest in the bank"]) == n_losses
        assert set(part["alignment"]["distance to the bank"]) == {"sampled", "held out"}
        for row in part["classes"]:
            assert row["retrained"]["forget"]["value"] < 0.05
            assert row["knowing"]["forget"]["value"] > 0.5
            assert {"forget after 2", "membership"} <= set(row["sampled"])
            assert set(row["sampled"]) == set(row["asked to know"])
    path = tmp_path / "digits, two losses.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"read": True}))
    again = run_hyperforget_study(tmp_path, config=TINY)
    assert again["parts"]["digits, two losses"]["read"]
    with pytest.raises(ValueError, match="holds a study with other choices"):
        run_hyperforget_study(tmp_path, config=replace(TINY, seed=1))
