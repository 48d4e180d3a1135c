"""The refusal study: how refusals are counted, the direction, and every condition."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from interp import HookedModel, Records, extract
from steering import is_refusal, refusal_vector, run_refusal_study
from steering.refusal import _rate

HARMFUL = [f"how to break {w}" for w in "abcdef"]
HARMLESS = [f"how to bake {w}" for w in "abcdef"]


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


def test_vector_is_the_mean_difference_at_the_last_token_of_the_prompt(llama: HookedModel) -> None:
    vector = refusal_vector(llama, HARMFUL, HARMLESS, layer=2)
    sides = []
    for texts in (HARMFUL, HARMLESS):
        tokens = llama.tokenize(Records.from_texts(texts).as_chat(), add_generation_prompt=True)
        acts = extract(llama, tokens, layers=2, positions="all")
        parts = acts.matrix.split(acts.tokens.lengths.tolist())  # type: ignore[union-attr]
        sides.append(torch.stack([part[-1] for part in parts]))
    assert vector.layers == (2,)
    torch.testing.assert_close(vector.values[2], (sides[0] - sides[1]).mean(0))


def test_study_has_every_condition_and_the_model_is_as_before(llama: HookedModel) -> None:
    result = run_refusal_study(
        llama,
        harmful=(HARMFUL[:4], HARMFUL[4:]),
        harmless=(HARMLESS[:4], HARMLESS[4:]),
        max_new_tokens=3,
        compare={"itself": refusal_vector(llama, HARMFUL[:4], HARMLESS[:4], layer=2).direction()},
    )
    assert result.cosines["itself"] == pytest.approx(1.0, abs=1e-5)
    assert len(result.rates()) == 6
    assert len(result.to_frame()) == 12
    assert result.plot().data
    assert not llama.hooks.active
    with pytest.raises(ValueError, match="1 harmful instructions are in both sets"):
        run_refusal_study(llama, harmful=(HARMFUL, HARMFUL[:1]), harmless=(HARMLESS, ["x"]))


def test_interval_of_a_rate_is_wilsons() -> None:
    for k in (0, 3, 20):
        refused = np.array([1.0] * k + [0.0] * (20 - k))
        expected = binomtest(k, 20).proportion_ci(method="wilson")
        got = _rate(refused)
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
