"""Discovered vectors change later activations more than random ones, each in its own way."""

import pytest
import torch

from interp import HookedModel
from steering import SteeringVector, discover_vectors


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
