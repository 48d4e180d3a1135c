"""Operators: formulas, identities and the geometry they promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steering import operators

SHIFTS = [operators.add, operators.add_keeping_norm, operators.ablate, operators.amplify]
IDENTITY_AT_ZERO = [*SHIFTS, operators.rotate]


def values(seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    h, v = torch.randn(2, 3, 8, generator=generator), torch.randn(8, generator=generator)
    return h, v, h.double().numpy(), v.double().numpy()


@pytest.mark.parametrize("operator", IDENTITY_AT_ZERO)
def test_coefficient_zero_changes_nothing(operator: operators.Operator) -> None:
    h, v, _, _ = values(0)
    torch.testing.assert_close(operator(h, v, 0.0), h, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("operator", [operators.rotate, operators.add_keeping_norm])
def test_norm_is_kept(operator: operators.Operator) -> None:
    h, v, _, _ = values(1)
    for c in (-2.0, -0.3, 0.4, 1.0, 5.0):
        torch.testing.assert_close(operator(h, v, c).norm(dim=-1), h.norm(dim=-1))


@settings(max_examples=20, deadline=None)
@given(c=st.floats(-3, 3), seed=st.integers(0, 100))
def test_operators_follow_their_formulas(c: float, seed: int) -> None:
    h, v, hn, vn = values(seed)
    u = vn / np.linalg.norm(vn)
    part = (hn @ u)[..., None] * u
    lacking = np.maximum(0, c * np.linalg.norm(vn) - hn @ u)[..., None] * u
    expected = {
        operators.add: hn + c * vn,
        operators.ablate: hn - c * part,
        operators.ablate_then_add: hn - part + c * vn,
        operators.amplify: hn + c * part,
        operators.clamp: hn + lacking,
    }
    for operator, reference in expected.items():
        np.testing.assert_allclose(operator(h, v, c).numpy(), reference, atol=2e-5)


def test_rotation_turns_by_the_angle_in_the_plane_and_stops_at_the_vector() -> None:
    h, v, _, _ = values(2)
    before = torch.cosine_similarity(h, v, dim=-1).acos()
    after = torch.cosine_similarity(operators.rotate(h, v, 0.1), v, dim=-1).acos()
    torch.testing.assert_close(before - after, torch.full_like(before, 0.05 * math.pi))
    onto = operators.rotate(h, v, 2.0)
    torch.testing.assert_close(torch.cosine_similarity(onto, v, dim=-1), torch.ones(2, 3))
    rows = torch.stack([h[0, 0], v, operators.rotate(h, v, 0.3)[0, 0]]).double()
    assert (
        torch.linalg.matrix_rank(rows, tol=1e-5) == 2
    )  # the third lies in the plane of the others


def test_rotation_of_an_activation_along_the_vector_is_finite() -> None:
    _, v, _, _ = values(3)
    assert torch.isfinite(operators.rotate((-2 * v)[None, None], v, 0.5)).all()


def test_a_zero_vector_ablates_nothing() -> None:
    h, v, _, _ = values(4)
    torch.testing.assert_close(operators.ablate(h, 0 * v, 1.0), h)


def test_a_coefficient_for_each_token_acts_on_that_token() -> None:
    h, v, _, _ = values(5)
    c = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.5]])[..., None]
    got = operators.add(h, v, c)
    torch.testing.assert_close(got[1, 0], h[1, 0] + 3 * v)
    torch.testing.assert_close(got[0, 0], h[0, 0])
