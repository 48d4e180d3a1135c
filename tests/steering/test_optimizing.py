"""Optimized vectors raise what they were trained to raise, and the model stays as it was."""

import numpy as np
import pytest
import torch

from interp import HookedModel
from steering import AffineSteering, Contests, SteeringVector, sweep
from steering.optimizing import (
    OptimizationConfig,
    bipo,
    discover_vectors,
    likelihood,
    optimize_low_rank,
    optimize_vector,
)

CONTESTS = Contests(
    prompts=("the sky is", "a sea is", "my car is", "that is"),
    positive=(" aa", " aa", " aa", " aa"),
    negative=(" zz", " zz", " zz", " zz"),
)
CONFIG = OptimizationConfig(n_steps=15, learning_rate=0.5, batch_size=4)


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
        AffineSteering(maps={1: made}, positions=CONFIG.positions).applied(llama),
    ):
        logits = llama.module(ids).logits[0].log_softmax(-1)
    edited = sum(float(logits[k, ids[0, k + 1]]) for k in range(9, ids.shape[1] - 1))
    assert edited > plain[0] + 0.5


def test_discovered_vectors_are_orthogonal_and_change_more_than_random_ones(
    llama: HookedModel,
) -> None:
    prompts = ["the sky is", "another one"]
    found = discover_vectors(llama, prompts, layer=0, target_layer=3, n_vectors=2, n_steps=10)
    assert abs(found[0].cosine(found[1])[0]) < 1e-4
    assert found[0].strengths[0] == pytest.approx(0.3, rel=1e-3)

    def change(vector: torch.Tensor) -> float:
        moved = []
        for text in prompts:
            ids = torch.tensor([llama.tokenizer(text)["input_ids"]])
            with torch.no_grad(), llama.capture(["blocks.3.hook_resid_post"]) as values:
                llama.module(ids)
                with SteeringVector(values={0: vector}).applied(llama):
                    llama.module(ids)
            (plain, steered) = next(iter(values.values()))
            moved.append((steered - plain)[0, 1:].norm(dim=-1))
        return float(torch.cat(moved).mean())

    norm = found[0].values[0].norm()
    random = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    controls = [change(norm * row / row.norm()) for row in random]
    assert change(found[0].values[0]) > max(controls)
    with pytest.raises(ValueError, match="is not above"):
        discover_vectors(llama, prompts, layer=2, target_layer=2)
