"""Extraction: what is kept is what a plain pass would give, and nothing runs in vain."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import Records, Site, Span, ablate, add, edit, extract

TEXTS = ["a fire in the house", "tea", "the old bridge", "two", "no one knows"]
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def each_alone(model, site: str, layer: int) -> list[Tensor]:
    """Values of each text in a pass of its own, by the plain door."""
    values = []
    for text in TEXTS:
        where = Site(site, layer)
        with torch.no_grad(), model.capture([where]) as found:
            model.module(**model.tokenize([text]).batch([0]))
        values.append(found[where][0][0])
    return values


@pytest.mark.parametrize("site", ["resid_post", "z", "mlp_post"])
def test_rows_come_in_the_order_of_the_records(any_model, site: str) -> None:
    for batch_tokens in (1, 24, 1000):
        found = extract(any_model, TEXTS, layers=[2, 0], sites=site, batch_tokens=batch_tokens)
        assert found.layers == (2, 0)
        for column, layer in enumerate(found.layers):
            expected = torch.cat(each_alone(any_model, site, layer))
            torch.testing.assert_close(found.values[:, column], expected, atol=1e-4, rtol=1e-4)


def brute_force(values: Tensor, pooling: object) -> Tensor:
    kept = values[1:]  # without the first token
    if pooling == "mean":
        return sum(kept) / len(kept)
    if pooling == "last":
        return kept[-1]
    return torch.stack([kept[:, k].max() for k in range(kept.shape[1])])


@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
@given(batch_tokens=st.integers(1, 120))
@FEW
def test_pooling_equals_brute_force(tiny, pooling: str, batch_tokens: int) -> None:
    found = extract(tiny, TEXTS, layers=1, pooling=pooling, batch_tokens=batch_tokens)
    expected = torch.stack([brute_force(v, pooling) for v in each_alone(tiny, "resid_post", 1)])
    torch.testing.assert_close(found.matrix, expected, atol=1e-4, rtol=1e-4)
    later = extract(tiny, TEXTS, layers=1).pool(pooling)
    torch.testing.assert_close(later.matrix, expected, atol=1e-4, rtol=1e-4)
    assert found.pooling == later.pooling == pooling


def sharpest(values: Tensor) -> Tensor:
    """The token of the greatest norm: a pooling function that needs one layer at a time."""
    return values[values.flatten(1).norm(dim=-1).argmax()]


def test_a_pooling_function_gets_the_tokens_of_one_layer(tiny) -> None:
    for site in ("resid_post", "z"):
        found = extract(tiny, TEXTS, sites=site, pooling=sharpest, positions="all")
        later = extract(tiny, TEXTS, sites=site).pool(sharpest, positions="all")
        torch.testing.assert_close(found.values, later.values, atol=1e-5, rtol=1e-5)
        expected = torch.stack([sharpest(value) for value in each_alone(tiny, site, 1)])
        torch.testing.assert_close(
            found.at(1).matrix.flatten(1), expected.flatten(1), atol=1e-5, rtol=1e-5
        )
        assert found.pooling == later.pooling == "sharpest"


@pytest.mark.parametrize(
    ("layers", "sites", "n_blocks"),
    [(0, "resid_pre", 0), (0, "attn_out", 0), (0, "resid_post", 1), ([1, 0], "resid_post", 2),
     ([1, 1, -2], "resid_post", 2), (2, "resid_pre", 2), (2, "resid_post", 3)],
)  # fmt: skip
def test_the_pass_stops_behind_the_last_site_that_is_needed(
    tiny, layers, sites: str, n_blocks: int
) -> None:
    """Blocks that finish: one that holds the last site inside is left before its end."""
    calls = {"blocks": 0, "norm": 0, "head": 0}

    def count(name: str):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    handles = [b.register_forward_hook(count("blocks")) for b in tiny.module.model.layers]
    handles.append(tiny.module.model.norm.register_forward_hook(count("norm")))
    handles.append(tiny.module.lm_head.register_forward_hook(count("head")))
    try:
        stopped = extract(tiny, TEXTS[:1], layers=layers, sites=sites)
    finally:
        for handle in handles:
            handle.remove()
    # the hook that stops a block at its output runs before the counting hook on the same module
    finished = n_blocks - (sites == "resid_post")
    assert calls["blocks"] in (n_blocks, finished)
    assert calls["norm"] == calls["head"] == 0
    full = extract(tiny, TEXTS[:1], sites=[sites, "resid_post"])
    for column, layer in enumerate(stopped.layers):
        assert torch.equal(stopped.tensors[sites][:, column], full.at(layer, site=sites).matrix)


def test_padding_does_not_matter(tiny) -> None:
    alone = [extract(tiny, [text], pooling="mean").values for text in TEXTS]
    together = extract(tiny, TEXTS, pooling="mean", batch_tokens=10_000).values
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_interventions_act_on_extraction_and_on_the_right_texts(tiny) -> None:
    mask = torch.zeros(5, 20, dtype=torch.bool)
    mask[1, 1] = mask[4, 3] = True
    clean = extract(tiny, TEXTS, layers=0)
    with tiny.intervene(add(torch.ones(16), layers=0, positions=mask)):
        steered = extract(tiny, TEXTS, layers=0, batch_tokens=30)
    changed = (steered.matrix - clean.matrix).abs().amax(-1) > 0.5
    where = np.flatnonzero(changed.numpy())
    assert clean.tokens is not None
    assert clean.tokens.examples[where].tolist() == [1, 4]
    assert clean.tokens.positions[where].tolist() == [1, 3]
    with tiny.intervene(ablate(layers=0, positions="last")):
        last = extract(tiny, TEXTS, layers=0, pooling="last", positions="all")
    assert not last.values.any()


def test_labels_groups_and_tokens_come_along(tiny) -> None:
    records = Records.from_texts(TEXTS, labels=[1, 0, 1, 0, 1], groups=list("aabbc"))
    found = extract(tiny, records.as_chat(), layers=1, positions=Span(role="user"))
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1, 0, 1]
    assert found.groups is not None
    assert found.groups.tolist() == list("aabbc")
    assert found.tokens is not None
    assert "".join(found.tokens.strings) == "".join(TEXTS)
    assert found.origin == tiny.origin
    assert extract(tiny, TEXTS, layers=1).labels is None


def test_values_are_detached_copies_on_the_cpu(tiny) -> None:
    found = extract(tiny, TEXTS, layers=[0, 1])
    assert found.values.dtype == torch.float32
    assert not found.values.requires_grad
    assert found.values.device.type == "cpu"
    assert extract(tiny, TEXTS, layers=0, dtype=torch.float16).values.dtype == torch.float16


def test_values_that_are_not_finite_name_the_example_and_the_site(tiny) -> None:
    def spoil(value: Tensor, call) -> Tensor:
        return value.where((call.rows != 2)[:, None, None], torch.nan)

    with pytest.raises(
        ValueError, match=r"blocks\.1\.hook_resid_post are NaN or infinite in example 2"
    ):
        with tiny.intervene(edit(spoil, layers=1)):
            extract(tiny, TEXTS)
    with pytest.raises(ValueError, match=r"not finite as torch\.float16, though the model's are"):
        with tiny.intervene(add(torch.full((16,), 1e5), layers=1)):
            extract(tiny, TEXTS, layers=1, dtype=torch.float16)


def test_long_texts_are_refused_or_cut_with_a_warning(tiny) -> None:
    texts = ["tea", "x" * 100]
    message = (
        "1 of 2 texts are longer than the context of 96 tokens; the longest, record 1, has 100"
    )
    with pytest.raises(ValueError, match=f"{message}; shorten them or pass truncate=True"):
        extract(tiny, texts)
    with pytest.warns(UserWarning, match=f"{message}: they were cut"):
        found = extract(tiny, texts, layers=0, truncate=True)
    assert found.tokens is not None
    assert found.tokens.lengths.tolist() == [3, 96]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(tiny, ["x" * 96], layers=0)


def test_empty_input_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="no records"):
        extract(tiny, [])
    with pytest.raises(ValueError, match="record 1: text is empty"):
        extract(tiny, ["tea", ""])
    with pytest.raises(ValueError, match="no layers or no sites"):
        extract(tiny, TEXTS, layers=[])
    with pytest.raises(KeyError, match="did you mean 'resid_post'"):
        extract(tiny, TEXTS, sites="resid_pots")
    with pytest.raises(ValueError, match="picks no token of example 1"):
        extract(tiny, TEXTS, positions=Span(text="fire"), layers=0)


def test_batches_are_bounded_and_hold_texts_of_similar_length(tiny) -> None:
    from interp.core.extraction import Reader

    texts = ["x" * n for n in (3, 60, 5, 58, 4, 40)]
    reader = Reader(tiny, tiny.tokenize(texts), 0, "resid_post", None, None, torch.float32)
    plan = [batch.tolist() for batch in reader.plan(120)]
    assert plan == [[1, 3], [5, 2, 4], [0]]
    for batch in plan:
        assert len(batch) * max(len(texts[i]) for i in batch) <= 120
    assert len(reader.plan(1)) == 6
