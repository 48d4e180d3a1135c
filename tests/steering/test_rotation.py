"""Pseudo-rotation: planted planes and angles are found, lengths kept, shuffled pairs give none."""

import math

import torch

from steering import PseudoRotation, fit_pseudo_rotation
from steering.operators import turn

ANGLE = 0.8


def pairs(n: int = 300, d: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Negative activations, and the same turned by a known angle across a known plane."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(d, generator=generator), dim=0)
    rows = torch.randn(n, d, generator=generator)
    along = (rows @ normal)[:, None]
    height = (rows - along * normal).norm(dim=-1, keepdim=True)
    negative = rows - along * normal - math.tan(ANGLE / 2) * height * normal
    negative = negative * torch.linspace(0.5, 2.0, n)[:, None]  # of any length
    return turn(negative, normal, ANGLE), negative, normal


def test_planted_plane_and_angle_are_found() -> None:
    positive, negative, normal = pairs()
    found = fit_pseudo_rotation(positive[:200], negative[:200])
    assert torch.cosine_similarity(found.normal, normal, dim=0) > 0.95
    held_out = negative[200:]
    assert float((found.angles(held_out) - ANGLE).abs().mean()) < 0.1
    moved = found(held_out)
    torch.testing.assert_close(moved.norm(dim=-1), held_out.norm(dim=-1))
    before = torch.cosine_similarity(held_out, positive[200:], dim=-1)
    after = torch.cosine_similarity(moved, positive[200:], dim=-1)
    assert before.mean() < 0.75
    assert after.mean() > 0.98


def test_positive_activations_stay() -> None:
    positive, negative, _ = pairs()
    found = fit_pseudo_rotation(positive[:200], negative[:200])
    stays = found(positive[200:]) == positive[200:]
    assert stays.all(dim=-1).float().mean() > 0.95


def test_shuffled_sides_have_no_plane() -> None:
    positive, negative, _ = pairs()
    swap = (torch.arange(300) % 2 == 0)[:, None]
    mixed = torch.where(swap, positive, negative), torch.where(swap, negative, positive)
    found = fit_pseudo_rotation(*mixed, n_steps=1)
    true = fit_pseudo_rotation(positive, negative, n_steps=1)
    assert found.normal.norm() < 0.2 * true.normal.norm()


def test_a_rotation_goes_on_past_the_normal() -> None:
    layers = (torch.zeros(2, 2), torch.zeros(2), torch.zeros(1, 2), torch.tensor([50.0]))
    half_turn = PseudoRotation(normal=torch.tensor([1.0, 0.0]), layers=layers)
    h = torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    torch.testing.assert_close(half_turn(h), torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
