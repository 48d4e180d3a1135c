"""Damage: divergence and loss as hooks give them; budgets are met; doing nothing costs nothing."""

import numpy as np
import pytest
import torch

from interp import HookedModel
from steering import SteeringVector, calibrate, damage, front, repetition
from tests.steering.test_sweeps import sweep_result

TEXTS = [
    "some neutral text of a few words",
    "another one, about nothing at all",
    "and a third text",
]


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
@pytest.mark.parametrize("site", ["resid_post", "attn_out"])
def test_divergence_and_loss_equal_those_of_two_passes(
    fixture: str, site: str, vector: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(fixture)
    steer = SteeringVector(values={1: vector}, site=site)
    got = damage(model, steer, TEXTS, coefficients=(0.5, -1.0))
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            plain = model.module(ids).logits[0].log_softmax(-1)
            with steer.applied(model, coefficient=-1.0):
                steered = model.module(ids).logits[0].log_softmax(-1)
        kl = torch.nn.functional.kl_div(steered[:-1], plain[:-1], log_target=True, reduction="sum")
        assert got.kl[row, 1] == pytest.approx(float(kl) / (ids.shape[1] - 1), rel=1e-3)
        loss = torch.nn.functional.cross_entropy(steered[:-1], ids[0, 1:])
        assert got.loss[row, 1] == pytest.approx(float(loss), rel=1e-4)
    assert not model.hooks.active


def test_no_steering_costs_nothing(llama: HookedModel, vector: torch.Tensor) -> None:
    got = damage(llama, SteeringVector(values={1: vector}), TEXTS, coefficients=(0.0,))
    np.testing.assert_allclose(got.kl, 0, atol=1e-6)
    np.testing.assert_allclose(got.perplexity_ratio, 1, atol=1e-6)
    assert got.plot().data
    assert len(got.to_frame()) == 3


@pytest.mark.parametrize("sign", [1, -1])
def test_calibrated_strength_meets_the_budget(
    llama: HookedModel, vector: torch.Tensor, sign: int
) -> None:
    steer = SteeringVector(values={1: vector})
    found = calibrate(llama, steer, TEXTS, budget=0.05, sign=sign)
    cost = damage(llama, steer, TEXTS, coefficients=(found.coefficient,)).kl.mean()
    assert cost == pytest.approx(0.05, rel=0.1)
    assert np.sign(found.coefficient) == sign
    with pytest.raises(ValueError, match="needed a positive divergence"):
        calibrate(llama, steer, TEXTS, budget=0.0)


def test_repetition_counts_triples(llama: HookedModel, vector: torch.Tensor) -> None:
    frame = repetition(
        llama, SteeringVector(values={1: vector}), ["ab"], coefficients=(0.0, 1.0), max_new_tokens=9
    )
    assert len(frame) == 2
    assert frame["repeated"].between(0, 1).all()


def test_front_needs_shared_coefficients(llama: HookedModel, vector: torch.Tensor) -> None:
    swept = sweep_result(np.array([[0.0, 1.0], [0.5, 2.0]]))
    cost = damage(llama, SteeringVector(values={1: vector}), TEXTS, coefficients=(0.0, 1.0))
    made = front(swept, cost)  # type: ignore[arg-type]
    assert made.effect[0].value == pytest.approx(1.25)
    assert len(made.to_frame()) == 1
    assert made.plot().data
    with pytest.raises(ValueError, match="needs coefficient 0"):
        front(swept, damage(llama, SteeringVector(values={1: vector}), TEXTS, coefficients=(2.0,)))  # type: ignore[arg-type]


def test_single_tokens_are_refused(llama: HookedModel, vector: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="two or more tokens"):
        damage(llama, SteeringVector(values={1: vector}), ["a"])
