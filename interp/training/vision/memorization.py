"""Which training images a network knows only because it was trained on them.

Feldman 2020 (arXiv 1906.05271): how much likelier the right class of an image is to networks that
were trained on it than to networks that were not. Here the networks of a few rounds of
cross-validation stand for all that could be trained.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.core.seeds import derive, generator
from interp.training.vision.networks import Cnn
from interp.training.vision.tasks import Images
from interp.training.vision.training import PRETRAINING, Schedules, train_on

ROUND = replace(PRETRAINING, n_epochs=25)
"""How the networks of a round are trained."""


def memorization(
    cnn: Cnn,
    images: Images,
    train: Int[Tensor, "run train"],
    *,
    n_rounds: int = 2,
    n_folds: int = 4,
    how: Schedules = ROUND,
    seeds: Sequence[int],
) -> Float[Tensor, "run train"]:
    """Probability of the right class with an image in training, minus that without it.

    Args:
        cnn: Networks to train.
        images: All images.
        train: Training images of each run.
        n_rounds: Rounds of cross-validation.
        n_folds: Parts of a round; a network is trained without one of them.
        how: How the networks are trained.
        seeds: Seed of each run.

    Raises:
        ValueError: If there are fewer than two folds.
    """
    if n_folds < 2 or n_rounds < 1:
        raise ValueError(f"n_folds={n_folds}, n_rounds={n_rounds}: needed 2 or more, and 1 or more")
    found = []
    for rows, seed in zip(train, seeds, strict=True):
        inside = torch.cat([_folds(len(rows), n_folds, seed, r) for r in range(n_rounds)])
        own = [derive(seed, "memorization", k) for k in range(len(inside))]
        networks = train_on(
            cnn.draw(own), images, [rows[i] for i in inside], how, seeds=own
        ).networks
        probability = networks.logits(images.pixels[rows].expand(len(inside), -1, -1, -1, -1))
        right = images.labels[rows].expand(len(inside), -1)[..., None]
        found.append(known_less_unknown(probability.softmax(-1).gather(-1, right)[..., 0], inside))
    return torch.stack(found)


def known_less_unknown(
    values: Float[Tensor, "network example"], inside: Bool[Tensor, "network example"]
) -> Float[Tensor, " example"]:
    """Mean over networks that were trained on an example, minus the mean over the others."""
    known = (values * inside).sum(0) / inside.sum(0)
    return known - (values * ~inside).sum(0) / (~inside).sum(0)


def _folds(n: int, n_folds: int, seed: int, round_: int) -> Bool[Tensor, "fold example"]:
    """Which examples are inside the training set when each fold is left out."""
    order = torch.randperm(n, generator=generator(seed, "folds", round_))
    fold = torch.empty(n, dtype=torch.long)
    fold[order] = torch.arange(n) % n_folds
    return fold != torch.arange(n_folds)[:, None]
