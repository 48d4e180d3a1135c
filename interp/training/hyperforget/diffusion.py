"""Diffusion: noise is added to a sample step by step, and a denoiser takes it away again.

The cosine schedule is Nichol and Dhariwal's (2021, arXiv 2102.09672); sampling is the stochastic
form of Song et al. 2021 (arXiv 2010.02502) on some of the steps. The denoiser predicts the clean
sample.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""From noisy samples (example, ...) and steps (example,) to clean ones."""


def signal_share(step: Int[Tensor, " example"], n_noise_steps: int) -> Float[Tensor, " example"]:
    """Share of the variance at a step that is signal: about 1 at step 0, and 0 at the last."""
    angle = (step / n_noise_steps + 0.008) / 1.008 * math.pi / 2
    return (angle.cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(1e-5, 0.9999)


def add_noise(clean: Tensor, noise: Tensor, share: Float[Tensor, " example"]) -> Tensor:
    """Samples with this share of signal."""
    share = share.view(-1, *[1] * (clean.ndim - 1))
    return share.sqrt() * clean + (1 - share).sqrt() * noise


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    *,
    n_noise_steps: int,
    n_sampling_steps: int,
    random: torch.Generator,
) -> Tensor:
    """Samples from noise.

    Args:
        denoiser: Predicts clean samples.
        shape: Shape of what is drawn, examples first.
        n_noise_steps: Steps of the schedule on which the denoiser was trained.
        n_sampling_steps: How many of them are taken.
        random: Where noise comes from.

    Raises:
        ValueError: If more steps are to be taken than there are.
    """
    if not 1 <= n_sampling_steps <= n_noise_steps:
        raise ValueError(
            f"n_sampling_steps={n_sampling_steps}: needed from 1 to n_noise_steps={n_noise_steps}"
        )
    steps = torch.linspace(n_noise_steps, 0, n_sampling_steps + 1).round().long()
    x = torch.randn(shape, generator=random)
    for now, then in pairwise(steps):
        step = now.expand(shape[0])
        clean = denoiser(x, step)
        if then == 0:
            return clean
        share, later = (signal_share(s[None], n_noise_steps) for s in (now, then))
        noise = (x - share.sqrt() * clean) / (1 - share).sqrt()
        fresh = ((1 - later) / (1 - share) * (1 - share / later)).sqrt()
        x = later.sqrt() * clean + (1 - later - fresh**2).clamp(min=0).sqrt() * noise
        x = x + fresh * torch.randn(shape, generator=random)
    return x
