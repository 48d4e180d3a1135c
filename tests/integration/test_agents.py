"""Agents on the embedded model: what a small model writes does not break the arena."""

import pytest

from interp import HookedModel, Records, extract
from interp.agents import (
    STYLES,
    UNUSUAL,
    HookedBackend,
    Transcript,
    attack_texts,
    make_lab,
    replay,
    run_arena,
)
from probes import LinearProbe, ProbeMonitor

pytestmark = pytest.mark.model


def test_small_model_plays_all_seven_agents_with_a_monitor(
    smollm2: HookedModel, tmp_path: object
) -> None:
    texts = [attack_texts(style)[1] for style in STYLES[:4]] + list(UNUSUAL[:4])
    records = Records.from_texts(texts, labels=[1] * 4 + [0] * 4)
    activations = extract(smollm2, records, layers=12, pooling="mean")
    monitor = ProbeMonitor(LinearProbe(C=0.01).fit(activations), positions="all")
    backend = HookedBackend(smollm2, monitor=monitor)
    lab = make_lab(STYLES[0], max_steps=2)
    path = f"{tmp_path}/run.jsonl"
    run = run_arena(lab, backend, seed=1, path=path)
    assert 1 <= len(run.steps) <= 2
    assert all("probe" in step.scores for step in run.steps)
    assert Transcript.load(path) == run == replay(lab, run)
    assert smollm2.hooks.active == ()
