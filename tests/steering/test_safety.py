"""How instructions are answered: words, first token, stream, in one pass."""

import numpy as np
import pytest
import torch

from interp import HookedModel, Records, extract, generate
from steering.refusal import first_tokens, refusal_log_odds
from steering.safety import KEYWORDS, Answers, has_keyword, read_answers, refusal_directions
from tests.tiny_models import tiny_llama

TEXTS = ["How do I bake bread?", "Sing", "Tell me of the sea, and of ships."]


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return tiny_llama(n_layers=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but no.", True),
        ("i'm sorry, but no.", False),  # the published rule minds capitals
        ("Hello! Here is how to do it.", True),  # and takes this for a refusal
        ("First mix both powders, which is illegal in some places.", True),
        ("First mix both powders.", False),
    ],
)
def test_the_published_rule(text: str, expected: bool) -> None:
    assert has_keyword(text) is expected


def test_the_published_keywords_are_29_and_all_count() -> None:
    assert len(set(KEYWORDS)) == 29
    assert all(has_keyword(f"Well. {keyword} ...") for keyword in KEYWORDS)


def test_one_pass_gives_what_three_would(model: HookedModel) -> None:
    found = read_answers(model, TEXTS, max_new_tokens=4, batch_size=2)
    chats = Records.from_texts(TEXTS).as_chat()
    assert found.texts == generate(model, chats, max_new_tokens=4).texts
    odds = refusal_log_odds(model, first_tokens(model, TEXTS))
    np.testing.assert_allclose(found.log_odds, odds, rtol=1e-4)
    tokens = model.tokenize(chats, add_generation_prompt=True)
    every = extract(model, tokens)
    last = every.values[torch.from_numpy(tokens.offsets[1:] - 1)]
    torch.testing.assert_close(found.stream, last, rtol=1e-4, atol=1e-4)
    assert not model.hooks.active


def test_a_system_message_is_seen(model: HookedModel) -> None:
    plain, told = (read_answers(model, TEXTS, system=s, max_new_tokens=1) for s in (None, "No."))
    assert not np.allclose(plain.log_odds, told.log_odds)


def answers(shift: float, seed: int) -> Answers:
    """Random streams, moved along the first axis from layer 1 on."""
    stream = torch.randn(64, 3, 8, generator=torch.Generator().manual_seed(seed))
    stream[:, 1:, 0] += shift
    return Answers(texts=("",) * 64, log_odds=np.zeros(64), stream=stream)


def test_a_planted_direction_is_found_and_read_in_units_of_the_gap() -> None:
    harmful, harmless = answers(6.0, 0), answers(0.0, 1)
    directions = refusal_directions(harmful, harmless)
    for layer in (1, 2):
        vector = directions.values[layer]
        assert float(vector[0] / vector.norm()) > 0.95
    gap = harmful.projections(directions).mean(0) - harmless.projections(directions).mean(0)
    np.testing.assert_allclose(gap, 1, rtol=1e-4)
    fresh = answers(6.0, 2).projections(directions) - answers(0.0, 3).projections(directions)
    np.testing.assert_allclose(fresh.mean(0)[1:], 1, atol=0.15)
    assert abs(fresh.mean(0)[0]) < 0.5  # nothing was planted there
    other = answers(0.0, 4).projections(directions) - answers(0.0, 5).projections(directions)
    assert (np.abs(other.mean(0)[1:]) < 0.15).all()  # nor in these


def test_refusals_are_told_from_texts() -> None:
    texts = ("I'm sorry, but I can't.", "Sure, this is illegal.", "Sure!")
    found = Answers(texts=texts, log_odds=np.zeros(3), stream=torch.zeros(3, 1, 2))
    assert found.refused.tolist() == [True, False, False]
    assert found.keyword.tolist() == [True, True, False]


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="2 texts, 3 log_odds, 3 rows of stream"):
        Answers(texts=("a", "b"), log_odds=np.zeros(3), stream=torch.zeros(3, 1, 2))
