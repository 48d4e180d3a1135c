"""Paths from head to head: equal to an edit of one head's queries by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedModel, Site
from interp.attribution import logit_diff, make_pairs
from interp.attribution.paths import patch_paths

COUNTRIES = {"answers": ["city0", "city1"], "wrong_answers": ["city4", "city5"]}


def test_a_path_equals_an_edit_of_one_heads_queries(gpt2: HookedModel) -> None:
    pairs = make_pairs(
        gpt2, ["the capital of land0 is", "the capital of land1 is"],
        ["the capital of land4 is", "the capital of land5 is"], **COUNTRIES,
    )  # fmt: skip
    metric = logit_diff(pairs)
    found = patch_paths(gpt2, pairs, metric, layer=0, head=1)
    clean, corrupted = (
        torch.from_numpy(s.ids).reshape(2, -1) for s in (pairs.clean, pairs.corrupted)
    )
    z = Site("z", 0)
    with torch.no_grad(), gpt2.capture(z) as seen:
        there, here = gpt2.module(clean).logits, gpt2.module(corrupted).logits
    write = gpt2.module.transformer.h[0].attn.c_proj.weight[8:16]
    delta = ((seen[z][0] - seen[z][1])[:, :, 1] @ write).detach()
    block, stream = gpt2.module.transformer.h[1], []

    def change(module: object, args: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        queries = output_of(block.ln_1(stream[0] + delta))
        output[:, :, 16:24] = queries[:, :, 16:24]  # queries of head 2
        return output

    def output_of(value: Tensor) -> Tensor:
        return value @ block.attn.c_attn.weight + block.attn.c_attn.bias

    handles = [
        block.register_forward_pre_hook(lambda module, args: stream.append(args[0])),
        block.attn.c_attn.register_forward_hook(change),
    ]
    with torch.no_grad():
        patched = gpt2.module(corrupted).logits
    for handle in handles:
        handle.remove()
    rows = torch.arange(2)
    scores = [float(metric.score(x[:, -1:], rows).mean()) for x in (patched, here, there)]
    expected = (scores[0] - scores[1]) / (scores[2] - scores[1])
    assert found.effects[1, 2] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(found.effects[0]).all()
    assert len(found.to_frame()) == 8
    assert np.asarray(found.plot().data[0].z).shape == (3, 4)


def test_texts_of_unequal_length_have_no_paths(gpt2: HookedModel) -> None:
    pairs = make_pairs(
        gpt2, ["the old capital is", "the capital is"], ["the old land4 is", "the land5 is"],
        **COUNTRIES,
    )  # fmt: skip
    with pytest.raises(ValueError, match="3 to 4 tokens"):
        patch_paths(gpt2, pairs, logit_diff(pairs), layer=0, head=0)
