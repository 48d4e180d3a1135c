"""Spectral editing: what is shared stays, what is dropped goes, features have inverses."""

import pytest
import torch

from steering import spectral_edit
from steering.spectral_editing import Feature, elu, tanh


def planted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neutral rows that share axis 0 with positive ones and axis 1 with negative ones."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return 0.3 * torch.randn(4000, 6, generator=generator)

    a, b = torch.randn(4000, 2, generator=generator).split(1, dim=1)
    axes = torch.eye(6)
    neutral = 3 * a * axes[0] + 3 * b * axes[1] + noise()
    return neutral, 3 * a * axes[0] + noise(), 3 * b * axes[1] + noise()


def test_shared_direction_stays_and_the_other_goes() -> None:
    edit = spectral_edit(*planted(), keep=0.9)
    axes = torch.eye(6)
    torch.testing.assert_close(edit.positive @ axes[0], axes[0], atol=0.05, rtol=0)
    torch.testing.assert_close(edit.negative @ axes[1], 0 * axes[1], atol=0.05, rtol=0)
    moved = edit((2 * axes[0] + 2 * axes[1])[None])[0]
    assert moved[0] > 10 * moved[1].abs()
    torch.testing.assert_close(moved.norm(), torch.tensor(8.0).sqrt())


def test_a_feature_function_keeps_which_direction_is_shared() -> None:
    edit = spectral_edit(*planted(), keep=0.9, feature=elu)
    moved = edit((2 * torch.eye(6)[0] + 2 * torch.eye(6)[1])[None])[0]
    assert moved[0] > 3 * moved[1].abs()
    torch.testing.assert_close(moved.norm(), torch.tensor(8.0).sqrt())


def test_shuffled_counterparts_do_not_keep_the_shared_direction() -> None:
    neutral, positive, negative = planted()
    kept = []
    for seed in range(6):
        order = torch.randperm(4000, generator=torch.Generator().manual_seed(seed))
        edit = spectral_edit(neutral, positive[order], negative, keep=0.9)
        kept.append(float(edit.positive[0, 0]))
    assert min(kept) < 0.5
    assert spectral_edit(neutral, positive, negative, keep=0.9).positive[0, 0] > 0.99


@pytest.mark.parametrize("feature", [elu, tanh])
def test_features_have_inverses(feature: Feature) -> None:
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(feature.inverse(feature.forward(x)), x)
    assert torch.isfinite(feature.inverse(torch.tensor([-5.0, 5.0]))).all()


def test_sets_that_do_not_fit_are_refused() -> None:
    neutral, positive, negative = planted()
    with pytest.raises(ValueError, match="4000 neutral, 3 positive"):
        spectral_edit(neutral, positive[:3], negative)
    with pytest.raises(ValueError, match="needed a share"):
        spectral_edit(neutral, positive, negative, keep=1.5)
