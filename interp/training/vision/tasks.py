"""What is forgotten: images, and which of them each run trains on, forgets and is tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import avg_pool2d

from interp.core.seeds import derive, generator
from interp.data.loaders import data_folder

ImageSet = Literal["digits", "mnist"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Labeled images."""

    pixels: Float[Tensor, "example 1 side side"]
    """Brightness, 0 to 1."""
    labels: Int[Tensor, " example"]
    """Classes, from 0."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


def load_images(name: ImageSet) -> Images:
    """Handwritten digits of 10 classes.

    Args:
        name: `"digits"`: 1797 images of 8 by 8 pixels, from scikit-learn; `"mnist"`: 5000 images of
            MNIST, averaged to 14 by 14 pixels, from `vision/mnist5k` in the folder that
            HOOKSCOPE_DATA names.

    Raises:
        FileNotFoundError: If MNIST is not there.
    """
    if name == "digits":
        values, labels = map(np.asarray, load_digits(return_X_y=True))
        pixels = torch.tensor(values / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    else:
        table = np.loadtxt(data_folder("vision", "mnist5k", "mnist_5k.csv.gz"), delimiter=",")
        values, labels = table[:, :-1] / 255.0, table[:, -1]
        large = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 28, 28)
        pixels = avg_pool2d(large, 2)
    return Images(pixels=pixels, labels=torch.tensor(labels).long())


@dataclass(frozen=True, kw_only=True)
class Task:
    """Which images each run keeps, forgets and is tested on."""

    images: Images
    """All images."""
    retain: Int[Tensor, "run retain"]
    """Training images that are kept."""
    forget: Int[Tensor, "run forget"]
    """Training images that are to be forgotten."""
    test: Int[Tensor, "run test"]
    """Images that no network is trained on."""
    n_attack: int
    """The first so many of `forget` may be given to an attacker; the others measure it."""

    def __post_init__(self) -> None:
        """Check that no run keeps what it forgets, and that nothing is empty."""
        sizes = {name: getattr(self, name).shape[1] for name in ("retain", "forget", "test")}
        if not all(sizes.values()):
            raise ValueError(f"the sets have sizes {sizes}: needed one image or more in each")
        if not 0 <= self.n_attack < sizes["forget"]:
            raise ValueError(
                f"n_attack={self.n_attack} of {sizes['forget']} images to forget: needed fewer, so "
                "that some are left to measure relearning"
            )
        for one, other in (("retain", "forget"), ("retain", "test"), ("forget", "test")):
            rows = zip(getattr(self, one).tolist(), getattr(self, other).tolist(), strict=True)
            shared = [len(set(a) & set(b)) for a, b in rows]
            if any(shared):
                run = int(np.argmax(shared))
                raise ValueError(
                    f"{one} and {other} share {shared[run]} images in run {run}: an image can be "
                    "in one of them only"
                )

    @property
    def train(self) -> Int[Tensor, "run train"]:
        """What the networks are trained on before they forget."""
        return torch.cat([self.retain, self.forget], 1)

    @property
    def held(self) -> Int[Tensor, "run held"]:
        """Images to forget that no attacker is given."""
        return self.forget[:, self.n_attack :]


def draw_train(
    n_images: int, n_train: int, *, seeds: Sequence[int]
) -> tuple[Int[Tensor, "run train"], Int[Tensor, "run test"]]:
    """For each seed, random images to train on, and the others to test on."""
    if not 0 < n_train < n_images:
        raise ValueError(f"n_train={n_train} of {n_images} images: needed more than 0, and fewer")
    orders = [torch.randperm(n_images, generator=generator(s, "train")) for s in seeds]
    order = torch.stack(orders)
    return order[:, :n_train], order[:, n_train:]


def forget_highest(
    images: Images,
    train: Int[Tensor, "run train"],
    test: Int[Tensor, "run test"],
    scores: Float[Tensor, "run train"],
    *,
    n_forget: int,
    n_attack: int,
    seeds: Sequence[int],
) -> Task:
    """The task of forgetting the training images with the highest scores.

    Args:
        images: All images.
        train: Training images of each run.
        test: Test images of each run.
        scores: Score of each training image, such as `memorization`.
        n_forget: How many are forgotten.
        n_attack: How many of them, drawn at random, may be given to an attacker.
        seeds: Seed of each run.
    """
    order = train.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    forget = [
        row[torch.from_numpy(np.random.default_rng(derive(s, "attack")).permutation(n_forget))]
        for s, row in zip(seeds, order, strict=True)
    ]
    return Task(
        images=images,
        retain=order[:, n_forget:],
        forget=torch.stack(forget),
        test=test,
        n_attack=n_attack,
    )
