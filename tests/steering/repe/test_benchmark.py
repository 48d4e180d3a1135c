"""The benchmark of pipelines: its columns against plain passes, and nothing for doing nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp import HookedModel, Window
from steering import Pairs
from steering.propensity import tokenize_continuations
from steering.repe import (
    Concept,
    Pipeline,
    as_vector,
    benchmark,
    contests_of,
    propensities,
    published,
    reading_inputs,
    steer,
)
from tests.tiny_models import tiny_llama

PAIRS = Pairs.from_texts(
    [f"text {w} is good" for w in "abcd"], [f"text {w} is evil" for w in "abcd"]
)
CONCEPTS = [
    Concept(
        name="good", train=PAIRS, test=contests_of(PAIRS), other_prompts=contests_of(PAIRS[:2])
    ),
    Concept(name="evil", train=Pairs(PAIRS.negative, PAIRS.positive), test=contests_of(PAIRS[:3])),
]


@pytest.fixture(scope="module")
def small() -> HookedModel:
    return tiny_llama(n_layers=2)


def test_benchmark_has_every_column_and_nothing_for_a_pipeline_that_does_nothing(
    small: HookedModel,
) -> None:
    pipelines = {
        "add": published.caa(0, positions=Window(start=-1)),
        "nothing": Pipeline(
            identification=reading_inputs(layers=0),
            operationalization=as_vector(),
            control=steer(lambda value, vector, coefficient: value),
        ),
    }
    result = benchmark(small, pipelines, CONCEPTS, neutral=["a text"], coefficient=2.0, n_halves=2)
    frame = result.to_frame().set_index(["pipeline", "concept"])
    assert len(frame) == 4
    zero = frame.loc["nothing"].drop(columns=["other prompts", "damage_low", "damage_high"])
    np.testing.assert_allclose(zero.to_numpy(dtype=float), 0, atol=1e-5)
    added = frame.loc[("add", "good")]
    assert added["damage"] > 0
    assert np.isfinite(added["other prompts"])
    fitted = pipelines["add"].fit(small, PAIRS).intervention(2.0)
    change = propensities(small, CONCEPTS[0].test, fitted) - propensities(small, CONCEPTS[0].test)
    assert added["effect"] == pytest.approx(change.mean(), abs=1e-4)
    assert added["own probe"] > 0.01
    assert result.plot().data


def test_propensities_in_batches_are_those_of_single_texts(llama: HookedModel) -> None:
    contests = contests_of(PAIRS)
    act = published.caa(1, positions="generated").fit(llama, PAIRS).intervention(3.0)
    expected = np.zeros(len(contests))
    for sign, side in ((1, contests.positive), (-1, contests.negative)):
        for row, text in enumerate(tokenize_continuations(llama, contests.prompts, side)):
            ids = torch.tensor([text.ids])
            with (
                torch.no_grad(),
                llama.hooks.prompts(torch.tensor([text.n_prompt])),
                llama.intervene(act),
            ):
                logprobs = llama.module(ids).logits[0].log_softmax(-1)
            expected[row] += sign * sum(
                float(logprobs[k - 1, text.ids[k]]) for k in range(text.n_prompt, len(text.ids))
            )
    np.testing.assert_allclose(propensities(llama, contests, act), expected, atol=1e-3)


def test_one_concept_is_refused(llama: HookedModel) -> None:
    with pytest.raises(ValueError, match="needs two or more"):
        benchmark(llama, {}, CONCEPTS[:1], neutral=["text"])


def test_a_concept_without_contrast_is_refused(small: HookedModel) -> None:
    equal = contests_of(PAIRS[:1])
    equal = replace(equal, negative=equal.positive)
    concepts = [CONCEPTS[0], Concept(name="none", train=PAIRS, test=equal)]
    with pytest.raises(ValueError, match="of 'none' are equal"):
        benchmark(small, {}, concepts, neutral=["text"])
