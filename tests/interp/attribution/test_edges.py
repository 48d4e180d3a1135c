"""Edges: the same as nodes and hooks by hand, and the planted head's edges carry the answer."""

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedModel
from interp.attribution import Pairs, attribute_cells, grid, logit_diff, make_pairs
from interp.attribution.edges import Edge, attribute_edges, verify_edges


def country_pairs(model: HookedModel, n: int = 4, text: str = "the capital of {} is") -> Pairs:
    return make_pairs(
        model,
        [text.format(f"land{k}") for k in range(n)],
        [text.format(f"land{k + 4}") for k in range(n)],
        answers=[f"city{k}" for k in range(n)],
        wrong_answers=[f"city{k + 4}" for k in range(n)],
    )


def test_a_writers_edges_sum_to_its_own_estimate(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2, 2, text="the {} is")
    metric = logit_diff(pairs)
    found = attribute_edges(gpt2, pairs, metric)
    totals = found.to_frame().groupby(["writer", "column"])["effect"].sum()
    heads = grid(gpt2, "z", columns=range(3), units=range(4))
    for cells, kind in ((heads, "head"), (grid(gpt2, "mlp_out", columns=range(3)), "MLP")):
        estimate = attribute_cells(gpt2, pairs, metric, cells, method="gradient")
        for cell, effect in zip(cells, estimate.effects, strict=True):
            unit = f".{cell.units[0]}" if cell.units else ""
            name = f"{kind} {cell.layer}{unit}"
            assert totals[name, cell.column] == pytest.approx(effect, abs=1e-4)
    assert np.abs(found.effects).max() > 0.05


def test_an_edge_into_an_mlp_is_change_times_gradient(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2, 1)
    found = attribute_edges(gpt2, pairs, logit_diff(pairs))
    blocks, seen = gpt2.module.transformer.h, []
    handle = blocks[0].mlp.register_forward_hook(lambda mod, args, output: seen.append(output))
    leaf = torch.zeros(1, 5, 32, requires_grad=True)
    clean, corrupted = (torch.from_numpy(s.ids)[None] for s in (pairs.clean, pairs.corrupted))
    gpt2.module(clean)

    def into_mlp(mod: object, args: tuple) -> tuple[Tensor]:
        return (blocks[1].ln_2(mid[0] + leaf),)  # what the MLP of block 1 alone reads

    mid: list[Tensor] = []
    handles = [
        handle,
        blocks[1].ln_2.register_forward_pre_hook(lambda mod, args: mid.append(args[0])),
    ]
    gpt2.module(corrupted)
    handles.append(blocks[1].mlp.register_forward_pre_hook(into_mlp))
    logits = gpt2.module(corrupted).logits[0, -1]
    for one in handles:
        one.remove()
    score = logits[pairs.answers[0]] - logits[pairs.wrong_answers[0]]
    (gradient,) = torch.autograd.grad(score, leaf)
    expected = ((seen[0] - seen[1]) * gradient)[0, 3].sum().item()
    edge = Edge(writer="MLP 0", reader="MLP 1", column=3)
    place = found.edges.index(edge)
    assert found.changes[place] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-4


def test_the_planted_heads_edges_are_the_circuit(head_model: HookedModel) -> None:
    pairs = country_pairs(head_model, text="{} is")
    metric = logit_diff(pairs)
    found = attribute_edges(head_model, pairs, metric)
    best = found.top(2)
    assert Edge(writer="head 1.2", reader="logits", column=1) in best
    assert Edge(writer="embedding", reader="values 1.2", column=0) in best
    few = pairs.take([0, 1])
    kept = verify_edges(head_model, few, logit_diff(few), found, n_top=6, n_random=1)
    assert kept.means["largest estimates"] > 0.9
    assert kept.means["random edges 0"] < 0.1
    readers = [12 * 1 + 5, 12 * 6 + 10, 12 * 11 + 15, 16]  # in each layer, and the logits
    assert kept.n_edges == len(found.edges) == 2 * sum(readers)
    assert len(kept.to_frame()) == 2
    assert len(kept.plot().data) >= 1
    assert len(found.to_frame()) == len(found.edges)
    assert "head 1.2" in list(found.plot().data[0].y)
    shuffled = pairs.shuffled()
    control = attribute_edges(head_model, shuffled, logit_diff(shuffled))
    assert np.abs(control.changes).max() < 0.1 * np.abs(found.changes).max()


def test_all_edges_keep_everything_and_none_keep_nothing(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2, 1, text="{} is")
    metric = logit_diff(pairs)
    found = attribute_edges(gpt2, pairs, metric)
    everything = verify_edges(gpt2, pairs, metric, found, n_top=len(found.edges), n_random=0)
    assert everything.values == pytest.approx(np.ones((1, 1)), abs=1e-4)
    nothing = verify_edges(gpt2, pairs, metric, found, n_top=0, n_random=0)
    assert nothing.values == pytest.approx(np.zeros((1, 1)), abs=1e-4)


def test_models_whose_heads_share_keys_are_refused(llama: HookedModel, gpt2: HookedModel) -> None:
    pairs = country_pairs(llama, 1)
    with pytest.raises(ValueError, match="n_key_value_heads=2 for n_heads=4"):
        attribute_edges(llama, pairs, logit_diff(pairs))
    unequal = make_pairs(gpt2, ["the old", "the"], ["the is", "of"])
    with pytest.raises(ValueError, match="1 to 2 tokens: needed one length"):
        attribute_edges(gpt2, unequal, logit_diff(country_pairs(gpt2, 2)))
