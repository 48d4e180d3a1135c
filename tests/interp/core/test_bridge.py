"""The second door: a transformer-lens bridge gives the same numbers and leaves the model alone."""

import logging

import pytest
import torch

from interp import HookedModel, Site

TEXTS = ["a fire", "tea", "the old bridge"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_both_doors_agree_at_every_site(any_model: HookedModel, side: str) -> None:
    batch = any_model.tokenize(TEXTS).batch(range(3), side=side)
    names = [str(site) for site in any_model.sites]
    bridge = any_model.bridge()
    with torch.no_grad(), any_model.capture(names) as ours:
        logits = any_model.module(**batch).logits
    with torch.no_grad():
        others, theirs = bridge.run_with_cache(
            batch["input_ids"], attention_mask=batch["attention_mask"], names_filter=names
        )
    real = batch["attention_mask"].bool()
    for mine, its in [(logits, others)] + [(ours[Site.parse(n)][0], theirs[n]) for n in names]:
        mine, its = mine[real].flatten(1), its[real].flatten(1)  # noqa: PLW2901
        assert ((mine - its).norm(dim=-1) / its.norm(dim=-1)).max() < 1e-4
    assert len(names) >= 18


def test_booting_leaves_the_model_as_it_was(tiny: HookedModel, tmp_path) -> None:
    module = tiny.module
    before = list(module.state_dict()), module.config.to_dict(), tiny.origin, str(module)
    level, random = logging.getLogger("transformers").level, torch.get_rng_state()
    tiny.bridge()
    assert torch.equal(torch.get_rng_state(), random)
    assert (list(module.state_dict()), module.config.to_dict(), tiny.origin, str(module)) == before
    assert logging.getLogger("transformers").level == level
    tiny.save(tmp_path)
    assert (tmp_path / "model.safetensors").exists()


def test_a_model_without_a_tokenizer_has_no_bridge(make_model) -> None:
    model = HookedModel(make_model("llama").module)
    with pytest.raises(ValueError, match="a bridge needs a tokenizer"):
        model.bridge()
