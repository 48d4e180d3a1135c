"""Affine edits: moments are matched, spans removed, formulas kept."""

import pytest
import torch

from interp import HookedModel, ablate, generate
from steering.affine import (
    AffineMap,
    MapSteering,
    conceptor,
    least_squares,
    low_rank,
    match_moments,
    nullspace,
    spectral,
)


def gaussians(n: int = 4000, d: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mixes = [torch.randn(d, d, generator=generator) for _ in range(2)]
    rows = [torch.randn(n, d, generator=generator) @ mix for mix in mixes]
    return rows[0] + 1.0, rows[1] - 2.0


def test_matching_moments_gives_the_target_mean_and_covariance() -> None:
    source, target = gaussians()
    moved = match_moments(source, target, shrinkage=0.0)(source)
    torch.testing.assert_close(moved.mean(0), target.mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(moved.T.cov(), target.T.cov(), atol=1e-2, rtol=1e-2)


def test_matching_means_alone_is_the_difference_of_means() -> None:
    source, target = gaussians()
    moved = match_moments(source, target, covariance=False)(source)
    torch.testing.assert_close(
        moved, source + target.mean(0) - source.mean(0), atol=1e-4, rtol=1e-4
    )


def test_nullspace_equals_ablating_the_span(llama: HookedModel) -> None:
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), ablate(directions, layers=1).applied(llama):
        expected = llama.module(ids).logits
    steering = MapSteering(maps={1: nullspace(directions)})
    with torch.no_grad(), steering.applied(llama):
        torch.testing.assert_close(llama.module(ids).logits, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="linearly dependent"):
        nullspace(torch.ones(2, 4))


def test_conceptor_is_its_formula_and_keeps_what_is_large() -> None:
    source, _ = gaussians()
    correlation = source.T.double() @ source.double() / len(source)
    correlation = correlation / correlation.diagonal().mean()
    eye = torch.eye(6, dtype=torch.float64)
    expected = correlation @ torch.linalg.inv(correlation + eye / 9)
    torch.testing.assert_close(
        conceptor(source, aperture=3.0).matrix.double(), expected, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        conceptor(source, aperture=1e4)(source), source, atol=1e-2, rtol=1e-2
    )


def test_spectral_editing_keeps_or_drops_what_is_shared() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(5000, 1, generator=generator)
    axes = torch.eye(5)
    neutral = 3 * shared * axes[0] + torch.randn(5000, 5, generator=generator)
    other = 3 * shared * axes[0] + torch.randn(5000, 5, generator=generator)
    kept = spectral(neutral, other, keep=0.9).matrix
    dropped = spectral(neutral, other, keep=0.9, most=False).matrix
    torch.testing.assert_close(kept @ axes[0], axes[0], atol=0.05, rtol=0.05)
    torch.testing.assert_close(dropped @ axes[0], 0 * axes[0], atol=0.05, rtol=0.05)


def test_low_rank_is_the_formula_of_loreft() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(8, 2, generator=generator))[0].mT
    weight, bias = torch.randn(2, 8, generator=generator), torch.randn(2, generator=generator)
    h = torch.randn(3, 8, generator=generator)
    expected = torch.stack([x + rotation.T @ (weight @ x + bias - rotation @ x) for x in h])
    torch.testing.assert_close(low_rank(rotation, weight, bias)(h), expected)
    with pytest.raises(ValueError, match="not orthonormal"):
        low_rank(2 * rotation, weight, bias)


def test_affine_steering_is_alike_with_and_without_cache_and_nothing_at_zero(
    llama: HookedModel,
) -> None:
    generator = torch.Generator().manual_seed(0)
    which = AffineMap(matrix=torch.randn(32, 32, generator=generator), offset=torch.ones(32))
    plain = generate(llama, ["ab", "cde"], max_new_tokens=5).tokens
    with MapSteering(maps={1: which}, positions="generated").applied(llama):
        cached = generate(llama, ["ab", "cde"], max_new_tokens=5).tokens
        assert cached == generate(llama, ["ab", "cde"], max_new_tokens=5, use_cache=False).tokens
    assert cached != plain
    with MapSteering(maps={1: which}, coefficient=0.0).applied(llama):
        assert generate(llama, ["ab", "cde"], max_new_tokens=5).tokens == plain


def test_least_squares_finds_a_planted_map_and_shrinks_to_the_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(60, 5, generator=generator)
    planted, offset = torch.randn(5, 5, generator=generator), torch.arange(5.0)
    target = source @ planted.mT + offset
    exact = least_squares(source, target, shrinkage=1e-9)
    assert torch.allclose(exact(source), target, atol=1e-3)
    shift = least_squares(source, target, shrinkage=1e9)
    assert torch.allclose(shift(source), source + (target - source).mean(0), atol=1e-4)
    between = least_squares(source, target, shrinkage=1.0)(source)
    error, worst = (float((x - target).norm()) for x in (between, shift(source)))
    assert 0.1 < error < worst
    with pytest.raises(ValueError, match="needed pairs"):
        least_squares(source, target[:-1])
