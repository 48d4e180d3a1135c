"""Gradient transforms, by hand and by full decompositions."""

import pytest
import torch
from torch import nn

from interp.training.unlearning.transforms import (
    Collapse,
    adversary,
    collapse_components,
    combine,
    gradient,
    mask_disruption,
    normalize,
    project_out,
    restored,
)


def test_mudman_masks_and_scales_by_hand() -> None:
    unlearn = {"w": torch.tensor([[3.0, -4.0], [0.0, 12.0]])}
    kept = {"w": torch.tensor([[0.1, 0.2], [0.3, 0.4]])}
    masked = mask_disruption(unlearn, kept)
    torch.testing.assert_close(masked["w"], torch.tensor([[3.0, 0.0], [0.0, 12.0]]))
    scaled = normalize(masked, like=unlearn)  # the unmasked length is 13
    torch.testing.assert_close(scaled["w"], torch.tensor([[3.0, 0.0], [0.0, 12.0]]) / 13)


def test_lengths_are_over_all_weights() -> None:
    parts = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    torch.testing.assert_close(normalize(parts)["b"], torch.tensor([0.8]))
    total = combine((2.0, parts), (1.0, parts))
    torch.testing.assert_close(total["a"], torch.tensor([9.0]))
    torch.testing.assert_close(parts["a"], torch.tensor([3.0]))


@pytest.mark.parametrize("how", ["hard", "soft", "quadratic"])
def test_collapse_is_that_of_the_full_decomposition(how: Collapse) -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 40, generator=random, dtype=torch.float64)
    n = 5
    left, scale, right = torch.linalg.svd(matrix, full_matrices=False)
    ratio = scale[:n] / scale[n - 1]
    factor = {"hard": 0 * ratio, "soft": 1 / ratio**2, "quadratic": 1 / ratio**4}[how]
    kept = scale.clone()
    kept[:n] *= factor  # both sides shrink the same components
    found = collapse_components({"w": matrix}, n=n, how=how)["w"]
    torch.testing.assert_close(found, left @ torch.diag(kept) @ right)


def test_the_randomized_decomposition_is_near_the_full_one() -> None:
    random = torch.Generator().manual_seed(0)
    spectrum = 0.5 ** torch.arange(60.0)
    left, right = (torch.linalg.qr(torch.randn(n, 60, generator=random))[0] for n in (80, 90))
    matrix = left @ torch.diag(spectrum) @ right.mT
    found = collapse_components({"w": matrix}, n=4, how="hard")["w"]
    expected = left[:, 4:] @ torch.diag(spectrum[4:]) @ right[:, 4:].mT
    assert float(torch.linalg.norm(found - expected)) < 2e-3
    state = torch.get_rng_state()
    collapse_components({"w": matrix}, n=4)
    assert torch.equal(torch.get_rng_state(), state)


def test_components_of_another_gradient_can_be_taken() -> None:
    matrix, basis = torch.ones(3, 3), torch.zeros(3, 3)
    basis[0, 0] = 1.0
    found = collapse_components({"w": matrix}, n=1, how="hard", basis={"w": basis})["w"]
    expected = torch.ones(3, 3)
    expected[0], expected[:, 0] = 0.0, 0.0
    torch.testing.assert_close(found, expected)


def test_rows_lose_their_mean_and_largest_components() -> None:
    random = torch.Generator().manual_seed(1)
    rows = torch.randn(20, 6, generator=random, dtype=torch.float64) + 3
    found = project_out(rows, n=2)
    mean = rows.mean(0)
    _, _, components = torch.linalg.svd(rows - mean, full_matrices=False)
    for direction in (mean, *components[:2]):
        assert float((found @ direction).abs().max()) < 1e-9
    assert int(torch.linalg.matrix_rank(found)) == 3


def test_gradients_are_those_of_autograd_and_nan_is_refused() -> None:
    weights = {"w": nn.Parameter(torch.tensor([1.0, 2.0])), "unused": nn.Parameter(torch.ones(1))}
    found = gradient((weights["w"] ** 2).sum, weights)
    torch.testing.assert_close(found["w"], torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(found["unused"], torch.zeros(1))
    assert weights["w"].grad is None
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        gradient((weights["w"] * float("nan")).sum, weights)


def _spoil(weight: nn.Parameter) -> None:
    weight.data.fill_(5.0)
    raise ZeroDivisionError


def test_weights_come_back_after_an_exception() -> None:
    weights = {"w": nn.Parameter(torch.ones(2))}
    with pytest.raises(ZeroDivisionError), restored(weights):
        _spoil(weights["w"])
    torch.testing.assert_close(weights["w"].detach(), torch.ones(2))


def test_an_adversary_starts_at_the_model_and_is_gone_afterwards() -> None:
    module = nn.Sequential(nn.Linear(4, 3, bias=False))
    x = torch.ones(2, 4)
    before = module(x)
    with adversary(module, ["0"], rank=2) as factors:
        torch.testing.assert_close(module(x), before)
        factors["0.up"].data.fill_(1.0)
        expected = before + x @ factors["0.down"] @ factors["0.up"]
        torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module(x), before)
