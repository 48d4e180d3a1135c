"""Subspaces: the planted one is learned where the answer is, and not before it is there."""

import itertools

import numpy as np
import pytest
import torch

from interp import HookedModel, HookNotFoundError
from interp.attribution import Pairs, logit_diff, make_pairs, patch_cells
from interp.attribution.cells import Cell
from interp.attribution.subspaces import find_subspace
from tests.interp.attribution.conftest import tiny_gpt2

pytestmark = pytest.mark.slow


def split_pairs(model: HookedModel) -> tuple[Pairs, Pairs]:
    """All ordered pairs of eight countries, a quarter held out."""
    ways = list(itertools.permutations(range(8), 2))
    order = np.random.default_rng(0).permutation(len(ways))
    pairs = make_pairs(
        model,
        [f"land{a} is" for a, _ in ways],
        [f"land{b} is" for _, b in ways],
        answers=[f"city{a}" for a, _ in ways],
        wrong_answers=[f"city{b}" for _, b in ways],
    )
    return pairs.take(order[14:]), pairs.take(order[:14])


def test_the_planted_subspace_is_found_behind_the_head(head_model: HookedModel) -> None:
    train, test = split_pairs(head_model)
    found = find_subspace(
        head_model, train, test, layer=1, rank=8, n_epochs=100, learning_rate=0.03
    )
    assert found.means["learned"] > 0.9
    assert found.means["whole"] == 1
    assert found.means["nothing"] == 0
    assert max(found.means[name] for name in ("random", "placebo", "arbitrary")) < 0.5
    assert found.losses[-1] < 0.5 * found.losses[0]
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(8), atol=1e-4)
    planted = np.zeros((32, 8))
    planted[range(12, 20), range(8)] = 1  # where the head writes which answer it is
    overlap = np.linalg.norm(planted.T @ found.basis) ** 2 / 8
    assert overlap > 0.6  # 0.25 by chance
    assert found.to_frame()["condition"].tolist() == list(found.conditions)
    assert len(found.plot().data) >= 1
    before = find_subspace(head_model, train, test, layer=0, rank=8, n_epochs=10)
    assert before.means["whole"] == 0  # the last token does not know yet
    assert before.means["learned"] < 0.3


def test_the_whole_vector_is_an_ordinary_patch(head_model: HookedModel) -> None:
    train, test = split_pairs(head_model)
    found = find_subspace(head_model, train, test, layer=0, column=0, rank=1, n_epochs=1)
    cell = Cell(site="resid_post", layer=0, column=0)
    patched = patch_cells(head_model, test, logit_diff(test), [cell])
    whole = found.values[found.conditions.index("whole")]
    np.testing.assert_array_equal(whole == 1, patched.values[:, 0] > 0)
    full = find_subspace(head_model, train, test, layer=0, column=0, rank=32, n_epochs=1)
    np.testing.assert_array_equal(full.values[0], whole)  # any basis of the whole space


def test_an_untrained_model_has_none() -> None:
    model = tiny_gpt2(seed=3)
    train, test = split_pairs(model)
    found = find_subspace(model, train, test, layer=1, rank=2, n_epochs=10)
    assert found.means["learned"] < 0.5


def test_the_model_comes_back_as_it_was(head_model: HookedModel) -> None:
    train, test = split_pairs(head_model)
    state = {k: v.clone() for k, v in head_model.module.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(7))
    find_subspace(head_model, train, test, layer=1, n_epochs=1)
    assert torch.rand(1) == expected  # the global generator was left alone
    assert all(torch.equal(v, state[k]) for k, v in head_model.module.state_dict().items())
    assert all(p.requires_grad for p in head_model.module.parameters())


def test_what_cannot_be_searched_is_refused(head_model: HookedModel) -> None:
    train, test = split_pairs(head_model)
    with pytest.raises(ValueError, match="rank is 33: needed 1 to 32"):
        find_subspace(head_model, train, test, layer=1, rank=33)
    with pytest.raises(HookNotFoundError, match="resid_pots"):
        find_subspace(head_model, train, test, layer=1, site="resid_pots")
    plain = make_pairs(head_model, ["the old"], ["the is"])
    with pytest.raises(ValueError, match="no answers"):
        find_subspace(head_model, plain, plain, layer=1)
