"""Noise and its removal, where the best denoiser is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.training.hyperforget.diffusion import add_noise, sample, signal_share


def test_signal_fades_from_all_to_nothing() -> None:
    share = signal_share(torch.arange(101), 100)
    assert float(share[0]) == pytest.approx(1, abs=1e-3)
    assert float(share[-1]) == pytest.approx(0, abs=1e-4)
    assert bool((share.diff() <= 0).all())
    middle = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2
    middle /= math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert float(share[50]) == pytest.approx(middle, rel=1e-5)


def test_noise_keeps_the_variance() -> None:
    clean, noise = torch.ones(2, 3), torch.full((2, 3), 2.0)
    found = add_noise(clean, noise, torch.tensor([0.64, 0.36]))
    torch.testing.assert_close(found[0], torch.full((3,), 0.8 + 0.6 * 2))
    torch.testing.assert_close(found[1], torch.full((3,), 0.6 + 0.8 * 2))


def test_the_best_denoiser_of_a_normal_law_gives_that_law() -> None:
    mean, spread, n = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.2]), 800

    def best(noisy: Tensor, step: Tensor) -> Tensor:
        share = signal_share(step, n)[:, None]
        gain = share.sqrt() * spread**2 / (share * spread**2 + 1 - share)
        return mean + gain * (noisy - share.sqrt() * mean)

    random = torch.Generator().manual_seed(0)
    found = sample(best, (4000, 2), n_noise_steps=n, n_sampling_steps=n, random=random)
    np.testing.assert_allclose(found.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(found.std(0), spread, rtol=0.05)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="n_sampling_steps=11: needed from 1 to n_noise_steps=10"):
        sample(
            lambda x, step: x, (1, 2), n_noise_steps=10, n_sampling_steps=11,
            random=torch.Generator(),
        )  # fmt: skip
