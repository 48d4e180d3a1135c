"""Losses against their formulas, in numpy, on logits with padding and prompts."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.training import dpo_loss
from interp.training.loop import Predictions, answer_probability, nll, sequence_losses
from interp.training.unlearning import losses

VOCABULARY = 5


@pytest.fixture
def found() -> Predictions:
    """Two answers of three and of one token; what is not counted has absurd logits."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, VOCABULARY, generator=random)
    counted = torch.tensor([[False, True, True, True], [False, False, True, False]])
    logits[~counted] = 1e4 * torch.randn(5 - 1, VOCABULARY, generator=random)
    return Predictions(
        logits=logits, targets=torch.tensor([[0, 1, 2, 3], [4, 3, 1, 0]]), counted=counted
    )


def by_token(found: Predictions) -> list[list[tuple[np.ndarray, int]]]:
    """Log-probabilities and target of each counted token, by example."""
    logits = found.logits.double().numpy()
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))[..., None]
        - logits.max(-1, keepdims=True)
    )
    return [
        [
            (logprobs[row, k], int(found.targets[row, k]))
            for k in range(found.counted.shape[1])
            if found.counted[row, k]
        ]
        for row in range(len(found.targets))
    ]


def token_nlls(found: Predictions) -> list[np.ndarray]:
    return [np.array([-p[y] for p, y in row]) for row in by_token(found)]


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


def test_nll_is_the_mean_over_answer_tokens(found: Predictions) -> None:
    expected = np.concatenate(token_nlls(found)).mean()
    assert float(nll(found)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.gradient_ascent(found)) == pytest.approx(-expected, rel=1e-5)


def test_sequence_losses_are_sums_and_probabilities_geometric_means(found: Predictions) -> None:
    rows = token_nlls(found)
    np.testing.assert_allclose(sequence_losses(found), [r.sum() for r in rows], rtol=1e-5)
    np.testing.assert_allclose(
        answer_probability(found), [math.exp(-r.mean()) for r in rows], rtol=1e-5
    )


def test_npo_is_its_formula_and_begins_at_two_log_2_over_beta(found: Predictions) -> None:
    rows = np.array([r.sum() for r in token_nlls(found)])
    reference = np.array([1.0, 2.5])
    expected = (-2 / 0.3 * np.log(sigmoid(0.3 * (rows - reference)))).mean()
    value = losses.npo(found, torch.tensor(reference).float(), beta=0.3)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    equal = losses.npo(found, sequence_losses(found), beta=0.3)
    assert float(equal) == pytest.approx(2 / 0.3 * math.log(2), rel=1e-6)


def test_npo_is_dpo_without_a_chosen_answer(found: Predictions) -> None:
    zero, reference = torch.zeros(2), torch.tensor([1.0, 2.5])
    dpo = dpo_loss(zero, -sequence_losses(found), zero, -reference, beta=0.2).mean()
    value = losses.npo(found, reference, beta=0.2)
    assert float(value) == pytest.approx(float(dpo) * 2 / 0.2, rel=1e-6)


def test_the_gradient_of_npo_tends_to_gradient_ascent(found: Predictions) -> None:
    logits = found.logits.clone().requires_grad_()
    moving = Predictions(logits=logits, targets=found.targets, counted=found.counted)
    value = losses.npo(moving, sequence_losses(found).detach(), beta=1e-4)
    (slope,) = torch.autograd.grad(value, logits)
    (ascent,) = torch.autograd.grad(-sequence_losses(moving).mean(), logits)
    torch.testing.assert_close(slope, ascent, rtol=1e-3, atol=1e-6)


def test_simnpo_is_its_formula(found: Predictions) -> None:
    rows = np.array([r.mean() for r in token_nlls(found)])
    expected = (-2 / 2.0 * np.log(sigmoid(2.0 * (rows - 0.5)))).mean()
    value = losses.simnpo(found, beta=2.0, delta=0.5)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_undial_is_cross_entropy_to_lowered_logits(found: Predictions) -> None:
    random = torch.Generator().manual_seed(1)
    reference = torch.randn(2, 4, VOCABULARY, generator=random)
    terms = []
    for row in range(2):
        for k in range(4):
            if found.counted[row, k]:
                target = reference[row, k].double().numpy().copy()
                target[int(found.targets[row, k])] -= 3.0
                target = np.exp(target) / np.exp(target).sum()
                terms.append(
                    -(target * found.logits[row, k].double().log_softmax(-1).numpy()).sum()
                )
    value = losses.undial(found, reference, beta=3.0)
    assert float(value) == pytest.approx(np.mean(terms), rel=1e-5)


