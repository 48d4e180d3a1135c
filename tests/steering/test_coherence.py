"""Coherence: planted agreement is found, swapped pairs are incoherent, nulls hold nothing."""

import numpy as np
import pytest
import torch

from interp import Activations, HookedModel
from steering import PairActivations, Pairs, SteeringVector, coherence, lint, vector_cosines
from steering.coherence import swapped


def pairs(
    strength: float, *, n: int = 60, d: int = 128, seed: int = 0, answers: bool = False
) -> PairActivations:
    """Pairs in noise of norm about sqrt(2 d), positive ones shifted by a common vector."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.zeros(d)
    shift[0] = strength
    sides = []
    for sign in (0.5, -0.5):
        rows = torch.randn(n, 1, d, generator=generator) + sign * shift
        sides.append(Activations(tensors={"resid_post": rows}, layers=(3,), pooling="mean"))
    labels = tuple("Yes" if k % 2 else "No" for k in range(n)) if answers else None
    return PairActivations(
        positive=sides[0], negative=sides[1], norms={3: float(d**0.5)}, answers=labels
    )


def test_swapped_pairs_are_the_same_pairs_with_half_the_sides_exchanged() -> None:
    acts = pairs(1.0)
    found = swapped(acts, seed=1)
    flips = 0
    for row, (a, b) in enumerate(zip(*acts.sides(3), strict=True)):
        sides = [side[row] for side in found.sides(3)]
        kept = torch.equal(sides[0], a) and torch.equal(sides[1], b)
        assert kept or (torch.equal(sides[0], b) and torch.equal(sides[1], a))
        flips += not kept
    assert 15 <= flips <= 45


def test_planted_agreement_is_coherent_and_d_prime_is_the_closed_form() -> None:
    report = coherence(pairs(3.0, n=150, d=16), n_null=100, n_resamples=40)
    assert report.coherent
    assert report.verdict.startswith("worth trying")
    d = report.measures["d'"]
    assert d.value == pytest.approx(3.0, rel=0.1)  # shift 3 in unit noise along a known direction
    assert d.low < 3.0 < d.high
    assert report.norm == pytest.approx(3.0 / 4, rel=0.1)


def test_noise_has_the_numbers_that_mislead_in_sample_and_zero_held_out() -> None:
    report = coherence(pairs(0.0), n_null=100, n_resamples=50)
    assert not report.coherent
    assert report.verdict.startswith("not worth trying")
    for name in ("mean cosine", "pairwise cosine", "d'", "stability"):
        measure = report.measures[name]
        assert abs(measure.null) < 0.1, name
        assert measure.low < 0.1 < 0.1 + measure.high, name
    assert report.measures["d'"].in_sample > 1.0
    assert report.measures["mean cosine"].in_sample > 0.1
    assert abs(report.measures["AUROC"].null - 0.5) < 0.05


def test_swapped_pairs_are_incoherent_in_95_percent_of_draws() -> None:
    acts = pairs(2.5, n=24, d=64)
    assert coherence(acts, n_resamples=2).coherent
    draws = [
        coherence(swapped(acts, seed=k), n_resamples=2, n_null=110, seed=k).coherent
        for k in range(20)
    ]
    assert np.mean(draws) <= 0.05


def test_in_sample_values_are_the_published_formulas() -> None:
    acts = pairs(1.0)
    report = coherence(acts, n_null=2, n_resamples=2)
    positive, negative = (side.double() for side in acts.sides(3))
    differences = positive - negative
    vector = differences.mean(0)
    cosines = torch.cosine_similarity(differences, vector[None], dim=1)
    assert report.measures["mean cosine"].in_sample == pytest.approx(float(cosines.mean()))
    a, b = positive @ vector, negative @ vector
    expected = (a.mean() - b.mean()) / ((a.var() + b.var()) / 2).sqrt()
    assert report.measures["d'"].in_sample == pytest.approx(float(expected))
    pairwise = [
        float(torch.cosine_similarity(differences[i], differences[j], dim=0))
        for i in range(60)
        for j in range(i)
    ]
    assert report.measures["pairwise cosine"].value == pytest.approx(np.mean(pairwise))
    norms = differences.norm(dim=1)
    assert report.norm_variation == pytest.approx(float(norms.std(correction=0) / norms.mean()))


def test_a_vector_that_changes_sign_with_the_answer_is_unproven() -> None:
    acts = pairs(0.0, n=80, answers=True)
    shift = torch.zeros(80, 1, 128)
    shift[:, 0, 1] = torch.tensor([6.0 if a == "Yes" else -5.0 for a in acts.answers or ()])
    shift[:, 0, 0] = 3.0
    moved = Activations(
        tensors={"resid_post": acts.positive.values + shift}, layers=(3,), pooling="mean"
    )
    report = coherence(
        PairActivations(
            positive=moved, negative=acts.negative, norms=acts.norms, answers=acts.answers
        )
    )
    assert report.answer_cosine is not None
    assert report.answer_cosine < 0
    assert "worth trying" not in report.verdict.split(":")[0] or not report.coherent


def test_constant_contrast_is_unproven(llama: HookedModel) -> None:
    texts = [f"question {k}" for k in range(12)]
    data = Pairs.from_texts([f"You are. {t}" for t in texts], [f"You not. {t}" for t in texts])
    report = coherence(pairs(4.0, n=60), lint=lint(llama, data), n_null=100, n_resamples=20)
    assert report.verdict.startswith("unproven: every pair differs in the same tokens")


def test_report_has_frame_and_figure_and_needs_ten_pairs() -> None:
    report = coherence(pairs(2.0, n=20), n_null=20, n_resamples=20)
    assert len(report.to_frame()) == 6
    assert report.plot().layout.title.text.startswith("Coherence at layer 3")
    with pytest.raises(ValueError, match="9 pairs: coherence needs 10"):
        coherence(pairs(1.0, n=9))


def test_cosines_between_vectors() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    table = vector_cosines(
        {"a": SteeringVector(values={1: a}), "b": SteeringVector(values={1: b})}, layer=1
    )
    np.testing.assert_allclose(table.cosines, [[1, 0.5**0.5], [0.5**0.5, 1]], atol=1e-6)
    assert len(table.to_frame()) == 4
    assert table.plot().data
