"""The safety study on a small random model: every part, the numbers it reports, and resuming."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hookscope.safety_study import (
    TINY,
    average_minus_interpolation,
    mean_over_seeds,
    run_safety_study,
    summarize,
    to_frame,
)
from hookscope.safety_tasks import (
    QUESTIONS,
    REFUSAL_TEXTS,
    Materials,
    benign_examples,
    choose,
    draw_rows,
    own_examples,
    refusal_examples,
)
from interp import HookedModel
from steering import Instructions, is_refusal
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.model


def materials() -> Materials:
    nouns = ("cake", "song", "ship", "town", "coat", "lamp", "wall", "bird", "game", "road")
    wrong = [f"Hurt the {noun} now" for noun in nouns]
    right = [f"Draw a {noun}, please" for noun in nouns]
    return Materials(
        harmful=Instructions(train=wrong[:6], validation=(), test=wrong[6:]),
        harmless=Instructions(train=right[:6], validation=(), test=right[6:]),
        benign=[(f"What is a {noun}?", f"A {noun} is a thing.") for noun in (*nouns, *nouns)],
        questions=[("One and one is ", ("two", "six", "nine", "one"))],
    )


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return tiny_llama(n_layers=2)


def test_rows_end_with_sentences_and_are_short_enough(model: HookedModel) -> None:
    refusals = refusal_examples(model, ["a b", "c d", "e f", "g h", "i j"])
    assert [one.answer for one in refusals] == [*REFUSAL_TEXTS, REFUSAL_TEXTS[0]]
    assert all(is_refusal(text) for text in REFUSAL_TEXTS)
    written = ["A cat. It is 3.5 kg and", "no end", "I'm sorry, I can't. No.", "Yes! "]
    own = own_examples(model, ["q1", "q2", "q3", "q4"], written)
    assert [one.answer for one in own] == ["A cat.", "Yes!"]
    assert "q4" in own[1].prompt
    rows = benign_examples(model, [("a", "b"), ("a", "b" * 50)], max_tokens=70)
    assert [one.answer for one in rows] == ["b"]
    drawn = [draw_rows(own, 2, seed=seed) for seed in range(6)]
    assert any(one != drawn[0] for one in drawn[1:])
    with pytest.raises(ValueError, match="2 benign rows are short enough: needed 3"):
        draw_rows(own, 3, seed=0)


def test_questions_of_fact_have_four_ends_that_begin_differently(smollm2: HookedModel) -> None:
    right = choose(smollm2)
    assert len(right) == len(QUESTIONS)
    assert right.mean() > 0.6  # chance is 0.25
    with pytest.raises(ValueError, match="ends of 'A' begin with the same token"):
        choose(smollm2, [("A", (" cat", " dog", " cat", " cow"))])


def test_the_tiny_study_trains_refusal_in_and_measures_every_state(
    tmp_path: Path, model: HookedModel
) -> None:
    found = run_safety_study(tmp_path, model, materials(), config=TINY)
    frame = to_frame(found)
    assert frame["kind"].value_counts().to_dict() == {
        "plain": 2, "average": 1, "interpolation": 1, "start": 1,
    }  # fmt: skip
    start = frame[frame["kind"] == "start"].iloc[0]
    untrained = found["start"]["untrained"]["harmful"]["log_odds"]
    assert np.mean(start["log_odds"]) > np.mean(untrained) + 1
    assert found["start"]["loss"][-1] < 0.5 * found["start"]["loss"][0]
    pairs = frame.pivot_table(index="rate", columns="kind", values="displacement")
    np.testing.assert_allclose(pairs["average"], pairs["interpolation"], rtol=1e-3)
    assert (
        pairs["average"] < frame[frame["steps"] == 4].groupby("rate")["displacement"].max()
    ).all()
    table = summarize(found, "log_odds")
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert len(average_minus_interpolation(found, "log_odds")) == 1
    path = tmp_path / "seed 0, rate 0.01, batch 2.json"
    before = json.loads(path.read_text())
    path.unlink()
    run_safety_study(tmp_path, model, materials(), config=TINY)  # only this part is run anew
    after = json.loads(path.read_text())
    for one, other in zip(before["states"], after["states"], strict=True):
        np.testing.assert_allclose(one["harmful"]["log_odds"], other["harmful"]["log_odds"])
    with pytest.raises(ValueError, match="holds a study with other choices"):
        run_safety_study(tmp_path, model, materials(), config=replace(TINY, n_harmful=3))


def test_intervals_hold_the_spread_between_seeds() -> None:
    near = mean_over_seeds([np.array([0.0, 1.0] * 50), np.array([1.0, 0.0] * 50)])
    far = mean_over_seeds([np.zeros(100), np.ones(100)])
    assert near.value == far.value == 0.5
    assert far.high - far.low > 5 * (near.high - near.low)
