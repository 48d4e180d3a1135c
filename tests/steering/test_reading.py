"""Reading pairs: trees give what single texts give, and share what texts share."""

import numpy as np
import pytest
import torch

from interp import HookedModel, Records, Span, extract
from steering import Pairs, extract_pairs
from steering.trees import check_trees, plant

TEXTS = ["shared start, one", "shared start, two", "shared", "other text", "shared start, one"]


def test_a_tree_holds_common_beginnings_once() -> None:
    (tree,) = plant([[1, 2, 3], [1, 2, 4], [5], [1, 2, 3]])
    assert len(tree) == 5
    assert sorted(tree.sequences) == [0, 1, 2, 3]
    for number, path in zip(tree.sequences, tree.paths, strict=True):
        expected = [[1, 2, 3], [1, 2, 4], [5], [1, 2, 3]][number]
        assert tree.ids[path].tolist() == expected
        assert tree.positions[path].tolist() == list(range(len(expected)))
        assert np.flatnonzero(tree.ancestors()[path[-1]]).tolist() == sorted(path.tolist())


def test_marks_keep_sequences_apart_from_where_they_differ() -> None:
    (tree,) = plant([[1, 2, 3], [1, 2, 3]], marks=[[None, 0, 0], [None, 1, 1]])
    assert len(tree) == 5


def test_trees_are_bounded_and_cover_all_sequences() -> None:
    random = np.random.default_rng(0)
    sequences = [random.integers(0, 3, random.integers(1, 9)).tolist() for _ in range(40)]
    trees = list(plant(sequences, max_tokens=20))
    assert all(len(tree) <= 20 for tree in trees)
    assert sorted(n for tree in trees for n in tree.sequences) == list(range(40))


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
def test_tree_activations_equal_those_of_single_texts(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(fixture)
    check_trees(model, layer=model.n_layers - 1)
    pairs = Pairs.from_texts(TEXTS, TEXTS[::-1])
    shared = extract_pairs(model, pairs)
    single = extract_pairs(model, pairs, share_prefixes=False)
    oracle = extract(model, TEXTS, positions="last", pooling="last")
    for layer in shared.layers:
        torch.testing.assert_close(shared.sides(layer)[0], oracle.at(layer).matrix)
        torch.testing.assert_close(shared.sides(layer)[1], single.sides(layer)[1])
        assert shared.norms[layer] == pytest.approx(single.norms[layer], rel=1e-5)


def test_spans_are_averaged(llama: HookedModel) -> None:
    records = Records.from_texts(["ab", "cde"]).as_chat()
    pairs = Pairs(records, Records.from_texts(["ba", "edc"]).as_chat())
    shared = extract_pairs(llama, pairs, layers=[2], read=Span(turn=-1))
    oracle = extract(llama, records, layers=2, positions=Span(turn=-1), pooling="mean")
    torch.testing.assert_close(shared.sides(2)[0], oracle.matrix)


def test_heads_are_read_head_by_head(llama: HookedModel) -> None:
    pairs = Pairs.from_texts(["ab", "cd"], ["ax", "cy"])
    assert extract_pairs(llama, pairs, layers=[1], site="z").sides(1)[0].shape == (2, 4, 8)


def test_a_text_beyond_the_sliding_window_is_refused(
    llama: HookedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.module.config, "sliding_window", 8, raising=False)
    with pytest.raises(ValueError, match="13 tokens is longer than the sliding window of 8"):
        extract_pairs(llama, Pairs.from_texts(["a longer text"], ["a longer tent"]), layers=[1])


def test_a_model_that_ignores_the_mask_is_refused(
    llama: HookedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = llama.body.forward
    monkeypatch.setattr(
        llama.body, "forward", lambda *a, **k: forward(*a, **k | {"attention_mask": None})
    )
    with pytest.raises(ValueError, match="share_prefixes=False"):
        check_trees(llama, layer=3)
