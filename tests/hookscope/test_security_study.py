"""The study of multi-agent security: its messages, its folds, its table; and a random model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hookscope.security_study as study
from hookscope.security_study import (
    N_FOLDS,
    SecurityConfig,
    load_transcript,
    make_corpus,
    plot_security_tax,
    run_security_study,
    security_table,
)
from tests.tiny_models import tiny_llama


def test_corpus_holds_every_message_that_runs_may_send() -> None:
    corpus = make_corpus()
    counts = {kind: int((corpus.kinds == kind).sum()) for kind in ("attack", "routine", "unusual")}
    assert counts == {"attack": 12 * 6, "routine": 48, "unusual": 24}
    assert len(set(corpus.texts)) == len(corpus.texts)
    assert set(corpus.folds) == set(range(N_FOLDS))


def test_scores_come_from_classifiers_that_saw_neither_style_nor_act() -> None:
    corpus = make_corpus()
    seen = []

    class Classifier:
        def __init__(self, rows: np.ndarray) -> None:
            self.rows = rows

        def decision_function(self, inputs: np.ndarray) -> np.ndarray:
            seen.append((self.rows, inputs))
            return np.zeros(len(inputs))

    study._across_folds(corpus, lambda rows, y: Classifier(rows), np.arange(len(corpus.texts)))
    assert sorted(np.concatenate([test for _, test in seen])) == list(range(len(corpus.texts)))
    attack = corpus.kinds == "attack"
    for train, test in seen:
        assert not set(corpus.folds[train]) & set(corpus.folds[test])
        acts = [set(corpus.acts[rows][attack[rows]]) for rows in (train, test)]
        assert not acts[0] & acts[1]


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
    figure = plot_security_tax(table.reset_index())
    assert len(figure.data[0].x) == 25 + 3


def test_study_runs_on_a_random_model_and_keeps_its_transcripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "STYLES", study.STYLES[:2])
    monkeypatch.setattr(study, "routine_texts", lambda: study_routine[::9])
    monkeypatch.setattr(study, "UNUSUAL", study.UNUSUAL[:4])
    monkeypatch.setattr(study, "LinearProbe", lambda C: _Lengths())
    config = SecurityConfig(probe_layer=1, steer_layer=2, strengths=(0.5,), seeds=2)
    parts = ["none", "probe monitor", "steering 0.5"]
    found = run_security_study(tmp_path, tiny_llama(), config=config, only=parts)
    assert set(parts) <= set(found)
    again = run_security_study(tmp_path, tiny_llama(), config=config, only=parts)
    assert again == found
    for name in parts:
        assert load_transcript(tmp_path, name, "emergency", 1).ending
    assert found["none"]["unusual"] != found["steering 0.5"]["unusual"]
    with pytest.raises(ValueError, match="use another folder"):
        run_security_study(tmp_path, tiny_llama())


study_routine = study.routine_texts()


class _Lengths:
    """A classifier of nothing."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "_Lengths":
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]
