"""The costs of an implementation: none where nothing is changed, and what is planted is found."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hookscope.surrogate_costs as module
from hookscope.kept_weights import SCHEMA, keep_weights, kept_model
from hookscope.surrogate_costs import QUESTIONS, costs, first_words
from interp.agents.hooked import first_tokens
from interp.core.files import save_tensors
from interp.core.interventions import add
from tests.tiny_models import tiny_llama


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUESTIONS", QUESTIONS[:6])


def test_there_are_forty_questions_of_their_own() -> None:
    assert len({question for question, *_ in QUESTIONS}) == len(QUESTIONS) == 40
    assert all(right != wrong for _, right, wrong in QUESTIONS)


def test_nothing_changed_costs_nothing() -> None:
    model = tiny_llama()
    plain = first_words(model)
    found = costs(model, plain, first_words(model))
    assert found["kl"]["value"] == found["changed"]["value"] == 0
    assert plain.exp().sum(-1).tolist() == pytest.approx([1.0] * 6, abs=1e-5)


def test_an_intervention_and_an_instruction_change_the_first_word() -> None:
    model = tiny_llama()
    assert model.d_model is not None
    plain, push = first_words(model), add(4 * torch.ones(model.d_model), layers=1)
    for changed in (first_words(model, [push]), first_words(model, instruction="Be brief.")):
        found = costs(model, plain, changed)
        expected = (plain.exp() * (plain - changed)).sum(-1).numpy()
        assert found["kl"]["value"] == pytest.approx(float(np.mean(expected)), abs=1e-6)
        assert found["changed"]["value"] == 1


def test_right_answers_are_counted() -> None:
    model = tiny_llama()
    plain = first_words(model)
    ids = [first_tokens(model, answers) for _, *answers in QUESTIONS[:6]]
    planted = plain.clone()
    for row, (right, wrong) in enumerate(ids):
        best, worst = (right, wrong) if row < 4 else (wrong, right)
        planted[row, best], planted[row, worst] = -0.1, -9.0
    assert costs(model, plain, planted)["accuracy"]["value"] == pytest.approx(4 / 6)


def test_kept_weights_give_the_tuned_model(tmp_path: Path) -> None:
    plain, tuned = tiny_llama(), tiny_llama()
    with torch.no_grad():
        next(iter(tuned.module.parameters())).add_(1.0)
    keep_weights(tmp_path / "w.safetensors", plain, tuned, about={"losses": [2.0, 1.0]})
    again, about = kept_model(tmp_path / "w.safetensors", plain, name="tuned")
    assert torch.equal(first_words(again), first_words(tuned))
    assert not torch.equal(first_words(again), first_words(plain))
    assert about["losses"] == [2.0, 1.0]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = save_tensors(tmp_path / "w.safetensors", {"other": torch.ones(1)}, {"schema": SCHEMA})
    with pytest.raises(ValueError, match="holds 'other', which"):
        kept_model(path, tiny_llama(), name="tuned")
