"""Sites: what a hook reads is the tensor that the name promises, on every architecture."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interp import HookedModel, HookNotFoundError, Location, Site, extract
from interp.core.sites import LAYER_SITES

TEXTS = ["a fire in the house", "tea", "the old bridge is closed"]

# Paths of the modules in a block, written by hand: attention, its output projection, the norm in
# front of the MLP, the MLP, its output projection, and what adds attention and MLP to the stream.
PATHS = {
    "LlamaForCausalLM": ("model.layers", "self_attn", "self_attn.o_proj",
                         "post_attention_layernorm", "mlp", "mlp.down_proj"),
    "Qwen3ForCausalLM": ("model.layers", "self_attn", "self_attn.o_proj",
                         "post_attention_layernorm", "mlp", "mlp.down_proj"),
    "GPT2LMHeadModel": ("transformer.h", "attn", "attn.c_proj", "ln_2", "mlp", "mlp.c_proj"),
    "Gemma3ForCausalLM": ("model.layers", "post_attention_layernorm", "self_attn.o_proj",
                          "pre_feedforward_layernorm", "post_feedforward_layernorm",
                          "mlp.down_proj"),
    "GPTNeoXForCausalLM": ("gpt_neox.layers", "attention", "attention.dense",
                           "post_attention_layernorm", "mlp", "mlp.dense_4h_to_h"),
}  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
def test_residual_stream_equals_the_hidden_states_of_hugging_face(any_model, side) -> None:
    batch = any_model.tokenize(TEXTS).batch(range(3), side=side)
    sites = [Site("resid_post", layer) for layer in range(any_model.n_layers)]
    with torch.no_grad(), any_model.capture([*sites, Site("resid_pre", 0)]) as found:
        expected = any_model.module(**batch, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(found[Site("resid_pre", 0)][0][real], expected[0][real])
    for layer, site in enumerate(sites[:-1]):
        difference = found[site][0][real] - expected[layer + 1][real]
        assert difference.abs().max() < 1e-4
    last = found[sites[-1]][0]
    assert (last[real] - expected[-1][real]).abs().max() > 1e-2  # the last entry is normed
    norms = [m for name, m in any_model.body.named_children() if "norm" in name or "ln_f" in name]
    assert (norms[-1](last)[real] - expected[-1][real]).abs().max() < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_extraction_equals_the_hidden_states_of_each_text_alone(any_model, side) -> None:
    extracted = extract(any_model, TEXTS, batch_tokens=64)
    tokens = any_model.tokenize(TEXTS)
    for example in range(len(TEXTS)):
        batch = tokens.batch([example], side=side)
        with torch.no_grad():
            expected = any_model.module(**batch, output_hidden_states=True).hidden_states
        mine = extracted[[example]].values
        for layer in range(any_model.n_layers - 1):
            assert (mine[:, layer] - expected[layer + 1][0]).abs().max() < 1e-4


def captured_by_hand(module: nn.Module, batch: dict[str, Tensor]) -> dict[tuple[str, int], Tensor]:
    """All sites of all blocks by plain torch hooks on paths written by hand."""
    blocks, attention, projection, norm, mlp, down = PATHS[type(module).__name__]
    found: dict[tuple[str, int], Tensor] = {}

    def first(value: Tensor | tuple) -> Tensor:
        return value if isinstance(value, Tensor) else value[0]

    def keep_in(key: tuple[str, int]) -> Callable:
        def hook(_: nn.Module, args: tuple, kwargs: dict) -> None:
            found[key] = args[0] if args else kwargs["hidden_states"]

        return hook

    def keep_out(key: tuple[str, int]) -> Callable:
        return lambda _, args, output: found.__setitem__(key, first(output))

    handles = []
    for layer, block in enumerate(module.get_submodule(blocks)):
        for name, path in {"z": projection, "resid_mid": norm, "mlp_post": down}.items():
            part = block.get_submodule(path)
            handles.append(part.register_forward_pre_hook(keep_in((name, layer)), with_kwargs=True))
        handles.append(
            block.register_forward_pre_hook(keep_in(("resid_pre", layer)), with_kwargs=True)
        )
        for name, path in {"attn_out": attention, "mlp_out": mlp, "resid_post": ""}.items():
            handles.append(block.get_submodule(path).register_forward_hook(keep_out((name, layer))))
    with torch.no_grad():
        module(**batch)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_site_equals_a_hand_written_hook(any_model, side) -> None:
    batch = any_model.tokenize(TEXTS).batch(range(3), side=side)
    expected = captured_by_hand(any_model.module, batch)
    with torch.no_grad(), any_model.capture(any_model.sites) as found:
        any_model.module(**batch)
    assert len(found) == len(any_model.sites)
    for site, (value,) in found.items():
        other = expected[site.name, site.layer]
        assert torch.equal(value.flatten(2), other), site
        if site.name == "z":
            assert value.shape[2:] == (4, 4)  # heads, width of a head


def test_parallel_blocks_have_every_site_but_the_middle_one(make_model) -> None:
    parallel, sequential = (make_model(f"gpt_neox_{kind}") for kind in ("parallel", "sequential"))
    assert set(sequential.sites.names) == set(LAYER_SITES)
    assert set(parallel.sites.names) == set(LAYER_SITES) - {"resid_mid"}
    with pytest.raises(HookNotFoundError, match=r"no site 'resid_mid' on this model \(it has"):
        extract(parallel, TEXTS, layers=0, sites="resid_mid")


def test_contributions_add_up_to_the_stream(any_model) -> None:
    names = [name for name in LAYER_SITES if name in any_model.sites.names]
    wide = [name for name in names if name not in ("z", "mlp_post")]
    parts = extract(any_model, TEXTS, sites=wide).tensors
    total = parts["resid_pre"] + parts["attn_out"] + parts["mlp_out"]
    torch.testing.assert_close(total, parts["resid_post"], atol=1e-5, rtol=1e-5)


def test_errors_name_the_closest_hook(tiny) -> None:
    with pytest.raises(HookNotFoundError, match=r"did you mean 'blocks\.2\.hook_resid_post'"):
        tiny.sites["blocks.2.hook_resid_pots"]
    with pytest.raises(HookNotFoundError, match="did you mean 'resid_post'"):
        tiny.sites.at("resid_pots", 0)
    with pytest.raises(HookNotFoundError, match="no layer 3 on this model: layers go from 0 to 2"):
        tiny.sites.at("resid_post", (0, 3))
    with pytest.raises(HookNotFoundError, match="no layer -4"):
        tiny.sites.at("resid_post", -4)
    with pytest.raises(KeyError):
        tiny.sites["banana"]


def test_names_are_those_of_transformer_lens_and_round_trip(tiny) -> None:
    assert {str(site) for site in tiny.sites if site.layer == 1} == {
        "blocks.1.hook_resid_pre",
        "blocks.1.attn.hook_z",
        "blocks.1.hook_attn_out",
        "blocks.1.hook_resid_mid",
        "blocks.1.mlp.hook_post",
        "blocks.1.hook_mlp_out",
        "blocks.1.hook_resid_post",
    }
    assert all(Site.parse(str(site)) == site for site in tiny.sites)


def test_any_module_can_be_given_sites() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model = HookedModel(net, sites={"hidden": "1", "last_input": Location("2", io="in")})
    with model.capture(["hidden", "last_input"]) as found:
        net(torch.ones(3, 4))
    hidden, last_input = found[Site("hidden")][0], found[Site("last_input")][0]
    assert torch.equal(hidden, last_input)
    assert torch.equal(hidden, net[1](net[0](torch.ones(3, 4))))


def test_a_wrong_path_and_a_module_of_another_kind_are_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 8))
    with pytest.raises(ValueError, match="site 'hidden': no module '7' in Sequential"):
        HookedModel(net, sites={"hidden": "7"})
    with pytest.raises(ValueError, match="not a Hugging Face model: pass sites="):
        HookedModel(net)


def test_blocks_that_do_not_hand_on_one_stream_are_refused(make_model) -> None:
    module = make_model("llama").module
    module.model.layers[1] = _SideStream(module.model.layers[1], change=0.0)
    HookedModel(module)  # the control: a wrapped block hands on what it computes
    module.model.layers[1] = _SideStream(module.model.layers[1], change=1.0)
    with pytest.raises(HookNotFoundError, match="do not hand one residual stream on"):
        HookedModel(module)


class _SideStream(nn.Module):
    """A block behind which the stream changes before the next block gets it."""

    def __init__(self, block: nn.Module, *, change: float) -> None:
        super().__init__()
        self.block, self.change = block, change
        self.attention_type = "full_attention"

    def __call__(self, *args: object, **kwargs: object) -> Tensor:
        output = super().__call__(*args, **kwargs)
        return output + self.change if self.change else output

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.block(*args, **kwargs)
