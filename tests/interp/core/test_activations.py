"""Activations: axes stay together through indexing, pooling, joining, tables and files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp import Activations, Records, concatenate, extract

TEXTS = ["a fire in the house", "tea", "the old bridge", "two 🙂"]


@pytest.fixture(scope="module")
def tokens_level(tiny) -> Activations:
    records = Records.from_texts(TEXTS, labels=[1, 0, 1, 0], groups=list("aabb"))
    return extract(tiny, records, sites=["resid_post", "z"])


@pytest.fixture(scope="module")
def pooled(tokens_level: Activations) -> Activations:
    return tokens_level.pool("mean")


def same(a: Activations, b: Activations) -> bool:
    for name in ("labels", "groups"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.layers, a.pooling, a.origin) == (b.layers, b.pooling, b.origin)
    assert (a.tokens is None) == (b.tokens is None)
    if a.tokens is not None and b.tokens is not None:
        assert a.tokens.texts == b.tokens.texts
        np.testing.assert_array_equal(a.tokens.chars, b.tokens.chars)
    return a.sites == b.sites and all(torch.equal(a.tensors[s], b.tensors[s]) for s in a.sites)


@pytest.mark.parametrize("kind", ["tokens_level", "pooled"])
def test_examples_are_chosen_with_all_that_belongs_to_them(request, kind: str) -> None:
    whole: Activations = request.getfixturevalue(kind)
    mask = np.array([False, True, False, True])
    by_mask, by_list, by_slice = whole[mask], whole[[1, 3]], whole[1::2]
    assert same(by_mask, by_list)
    assert same(by_list, by_slice)
    assert len(by_mask) == 2
    assert by_mask.labels is not None
    assert by_mask.labels.tolist() == [0, 0]
    turned = whole[[3, 2, 1, 0]]
    assert same(turned[[3, 2, 1, 0]], whole)
    assert same(whole[2], whole[[2]])
    assert same(whole[-1], whole[[3]])
    assert len(whole[:0]) == 0
    with pytest.raises(IndexError):
        whole[7]


@pytest.mark.parametrize("kind", ["tokens_level", "pooled"])
def test_parts_join_to_the_whole(request, kind: str) -> None:
    whole: Activations = request.getfixturevalue(kind)
    assert same(concatenate([whole[:1], whole[1:3], whole[3:]]), whole)
    for change in ({"layers": (5, 6, 7)}, {"pooling": "max"}):
        with pytest.raises(ValueError, match=f"differ in {next(iter(change))}"):
            concatenate([whole, replace(whole, **change)])
    with pytest.raises(ValueError, match="nothing to concatenate"):
        concatenate([])
    unlabelled = concatenate([whole, replace(whole, labels=None)])
    assert unlabelled.labels is None


@pytest.mark.parametrize("kind", ["tokens_level", "pooled"])
def test_files_give_back_what_was_saved(request, tmp_path: Path, kind: str) -> None:
    whole: Activations = request.getfixturevalue(kind)
    assert same(Activations.load(whole.save(tmp_path / "a.safetensors")), whole)
    bare = replace(whole, labels=None, groups=None, origin=None)
    assert same(Activations.load(bare.save(tmp_path / "b.safetensors")), bare)
    one = whole.at([2, 0], site="z")
    assert same(Activations.load(one.save(tmp_path / "c.safetensors")), one)
    named = replace(whole, labels=np.array(["x", "y", "x", "z"]))
    assert same(Activations.load(named.save(tmp_path / "d.safetensors")), named)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        Activations.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"has schema None: needed 'hookscope.activations/1'"):
        Activations.load(path)


def test_layers_and_sites_are_chosen(tokens_level: Activations) -> None:
    assert tokens_level.sites == ("resid_post", "z")
    with pytest.raises(ValueError, match="there are 2 sites"):
        tokens_level.values  # noqa: B018
    resid = tokens_level.at([0, 1, 2], site="resid_post")
    with pytest.raises(ValueError, match="there are 3 layers"):
        resid.matrix  # noqa: B018
    one = resid.at(1)
    assert (one.layer, one.site) == (1, "resid_post")
    assert torch.equal(one.matrix, tokens_level.tensors["resid_post"][:, 1])
    assert tokens_level.at(2, site="z").matrix.shape[1:] == (4, 4)
    with pytest.raises(ValueError, match=r"layers \[5\] were not extracted: there are \(0, 1, 2\)"):
        resid.at(5)
    with pytest.raises(ValueError, match="did you mean 'resid_post'"):
        tokens_level.at(1, site="resid_pots")


def test_padded_holds_each_token_once(tokens_level: Activations) -> None:
    values, mask = tokens_level.padded(layer=1, site="resid_post")
    assert values.shape == (4, 19, 16)
    assert mask.sum(-1).tolist() == [19, 3, 14, 8]
    assert torch.equal(values[mask], tokens_level.tensors["resid_post"][:, 1])
    assert not values[~mask].any()


def test_frames_are_tidy(tokens_level: Activations, pooled: Activations) -> None:
    frame = tokens_level.to_frame()
    assert len(frame) == (19 + 3 + 14 + 8) * 2 * 3
    assert list(frame) == [
        "example",
        "position",
        "token",
        "label",
        "group",
        "site",
        "layer",
        "norm",
    ]
    row = frame.query("example == 2 and position == 4 and site == 'z' and layer == 1")
    expected = tokens_level[2].tensors["z"][4, 1].norm().item()
    assert row["norm"].item() == pytest.approx(expected)
    assert row["token"].item() == "o"
    assert len(pooled.to_frame()) == 4 * 2 * 3


def test_estimators_take_pooled_activations_as_they_are(pooled: Activations) -> None:
    from sklearn.linear_model import LogisticRegression

    one = pooled.at(1, site="resid_post")
    np.testing.assert_array_equal(np.asarray(one), one.matrix.numpy())
    assert LogisticRegression().fit(one, one.labels).predict(one).shape == (4,)


def test_token_level_activations_are_no_matrix(tokens_level: Activations) -> None:
    with pytest.raises(TypeError, match=r"pool\(\) them first"):
        np.asarray(tokens_level.at(1, site="z"))


def test_axes_that_do_not_fit_are_refused(pooled: Activations) -> None:
    with pytest.raises(ValueError, match="labels has 3 entries, but there are 4"):
        replace(pooled, labels=np.zeros(3))
    with pytest.raises(ValueError, match="needed 4 rows and 2 layers"):
        replace(pooled, layers=(0, 1))
    with pytest.raises(ValueError, match="activations of no site"):
        replace(pooled, tensors={})
    with pytest.raises(ValueError, match=r"pooled \(mean\): needed token level"):
        pooled.pool("mean")
