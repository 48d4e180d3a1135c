"""The second door: a transformer-lens bridge gives the same numbers and leaves the model alone."""

import copy

import pytest
import torch

from interp import HookedModel, Site, load_model
from interp.training.loop import trainable

TEXTS = ["The house is on fire.", "Tea is ready now."]


def compared(model: HookedModel, batch: dict[str, torch.Tensor], tolerance: float) -> int:
    """Number of sites at which both doors agree, relative to the norm of each token's value."""
    bridge = model.bridge()
    names = [str(site) for site in model.sites]
    with torch.no_grad(), model.capture(names) as ours:
        logits = model.module(**batch).logits
    with torch.no_grad():
        other, theirs = bridge.run_with_cache(
            batch["input_ids"], attention_mask=batch["attention_mask"], names_filter=names
        )
    real = batch["attention_mask"].bool()
    assert (other[real] - logits[real]).abs().max() < tolerance * logits[real].abs().max()
    for name in names:
        mine = ours[Site.parse(name)][0][real].flatten(1)
        its = theirs[name][real].flatten(1)
        error = (mine - its).norm(dim=-1) / its.norm(dim=-1)
        assert error.max() < tolerance, name
    return len(names)


@pytest.mark.model
def test_both_doors_agree_on_the_embedded_model_which_stays_as_it_is(
    smollm2: HookedModel, tmp_path
) -> None:
    module = smollm2.module
    keys, origin = list(module.state_dict()), smollm2.origin
    attention, modules = module.config._attn_implementation, [type(m) for m in module.modules()]
    padding = smollm2.tokenizer.padding_side
    batch = smollm2.tokenize(TEXTS).batch([0, 1])
    assert compared(smollm2, batch, 1e-4) == 7 * 30
    assert list(module.state_dict()) == keys
    assert smollm2.origin == origin
    assert module.config._attn_implementation == attention == "sdpa"
    assert [type(m) for m in module.modules()] == modules
    assert smollm2.tokenizer.padding_side == padding
    assert smollm2.tokenizer("tea")["input_ids"] == smollm2.tokenizer("tea")["input_ids"]
    back = load_model(smollm2.save(tmp_path / "after"))
    assert back.origin.fingerprint == origin.fingerprint
    loss = back.module(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    assert all(p.grad is not None for p in back.module.parameters())


@pytest.mark.model
def test_the_model_takes_adapters_after_a_bridge_was_booted(smollm2: HookedModel) -> None:
    pytest.importorskip("peft", reason="adapters come from peft (the extra `train`)")
    smollm2.bridge()
    module = trainable(copy.deepcopy(smollm2.module), 8, 0, targets=["q_proj"])
    batch = smollm2.tokenize(TEXTS).batch([0, 1])
    module(**batch, labels=batch["input_ids"]).loss.backward()
    trained = [name for name, p in module.named_parameters() if p.grad is not None]
    assert len(trained) == 60


@pytest.mark.model
def test_the_bridge_gives_what_no_module_puts_out(smollm2: HookedModel) -> None:
    batch = smollm2.tokenize(TEXTS[:1]).batch([0])
    with torch.no_grad():
        _, cache = smollm2.bridge().run_with_cache(
            batch["input_ids"], names_filter=["blocks.3.attn.hook_pattern"]
        )
    pattern = cache["blocks.3.attn.hook_pattern"]
    assert pattern.shape[1] == 9
    torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
