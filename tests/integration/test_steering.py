"""Steering on the embedded language model, with the shipped pairs."""

import numpy as np
import pytest
import torch

from interp import HookedModel, Records, Span, extract
from interp.data import load_fixture
from steering import (
    Contests,
    Pairs,
    SteeringVector,
    assistant_prompt,
    bake_ablation,
    choices,
    coherence,
    extract_pairs,
    fit,
    judge,
    letter_pairs,
    random_vector,
    sweep,
)
from tests.steering.test_contrast import yes_no

pytestmark = pytest.mark.model
LAYER = 15


def stakes(start: int, stop: int) -> tuple[list[str], list[str]]:
    """Situations of high and of low stakes, by pair."""
    records = load_fixture("high_stakes")
    pairs = Pairs.from_records(Records(list(records)), positive=1)
    chosen = range(start, stop)
    return [pairs.positive[k].content for k in chosen], [pairs.negative[k].content for k in chosen]


WARM = ("I love {}.", "I really enjoy {}.", "{} makes me happy.", "I could spend all day with {}.")
COLD = ("I hate {}.", "I cannot stand {}.", "{} makes me angry.", "I stay away from {}.")
THINGS = (
    "music,cooking,rain,books,football,gardening,winter,mathematics,children,driving,museums,dogs,"
    "traveling,sports,poetry,school,parties,fishing,coffee,movies,painting,history,dancing,cities,"
    "swimming,computers,mornings,trains"
).split(",")


def feelings(start: int, stop: int) -> tuple[list[str], list[str]]:
    """Statements of liking and of disliking the same things."""
    chosen = [(k, THINGS[k]) for k in range(start, stop)]
    return [WARM[k % 4].format(x) for k, x in chosen], [COLD[k % 4].format(x) for k, x in chosen]


def chats(texts: list[str], prompt: str) -> Records:
    turns = [{"role": "user", "content": prompt}]
    return Records([{"messages": [*turns, {"role": "assistant", "content": t}]} for t in texts])


def test_trees_give_what_single_texts_give(smollm2: HookedModel) -> None:
    pairs = letter_pairs(yes_no(6))
    shared = extract_pairs(smollm2, pairs, layers=[LAYER])
    oracle = extract(smollm2, pairs.positive, layers=LAYER, positions="last", pooling="last")
    torch.testing.assert_close(shared.sides(LAYER)[0], oracle.matrix, atol=1e-3, rtol=1e-3)


def test_statements_are_steered_and_a_random_vector_steers_less(smollm2: HookedModel) -> None:
    prompt = "Tell me something about yourself."
    train, test = feelings(0, 20), feelings(20, 28)
    pairs = Pairs(chats(train[0], prompt), chats(train[1], prompt))
    activations = extract_pairs(smollm2, pairs, layers=[LAYER], read=Span(turn=-1))
    vector = fit(activations)
    assert coherence(activations, n_resamples=10).coherent
    contests = Contests(
        prompts=(assistant_prompt(smollm2, prompt),) * 8,
        positive=tuple(test[0]),
        negative=tuple(test[1]),
        reduce="mean",
    )
    own = sweep(smollm2, vector, contests, coefficients=(-1.0, 1.0))
    control = sweep(smollm2, random_vector(vector), contests, coefficients=(-1.0, 1.0))
    assert own.slope.value > 0
    assert own.slope.value > control.slope.value
    assert own.anti_steerable.value <= 0.5


def test_multiple_choice_vectors_are_not_steerable(smollm2: HookedModel) -> None:
    items = yes_no(24)
    acts = extract_pairs(smollm2, letter_pairs(items[:16]), layers=[LAYER])
    swept = sweep(smollm2, fit(acts), choices(smollm2, items[16:]), coefficients=(-1.0, 0.0, 1.0))
    report = coherence(acts, n_resamples=10)
    assert judge(swept, coherence=report).kind != "steerable"


def test_a_direction_is_baked_out_of_the_weights_and_back(smollm2: HookedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(576, generator=generator)
    ids = torch.tensor([[5, 600, 7000]])
    with torch.no_grad():
        before = smollm2.module(ids).logits
        baked = bake_ablation(smollm2, direction)  # compares itself with hooks
        assert not torch.allclose(smollm2.module(ids).logits, before, atol=1e-3)
        baked.undo()
        assert torch.equal(smollm2.module(ids).logits, before)


def test_strength_is_a_share_of_the_residual_norm(smollm2: HookedModel) -> None:
    high, low = stakes(0, 6)
    acts = extract_pairs(smollm2, Pairs.from_texts(high, low), layers=[LAYER])
    vector = fit(acts)
    assert 0.01 < vector.strengths[LAYER] < 1.5
    scaled = vector.scaled_to(0.2, unit="residual")
    assert isinstance(scaled, SteeringVector)
    np.testing.assert_allclose(scaled.strengths[LAYER], 0.2, rtol=1e-4)
