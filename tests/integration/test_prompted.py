"""The prompted baseline on the embedded model, against whole forward passes of each answer."""

import numpy as np
import pytest
import torch

from interp import HookedModel, Records, extract
from probes.high_stakes import normalized_input
from probes.prompted import STAKES_PROMPTS, Prompt, asked_tokens, prompted_scores

RECORDS = Records.from_texts(
    ["My house is on fire and my child is inside.", "Which tea goes with toast?"], labels=[1, 0]
)


def _log_likelihood(model: HookedModel, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        logits = model.module(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) + k - 1, token]) for k, token in enumerate(answer))


@pytest.mark.model
@pytest.mark.parametrize("name", ["single word", "sentence"])
def test_scores_are_differences_of_log_likelihoods(smollm2: HookedModel, name: str) -> None:
    prompt = STAKES_PROMPTS[name]
    tokens = asked_tokens(smollm2, RECORDS, prompt)
    scores = prompted_scores(smollm2, RECORDS, prompt)
    sides = [
        smollm2.tokenizer(answer, add_special_tokens=False)["input_ids"]
        for answer in (prompt.positive, prompt.negative)
    ]
    for example, score in enumerate(scores):
        ids = tokens.ids[tokens.rows_of([example])].tolist()
        high, low = (_log_likelihood(smollm2, ids, side) for side in sides)
        assert score == pytest.approx(high - low, abs=2e-3)


@pytest.mark.model
def test_a_score_does_not_depend_on_its_batch(smollm2: HookedModel) -> None:
    prompt = STAKES_PROMPTS["sentence"]
    together = prompted_scores(smollm2, RECORDS, prompt)
    alone = prompted_scores(smollm2, RECORDS, prompt, batch_tokens=1)
    np.testing.assert_allclose(together, alone, atol=2e-3)


@pytest.mark.model
def test_the_normalized_input_is_what_attention_reads(smollm2: HookedModel) -> None:
    tokens = smollm2.tokenize(RECORDS)
    resid = extract(smollm2, tokens, layers=3, sites="resid_pre", positions="content")
    seen = []
    block = smollm2.module.get_submodule("model.layers.3.input_layernorm")
    handle = block.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    with torch.no_grad():
        smollm2.module(torch.from_numpy(tokens.ids[tokens.rows_of([0])])[None])
    handle.remove()
    found = normalized_input(smollm2, resid)
    n = int(resid.tokens.lengths[0])  # pyright: ignore[reportOptionalMemberAccess]
    torch.testing.assert_close(found.matrix[:n], seen[0][-n:], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="needed resid_pre"):
        normalized_input(smollm2, resid.pool("mean"))


def test_a_prompt_needs_a_place_for_the_text_and_two_answers() -> None:
    with pytest.raises(ValueError, match="where the text stands"):
        Prompt(question="High or low?", positive="high", negative="low")
    with pytest.raises(ValueError, match="needed two that differ"):
        Prompt(question="{text}?", positive="high", negative="high")


def test_long_texts_lose_their_middle() -> None:
    prompt = Prompt(question="{text}", positive="a", negative="b")
    asked = prompt.asked(Records.from_texts(["a" * 50 + "b" * 50]), max_chars=20)
    assert asked[0].content == "aaaaa [...] " + "b" * 15
