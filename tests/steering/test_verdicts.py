"""Verdicts on sweeps whose truth is known."""

import numpy as np
import pytest
import torch

from steering import SteeringVector, SweepResult, judge, random_vector
from tests.steering.test_coherence import coherence, pairs

ANSWERS = np.arange(60) % 2 == 0


def swept(trait: float, bias: float, *, noise: float = 0.2, seed: int = 0) -> SweepResult:
    random = np.random.default_rng(seed)
    effect = trait + np.where(ANSWERS, bias, -bias) + noise * random.normal(size=60)
    propensity = np.stack([0 * effect, effect], axis=1)
    return SweepResult(
        coefficients=np.array([0.0, 1.0]),
        positive=propensity,
        negative=np.zeros_like(propensity),
        first_answer=ANSWERS,
    )


@pytest.mark.parametrize(
    ("trait", "bias", "kind"),
    [
        (0.5, 0.0, "steerable"),
        (0.5, 0.3, "steerable"),
        (0.5, 2.0, "biased only"),
        (0.0, 2.0, "biased only"),
        (0.0, 0.0, "undecided"),
        (0.005, 0.0, "undecided"),
        (-0.5, 0.0, "undecided"),
    ],
)
def test_verdict_follows_trait_and_bias(trait: float, bias: float, kind: str) -> None:
    assert judge(swept(trait, bias)).kind == kind


def test_incoherent_pairs_come_first() -> None:
    verdict = judge(swept(0.5, 0.0), coherence=coherence(pairs(0.0), n_resamples=2))
    assert verdict.kind == "incoherent"
    assert "the pairs do not agree" in str(verdict)


def test_a_vector_that_is_no_better_than_random_ones_is_undecided() -> None:
    own = swept(0.3, 0.0)
    assert judge(own, controls=[swept(0.0, 0.0, seed=1)]).kind == "steerable"
    assert judge(own, controls=[swept(0.3, 0.0, seed=1)]).kind == "undecided"


def test_undecided_names_how_many_examples_might_decide() -> None:
    assert "examples, about" in str(judge(swept(0.01, 0.0)))


def test_random_vectors_have_the_norms_of_the_vector() -> None:
    vector = SteeringVector(values={1: torch.ones(8), 2: 3 * torch.ones(8)})
    drawn = random_vector(vector, seed=4)
    for layer in vector.layers:
        torch.testing.assert_close(drawn.values[layer].norm(), vector.values[layer].norm())
    assert random_vector(vector, seed=5).cosine(drawn)[1] != pytest.approx(1.0)
