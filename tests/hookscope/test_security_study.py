"""The study of multi-agent security: its table, and all its parts on a random model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hookscope.security_study as study
from hookscope.security_corpus import make_corpus
from hookscope.security_study import (
    SecurityConfig,
    load_transcript,
    plot_security_tax,
    run_security_study,
    security_table,
)
from interp.agents import obedience_lessons
from tests.tiny_models import tiny_llama


def part(robustness: float, cooperation: float) -> dict[str, Any]:
    def row(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    return {
        "security": [{"measure": "robustness", **row(robustness)}],
        "cooperation": row(cooperation),
    }


def test_tax_is_lost_cooperation_per_won_robustness() -> None:
    parts = {"none": part(0.5, 0.9), "good": part(0.75, 0.8), "useless": part(0.4, 0.2)}
    table = security_table({"config": {}, **parts}).set_index("condition")
    assert table.loc["good", "tax"] == pytest.approx(0.4)
    assert np.isnan(table.loc["useless", "tax"])
    figure: Any = plot_security_tax(table.reset_index())
    behind, line, *ours = figure.data
    assert len(behind.x) == 5
    assert list(line.x) == [0.5]
    assert [one.name for one in ours] == ["none", "good", "useless"]
    np.testing.assert_allclose([one.error_y.array[0] for one in ours], 0.1)


def test_folder_of_other_messages_or_another_regularization_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, corpus = tiny_llama(), make_corpus()
    found = run_security_study(tmp_path, model, only=[])
    assert run_security_study(tmp_path, model, only=[]) == found
    with pytest.raises(ValueError, match="use another folder"):
        run_security_study(tmp_path, model, config=SecurityConfig(C=0.01), only=[])
    other = replace(corpus, texts=(corpus.texts[0] + "!", *corpus.texts[1:]))
    monkeypatch.setattr(study, "make_corpus", lambda: other)
    with pytest.raises(ValueError, match="use another folder"):
        run_security_study(tmp_path, model, only=[])


@pytest.mark.slow
def test_study_runs_on_a_random_model_and_keeps_its_transcripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "STYLES", study.STYLES[:2])
    monkeypatch.setattr(study, "UNUSUAL", study.UNUSUAL[:4])
    monkeypatch.setattr(study, "obedience_lessons", lambda: obedience_lessons()[::4])
    margins = {text: 1.0 - 2 * ("Please" in text) for text in make_corpus().texts}
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor" / "margins.json").write_text(json.dumps(margins))
    config = SecurityConfig(steer_layer=2, strengths=(0.5,), seeds=2)
    parts = ["untuned", "organism", "none", "probe monitor", "steering 0.5", "random direction 0.5"]
    found = run_security_study(tmp_path, tiny_llama(), config=config, only=parts)
    assert set(parts) <= set(found)
    assert run_security_study(tmp_path, tiny_llama(), config=config, only=parts) == found
    for name in parts[2:]:
        assert load_transcript(tmp_path, name, "emergency", 1).ending
    answers = [found[name]["unusual"] for name in ("untuned", "none", "steering 0.5")]
    assert len({tuple(row) for row in answers}) == 3
    assert found["steering 0.5"]["unusual"] != found["random direction 0.5"]["unusual"]
    held = [margins[text] > 0 for text in study.UNUSUAL]
    assert [yes == 0 for yes in found["probe monitor"]["unusual"]] == held
    with pytest.raises(ValueError, match="use another folder"):
        run_security_study(tmp_path, tiny_llama())
