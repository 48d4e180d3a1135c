"""Queries and keys: the closed forms equal patterns of patched runs, and saturation is seen."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedModel
from interp.attribution import attribute_attention, logit_diff, make_pairs
from interp.attribution.pairs import Pairs, paired_ids


def country_pairs(model: HookedModel) -> Pairs:
    return make_pairs(
        model, ["the capital of land0 is", "the old of land1 was"],
        ["the old of land4 was", "the capital of land5 is"],
        answers=["city0", "city1"], wrong_answers=["city4", "city5"],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_estimates_equal_those_from_patterns_of_patched_runs(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model)
    metric, layer = logit_diff(pairs), 1
    found = attribute_attention(model, pairs, metric)
    bridge: Any = model.bridge()
    clean, corrupted = paired_ids(pairs)
    rows = torch.arange(2)
    pattern = f"blocks.{layer}.attn.hook_pattern"
    leaf = torch.zeros(2, 4, 5, 5, requires_grad=True)
    logits = bridge.run_with_hooks(corrupted, fwd_hooks=[(pattern, lambda v, hook: v + leaf)])
    here = metric.score(logits[:, -1:], rows)
    (gradient,) = torch.autograd.grad(here.sum(), leaf)
    here = here.detach()
    with torch.no_grad():
        there, source = bridge.run_with_cache(clean)
        base = bridge.run_with_cache(corrupted)[1][pattern]
    gap = float((metric.score(there[:, -1:], rows) - here).mean())
    for component, table, head, column in (("q", found.queries, 2, 4), ("k", found.keys, 1, 1)):
        hook = f"blocks.{layer}.attn.hook_{component}"

        def put(value: Tensor, hook: Any, head: int = head, column: int = column) -> Tensor:
            value = value.clone()
            value[:, column, head] = source[hook.name][:, column, head]
            return value

        bridge.add_hook(hook, put)
        with torch.no_grad():
            patched = bridge.run_with_cache(corrupted)[1][pattern]
        bridge.reset_hooks()
        expected = ((patched - base) * gradient).sum((1, 2, 3)).mean() / gap
        assert table[layer, head, column] == pytest.approx(float(expected), abs=1e-4)
        assert abs(table[layer, head, column]) > 1e-5


def test_saturated_attention_hides_a_query_from_plain_gradients(head_model: HookedModel) -> None:
    """With "is" the planted head looks at the subject alone; with "was" it looks at all tokens."""
    pairs = make_pairs(
        head_model, ["the capital of land0 was"], ["the capital of land0 is"],
        answers=["city0"], wrong_answers=["city1"],
    )  # fmt: skip
    metric = logit_diff(pairs)
    plain = attribute_attention(head_model, pairs, metric, corrected=False)
    corrected = attribute_attention(head_model, pairs, metric)
    best = np.unravel_index(np.abs(corrected.queries).argmax(), corrected.queries.shape)
    assert best == (1, 2, 4)
    assert corrected.queries[best] > 0.3
    assert abs(plain.queries[best]) < 0.1 * corrected.queries[best]
    others = np.abs(corrected.queries)
    others[best] = 0
    assert others.max() < 0.1 * corrected.queries[best]
    assert len(corrected.to_frame()) == corrected.queries.size + corrected.keys.size
    assert np.asarray(corrected.plot().data[0].z).shape == (3, 4)


def test_texts_of_unequal_length_are_refused(gpt2: HookedModel) -> None:
    pairs = make_pairs(
        gpt2, ["the old is", "the is"], ["the capital is", "the was"],
        answers=["city0", "city1"], wrong_answers=["city4", "city5"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="2 to 3 tokens: needed one length"):
        attribute_attention(gpt2, pairs, logit_diff(pairs))