def test_ce_u_is_cross_entropy_to_the_distribution_without_the_answer(found: Predictions) -> None:
    terms = []
    for row in by_token(found):
        for logprobs, y in row:
            target = np.exp(logprobs)
            target[y] = 0
            terms.append(-(target / target.sum() * logprobs).sum())
    assert float(losses.ce_u(found)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_wga_weighs_tokens_by_their_probability(found: Predictions) -> None:
    nlls = np.concatenate(token_nlls(found))
    expected = -(np.exp(-2 * nlls) * nlls).mean()
    assert float(losses.wga(found, beta=2.0)) == pytest.approx(expected, rel=1e-5)
    ascent = losses.gradient_ascent(found)
    assert float(losses.wga(found, beta=0.0)) == pytest.approx(float(ascent), rel=1e-6)


def test_negative_entropy_is_lowest_for_equal_logits(found: Predictions) -> None:
    terms = [(np.exp(p) * p).sum() for row in by_token(found) for p, _ in row]
    assert float(losses.negative_entropy(found)) == pytest.approx(np.mean(terms), rel=1e-5)
    flat = Predictions(
        logits=torch.zeros_like(found.logits), targets=found.targets, counted=found.counted
    )
    assert float(losses.negative_entropy(flat)) == pytest.approx(-math.log(VOCABULARY), rel=1e-6)


def test_elm_moves_the_reference_from_expert_to_novice(found: Predictions) -> None:
    random = torch.Generator().manual_seed(2)
    reference, novice, expert = torch.randn(3, 2, 4, VOCABULARY, generator=random)
    target = losses.elm_target(reference, novice, expert, eta=2.0)
    scores = reference.softmax(-1) * (novice.softmax(-1) / expert.softmax(-1)) ** 2
    torch.testing.assert_close(target, scores / scores.sum(-1, keepdim=True))
    torch.testing.assert_close(
        losses.elm_target(reference, novice, expert, eta=0.0), reference.softmax(-1)
    )
    one_hot = torch.nn.functional.one_hot(found.targets, VOCABULARY).float()
    assert float(losses.distillation(found, one_hot)) == pytest.approx(float(nll(found)), rel=1e-5)


@pytest.fixture
def hidden() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, those before, and a mask."""
    values = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(3))
    return values[0], values[1], torch.tensor([[True, True, False], [False, True, False]])


def test_losses_of_hidden_states_are_their_formulas(hidden: tuple[Tensor, Tensor, Tensor]) -> None:
    now, before, counted = hidden
    a, b = now[counted].double().numpy(), before[counted].double().numpy()
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / lengths
    target = torch.arange(4.0)
    expected = {
        losses.rmu(now, target, counted): ((a - target.numpy()) ** 2).mean(1).mean(),
        losses.circuit_breaker(now, before, counted): np.maximum(cosine, 0).mean(),
        losses.representation_distance(now, before, counted): np.linalg.norm(a - b, axis=1).mean(),
        losses.mlp_confusion(now, before, counted): np.maximum((a * b).sum(1), 0).mean()
        / np.linalg.norm(b, axis=1).mean() ** 2,
    }
    for value, wanted in expected.items():
        assert float(value) == pytest.approx(wanted, rel=1e-5)


def test_the_random_target_is_positive_and_of_the_length_asked_for() -> None:
    target = losses.random_target(16, 6.5, torch.Generator().manual_seed(0))
    assert float(target.norm()) == pytest.approx(6.5, rel=1e-6)
    assert bool((target >= 0).all())


ALL = {
    "nll": nll,
    "npo": lambda f: losses.npo(f, torch.ones(2)),
    "simnpo": losses.simnpo,
    "undial": lambda f: losses.undial(f, torch.ones_like(f.logits)),
    "ce_u": losses.ce_u,
    "wga": losses.wga,
    "negative_entropy": losses.negative_entropy,
}


@pytest.mark.parametrize("name", ALL)
def test_prompts_and_padding_have_no_gradient(name: str, found: Predictions) -> None:
    logits = found.logits.clone().requires_grad_()
    moving = Predictions(logits=logits, targets=found.targets, counted=found.counted)
    (slope,) = torch.autograd.grad(ALL[name](moving), logits)
    assert not bool(slope[~found.counted].any())
    assert bool(slope[found.counted].any(-1).all())
    assert bool(slope.isfinite().all())
