"""Estimates: exact where the model is linear, and close where it is nearly so."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interp import HookedModel
from interp.attribution import (
    Metric,
    Pairs,
    attribute_cells,
    compare,
    grid,
    logit_diff,
    make_pairs,
    patch_cells,
    patch_sweep,
    verify,
)


class LinearBlock(nn.Module):
    """A residual block that mixes the tokens so far, and nothing else."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.write = nn.Linear(d_model, d_model, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        n = torch.arange(1, hidden_states.shape[1] + 1)[:, None]
        return hidden_states + self.write(hidden_states.cumsum(1) / n)


class LinearModel(nn.Module):
    """A language model without any nonlinearity."""

    def __init__(self, d_vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(d_vocab, 16)
        self.blocks = nn.ModuleList([LinearBlock(16) for _ in range(3)])
        self.head = nn.Linear(16, d_vocab)

    def forward(
        self, input_ids: Tensor, attention_mask: object = None, position_ids: object = None,
        use_cache: bool = False,
    ) -> SimpleNamespace:  # fmt: skip
        value = self.embedding(input_ids)
        for block in self.blocks:
            value = block(value)
        return SimpleNamespace(logits=self.head(value))


@pytest.fixture
def linear(gpt2: HookedModel) -> HookedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = LinearModel(len(gpt2.tokenizer))
    sites = {f"blocks.{k}.hook_resid_post": f"blocks.{k}" for k in range(3)}
    sites |= {f"blocks.{k}.hook_mlp_out": f"blocks.{k}.write" for k in range(3)}
    return HookedModel(module, sites=sites, tokenizer=gpt2.tokenizer)


def country_pairs(model: HookedModel) -> Pairs:
    return make_pairs(
        model,
        [f"the capital of land{k} is" for k in range(8)],
        [f"the capital of land{(k + 3) % 8} is" for k in range(8)],
        answers=[f"city{k}" for k in range(8)],
        wrong_answers=[f"city{(k + 3) % 8}" for k in range(8)],
    )


def test_attribution_equals_patching_on_a_linear_model(linear: HookedModel) -> None:
    pairs = country_pairs(linear)
    metric = logit_diff(pairs)
    for source in ("clean", "corrupted", "zero", "mean", "resample"):
        exact = patch_sweep(linear, pairs, metric, "resid_post", source=source)
        estimate = attribute_cells(
            linear, pairs, metric, exact.cells, method="gradient", source=source
        )
        np.testing.assert_allclose(estimate.values, exact.values, atol=1e-5)
    assert compare(estimate, exact).slope == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_units_sum_to_what_they_write(
    name: str, method: str, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model)
    sizes = {"z": 4, "mlp_post": 128 if name == "gpt2" else 48}
    for parts, whole in (("z", "attn_out"), ("mlp_post", "mlp_out")):
        cells = grid(model, parts, units=range(sizes[parts]))
        found = [
            attribute_cells(model, pairs, logit_diff(pairs), group, method=method).changes
            for group in (cells, grid(model, whole))
        ]
        np.testing.assert_allclose(found[0].reshape(3, -1).sum(1), found[1], atol=1e-4)


def test_the_gradient_is_that_of_autograd(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    seen: list[Tensor] = []
    mlp = gpt2.module.get_submodule("transformer.h.1.mlp")
    handle = mlp.register_forward_hook(lambda mod, args, output: seen.append(output))
    ids = [torch.from_numpy(s.ids).reshape(8, -1) for s in (pairs.clean, pairs.corrupted)]
    gpt2.module(ids[0])
    logits = gpt2.module(ids[1]).logits[:, -1]
    handle.remove()
    rows = torch.arange(8)
    score = logits[rows, pairs.answers] - logits[rows, pairs.wrong_answers]
    (gradient,) = torch.autograd.grad(score.sum(), seen[1])
    expected = score[:, None] + ((seen[0] - seen[1]) * gradient).sum(-1)
    cells = grid(gpt2, "mlp_out", layers=1, columns=range(5))
    found = attribute_cells(gpt2, pairs, logit_diff(pairs), cells, method="gradient")
    np.testing.assert_allclose(found.values, expected.detach(), atol=1e-5)


def test_integrated_gradients_add_up_where_gradients_do_not(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    cells = grid(llama, "resid_pre", layers=0)
    errors = [
        np.abs(
            attribute_cells(
                llama, pairs, logit_diff(pairs), cells, method=method, n_steps=n
            ).effects
            - 1
        ).max()
        for method, n in (("gradient", 1), ("integrated", 5), ("integrated", 30))
    ]
    assert errors[2] < 0.02  # completeness: the way from one run to the other is all there is
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("method", ["gradient", "integrated", "grad_drop"])
def test_the_planted_head_ranks_first(head_model: HookedModel, method: str) -> None:
    pairs = country_pairs(head_model)
    cells = grid(head_model, "z", units=range(4))
    found = attribute_cells(head_model, pairs, logit_diff(pairs), cells, method=method)
    best = found.top(1)[0]
    assert (best.layer, best.units) == (1, (2,))
    assert np.sort(np.abs(found.effects))[-2] < 0.1 * np.abs(found.effects).max()


def test_grad_drop_sees_effects_that_cancel(linear: HookedModel) -> None:
    """Layer 1 takes back all that layer 0 leaves: only without it does anything get through."""
    with torch.no_grad():
        for layer, factor in ((1, -1.0), (2, 0.5)):
            linear.module.blocks[layer].write.weight.copy_(factor * torch.eye(16))
    answers = {"answers": ["city0"], "wrong_answers": ["city1"]}
    pairs = make_pairs(linear, ["land0"], ["land1"], **answers)
    cell = grid(linear, "resid_post", layers=0)
    plain, dropped = (
        attribute_cells(linear, pairs, logit_diff(pairs), cell, method=method).changes[0]
        for method in ("gradient", "grad_drop")
    )
    first, embedding = linear.module.blocks[0], linear.module.embedding.weight
    change = embedding[pairs.clean.ids[0]] - embedding[pairs.corrupted.ids[0]]
    weights = linear.module.head.weight[[*pairs.answers, *pairs.wrong_answers]]
    direct = float(((change + first.write(change)) @ (weights[0] - weights[1])).detach())
    assert plain == pytest.approx(0, abs=1e-5)
    assert dropped == pytest.approx((1.5 * abs(direct) + 0) / 2, rel=1e-4)


def test_verification_patches_the_top_and_some_others(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    metric = logit_diff(pairs)
    cells = grid(llama, "mlp_out", columns=range(5))
    estimate = attribute_cells(llama, pairs, metric, cells)
    checked = verify(llama, pairs, metric, estimate, n_top=4, n_random=3)
    assert checked.cells[:4] == estimate.top(4)
    assert len(set(checked.cells)) == 7
    exact = patch_cells(llama, pairs, metric, cells)
    known = dict(zip(exact.cells, exact.effects, strict=True))
    np.testing.assert_allclose(checked.exact, [known[c] for c in checked.cells], atol=1e-5)
    assert compare(exact, exact).recall == 1
    assert compare(exact, exact).pearson == pytest.approx(1)
    assert len(checked.to_frame()) == 7
    with pytest.raises(ValueError, match="cells were not estimated"):
        compare(estimate, patch_cells(llama, pairs, metric, grid(llama, "z")))


def test_there_is_no_way_to_a_mean_or_to_another_model(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    with pytest.raises(ValueError, match="use method='gradient'"):
        attribute_cells(llama, pairs, logit_diff(pairs), grid(llama, "z"), source="mean")
    bad = Metric(name="bad", score=lambda logits, rows: logits[:, -1, 0] / 0)
    with pytest.raises(ValueError, match="metric 'bad' is NaN or infinite"):
        attribute_cells(llama, pairs, bad, grid(llama, "z"))
    best = Metric(name="best", score=lambda logits, rows: logits[:, -1].argmax(-1).float())
    with pytest.raises(ValueError, match="metric 'best' has no gradient"):
        attribute_cells(llama, pairs, best, grid(llama, "z"))


def test_weights_want_gradients_again_afterwards(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    attribute_cells(llama, pairs, logit_diff(pairs), grid(llama, "z"))
    assert all(p.requires_grad and p.grad is None for p in llama.module.parameters())
