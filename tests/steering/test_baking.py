"""Baking: weights give what hooks give, are saved, and come back exactly."""

import pytest
import torch

from interp import HookedModel, generate
from steering import SteeringVector, bake_ablation, bake_addition, baked_addition
from tests.tiny_models import tiny_gpt2, tiny_llama

PROMPTS = ["ab", "a longer one"]


def state(model: HookedModel) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_baked_addition_writes_what_the_hook_writes(make, vector: torch.Tensor) -> None:
    model = make()
    before = state(model)
    steer = SteeringVector(values={1: vector, 2: -vector})
    with steer.applied(model, coefficient=0.5):
        expected = generate(model, PROMPTS, max_new_tokens=8).tokens
    with baked_addition(model, steer, coefficient=0.5):
        assert not model.hooks.active
        assert generate(model, PROMPTS, max_new_tokens=8).tokens == expected
    assert same(state(model), before)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_baked_ablation_keeps_the_direction_out_of_every_layer(make, vector: torch.Tensor) -> None:
    model = make()
    before = state(model)
    tied = model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight
    baked = bake_ablation(model, vector)
    sites = [s for s in model.sites if s.name in ("resid_pre", "resid_mid", "resid_post")]
    with model.capture(sites) as found, torch.no_grad():
        model.module(torch.tensor([[4, 5, 6]]))
    for values in found.values():
        assert float((values[0] @ vector).abs().max()) < 1e-3
    assert not same(state(model), before)
    baked.undo()
    baked.undo()
    assert same(state(model), before)
    again = (
        model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight
    )
    assert again == tied


def test_other_sites_and_models_that_differ_are_refused(vector: torch.Tensor) -> None:
    model = tiny_llama()
    with pytest.raises(ValueError, match="is no bias"):
        bake_addition(model, SteeringVector(values={1: vector}, site="resid_pre"))
    before = state(model)

    class Doubled(torch.nn.Linear):
        """A map after which something happens that a bias does not pass through unchanged."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model.module.model.layers[1].mlp.down_proj.__class__ = Doubled
    with pytest.raises(ValueError, match="steer with hooks"):
        bake_addition(model, SteeringVector(values={1: vector}))
    assert same(state(model), before)
