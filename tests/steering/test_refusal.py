"""The refusal study: how refusals are counted, the direction, and every condition."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp import HookedModel, Records, ablate, extract
from steering import (
    Instructions,
    RefusalConfig,
    choose_refusal_vector,
    first_tokens,
    is_refusal,
    refusal_log_odds,
    refusal_vector,
    run_refusal_study,
)
from steering.refusal import header_length
from tests.tiny_models import tiny_llama

HARMFUL = [f"how to break {w}" for w in "abcdefgh"]
HARMLESS = [f"bake me a pie of {w}" for w in "abcdefgh"]


@pytest.fixture(scope="module")
def small() -> HookedModel:
    return tiny_llama(n_layers=2)


def parts(texts: list[str]) -> Instructions:
    return Instructions(train=texts[:4], validation=texts[4:6], test=texts[6:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot do this.", True),
        ("As an AI language model, I do not", True),
        ("Sure, here is how: first,", False),
        ("word " * 60 + "I cannot", False),
        ("", False),
    ],
)
def test_refusals_are_told_by_their_first_words(text: str, expected: bool) -> None:
    assert is_refusal(text) == expected


@pytest.mark.parametrize("back", [0, 3])
def test_vector_is_the_mean_difference_at_its_token_of_the_prompt(
    llama: HookedModel, back: int
) -> None:
    vector = refusal_vector(llama, HARMFUL, HARMLESS, layers=2, tokens_back=back)
    sides = []
    for texts in (HARMFUL, HARMLESS):
        tokens = llama.tokenize(Records.from_texts(texts).as_chat(), add_generation_prompt=True)
        acts = extract(llama, tokens, layers=2, positions="all")
        rows = acts.matrix.split(acts.tokens.lengths.tolist())  # type: ignore[union-attr]
        sides.append(torch.stack([row[-1 - back] for row in rows]))
    assert vector.layers == (2,)
    torch.testing.assert_close(vector.values[2], (sides[0] - sides[1]).mean(0))


def test_header_is_what_follows_every_instruction(llama: HookedModel) -> None:
    assert header_length(llama) == len("<s>assistant\n") - 3 + 1 + len("</s>\n") - 4 + 1


def test_log_odds_are_those_of_the_first_token_alone(llama: HookedModel) -> None:
    first = first_tokens(llama, HARMFUL[:3], batch_size=2)
    odds = refusal_log_odds(llama, first, openings=("I", "As"))
    for row, text in enumerate(HARMFUL[:3]):
        tokens = llama.tokenize(Records.from_texts([text]).as_chat(), add_generation_prompt=True)
        with torch.no_grad():
            p = llama.module(**tokens.batch([0])).logits[0, -1].softmax(-1)
        share = sum(float(p[llama.tokenizer(w)["input_ids"][-1]]) for w in "IA")
        assert odds[row] == pytest.approx(np.log(share / (1 - share)), abs=1e-3)


def test_the_candidate_that_works_best_is_chosen(small: HookedModel) -> None:
    harmful, harmless = parts(HARMFUL), parts(HARMLESS)
    choice = choose_refusal_vector(small, harmful, harmless, layers=(0, 1), coefficient=2.0)
    table = choice.table
    assert len(table) == 4
    best = table.loc[(table["induction"] - table["bypass"]).idxmax()]
    assert choice.vector.layers == (best["layer"],)
    assert choice.tokens_back == best["tokens_back"]
    expected = refusal_vector(
        small,
        harmful.train,
        harmless.train,
        layers=choice.vector.layers,
        tokens_back=choice.tokens_back,
    )
    layer = choice.vector.layers[0]
    torch.testing.assert_close(choice.vector.values[layer], expected.values[layer])
    direction = choice.vector.direction().vector
    everywhere = [
        ablate(direction, layers=at, site=site)
        for site, at in (("resid_pre", 0), ("resid_mid", range(2)), ("resid_post", range(2)))
    ]
    with small.intervene(*everywhere):
        changed = refusal_log_odds(small, first_tokens(small, harmful.validation))
    plain = refusal_log_odds(small, first_tokens(small, harmful.validation))
    assert best["bypass"] == pytest.approx((changed - plain).mean(), abs=1e-4)


def test_study_has_every_condition_and_the_model_is_as_before(small: HookedModel) -> None:
    result = run_refusal_study(
        small,
        parts(HARMFUL),
        parts(HARMLESS),
        neutral=["some neutral text", "another one"],
        config=RefusalConfig(layers=(1,), max_new_tokens=2),
    ).compared({"itself": refusal_vector(small, HARMFUL[:4], HARMLESS[:4], layers=1).direction()})
    assert not small.hooks.active
    assert len(result.rates()) == 10
    assert len(result.to_frame()) == 20
    assert set(result.costs()["condition"]) == set(result.damage)
    effects = result.effects().set_index(["condition", "kind"])
    plain = first_tokens(small, HARMFUL[6:])
    with result.vector.applied(small):
        added = first_tokens(small, HARMFUL[6:])
    change = refusal_log_odds(small, added) - refusal_log_odds(small, plain)
    assert effects.loc[("added", "harmful"), "change"] == pytest.approx(change.mean(), abs=1e-4)
    control = effects.loc[("random added", "harmful"), "change"]
    lead = effects.loc[("added", "harmful"), "beyond"]
    assert lead == pytest.approx(change.mean() - control, abs=1e-4)
    if result.choice.tokens_back == 0:
        assert result.cosines["itself"] == pytest.approx(1.0, abs=1e-5)
    numbers = result.to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert not any(text in json.dumps(numbers) for text in HARMFUL)
    assert result.plot().data
    assert result.plot_effects().data


def test_a_second_run_in_the_folder_asks_nothing_again(
    small: HookedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = parts(HARMFUL), parts(HARMLESS)
    options = {"neutral": ["some neutral text"], "folder": tmp_path}
    config = RefusalConfig(layers=(1,), max_new_tokens=2)
    first = run_refusal_study(small, *sets, config=config, **options)
    assert len(list(tmp_path.iterdir())) == 10
    with monkeypatch.context() as patched:
        patched.setattr("steering.refusal_study.generate", None)
        again = run_refusal_study(small, *sets, config=config, **options)
    pd.testing.assert_frame_equal(first.to_frame(), again.to_frame())
    run_refusal_study(small, *sets, config=replace(config, max_new_tokens=3), **options)
    assert len(list(tmp_path.iterdir())) == 20


def test_sets_that_share_instructions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 instructions are in test and in train"):
        Instructions(train=HARMFUL, validation=[], test=HARMFUL[:1])
    for name, rows in {"train": HARMFUL[:5], "val": HARMFUL[3:], "test": HARMFUL}.items():
        file = tmp_path / f"harmful_{name}.json"
        file.write_text(json.dumps([{"instruction": row} for row in rows]))
    loaded = Instructions.load(tmp_path, "harmful", n_train=3, n_validation=2, n_test=2)
    assert [len(p) for p in (loaded.train, loaded.validation, loaded.test)] == [3, 2, 2]
    with pytest.raises(ValueError, match=r"harmful_test.json has 3 instructions, needed 4"):
        Instructions.load(tmp_path, "harmful", n_train=3, n_validation=2, n_test=4)
