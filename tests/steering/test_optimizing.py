"""Optimized vectors raise what they were trained to raise, and the model stays as it was."""

import numpy as np
import pytest
import torch

from interp import HookedModel, generate
from steering import Contests, MapSteering, SteeringVector, sweep
from steering.optimizing import (
    OptimizationConfig,
    bipo,
    likelihood,
    optimize_low_rank,
    optimize_rank_one,
    optimize_vector,
    rank_one_edit,
)

CONTESTS = Contests(
    prompts=("the sky is", "a sea is", "my car is", "that is"),
    positive=(" aa", " aa", " aa", " aa"),
    negative=(" zz", " zz", " zz", " zz"),
)
CONFIG = OptimizationConfig(n_steps=12, learning_rate=0.5, batch_size=4)


@pytest.mark.parametrize("loss", [bipo, likelihood])
def test_optimized_vector_raises_the_positive_continuation(llama: HookedModel, loss) -> None:
    weights = {k: w.clone() for k, w in llama.module.state_dict().items()}
    vector = optimize_vector(llama, CONTESTS, layer=1, loss=loss, config=CONFIG)
    assert all(torch.equal(w, weights[k]) for k, w in llama.module.state_dict().items())
    assert all(p.grad is None for p in llama.module.parameters())
    assert vector.strengths[1] <= 0.5 + 1e-4
    swept = sweep(llama, vector, CONTESTS, coefficients=(-1.0, 0.0, 1.0))
    gain = swept.positive[:, 2] - swept.positive[:, 1]
    assert (gain > 0.5).all()
    if loss is bipo:
        assert (swept.slopes > 0.5).all()


def test_bipo_is_its_formula() -> None:
    scores = {0.0: (-3.0, -4.0), 1.0: (-1.0, -5.0), -1.0: (-6.0, -2.0)}
    got = bipo(lambda c: tuple(torch.tensor([x]) for x in scores[c]))  # type: ignore[arg-type]
    margins = ((-1 + 3) - (-5 + 4), -((-6 + 3) - (-2 + 4)))
    expected = np.mean([np.log1p(np.exp(-m)) for m in margins])
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_low_rank_edit_raises_the_positive_continuation(llama: HookedModel) -> None:
    config = OptimizationConfig(n_steps=15, learning_rate=0.05, batch_size=4, max_norm=None)
    made = optimize_low_rank(llama, CONTESTS, layer=1, rank=2, config=config)
    change = made.matrix - torch.eye(32)
    assert int(torch.linalg.matrix_rank(change, tol=1e-4)) == 2
    zero = SteeringVector(values={1: torch.zeros(32)})
    plain = sweep(llama, zero, CONTESTS, coefficients=(0.0, 1.0)).positive[:, 0]
    ids = torch.tensor([llama.tokenizer("the sky is aa")["input_ids"]])
    with (
        torch.no_grad(),
        llama.hooks.prompts(torch.tensor([10])),
        MapSteering(maps={1: made}, positions=CONFIG.positions).applied(llama),
    ):
        logits = llama.module(ids).logits[0].log_softmax(-1)
    edited = sum(float(logits[k, ids[0, k + 1]]) for k in range(9, ids.shape[1] - 1))
    assert edited > plain[0] + 0.5


def test_rank_one_edit_is_its_formula(llama: HookedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    h, w = torch.randn(2, 5, 8, generator=generator), torch.randn(8, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    changed, _, others = rank_one_edit(h, w, mask, top_k=2)
    u = (w / w.norm()).numpy()
    rest = []
    for row, n in ((0, 5), (1, 3)):
        detections = np.sort(np.maximum(h[row, :n].numpy() @ u, 0))[::-1]
        expected = h[row].numpy() + detections[:2].mean() * u
        np.testing.assert_allclose(changed[row].numpy(), expected, atol=1e-5)
        rest += detections[2:].tolist()
    assert float(others) == pytest.approx(np.mean(rest), abs=1e-5)


def test_rank_one_vector_raises_what_a_planted_vector_wrote(llama: HookedModel) -> None:
    """The continuations are those of a steered model; unsteered ones are the control."""
    prompts = [f"the {w} is" for w in ("sky", "sea", "car", "sun", "cat", "dog")]
    planted = SteeringVector(values={1: 4 * torch.ones(32) * torch.linspace(-1, 1, 32)})
    plain = generate(llama, prompts, max_new_tokens=6).texts
    with planted.applied(llama):
        written = generate(llama, prompts, max_new_tokens=6).texts
    config = OptimizationConfig(n_steps=12, learning_rate=1.0, batch_size=4)
    gains = []
    for target in (written, plain):
        train = Contests(prompts=tuple(prompts[:4]), positive=target[:4], negative=(" zz",) * 4)
        vector = optimize_rank_one(llama, train, layer=1, top_k=2, config=config)
        held_out = Contests(prompts=tuple(prompts[4:]), positive=written[4:], negative=(" z",) * 2)
        swept = sweep(llama, vector, held_out, coefficients=(0.0, 1.0), positions="all")
        gains.append((swept.positive[:, 1] - swept.positive[:, 0]).mean())
    assert gains[0] > 1.0
    assert gains[0] > gains[1] + 1.0
