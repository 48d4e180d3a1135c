"""Small networks and random images."""

import pytest
import torch

from interp.training.vision import Cnn, Images, Networks, Task

TINY = Cnn(side=4, channels=(2, 3, 4), d_hidden=5, n_classes=3)


@pytest.fixture
def images() -> Images:
    """30 random images of 3 classes."""
    random = torch.Generator().manual_seed(0)
    return Images(
        pixels=torch.rand(30, 1, 4, 4, generator=random),
        labels=torch.randint(0, 3, (30,), generator=random),
    )


@pytest.fixture
def task(images: Images) -> Task:
    """Two runs, the second with its images in the other order."""
    rows = torch.stack([torch.arange(30), torch.arange(30).flip(0)])
    return Task(
        images=images, retain=rows[:, :16], forget=rows[:, 16:22], test=rows[:, 22:], n_attack=2
    )


@pytest.fixture
def networks() -> Networks:
    """Two untrained networks whose normalizations have seen something."""
    drawn = TINY.draw([0, 1])
    random = torch.Generator().manual_seed(1)
    noise = 0.2 * torch.rand(drawn.statistics.shape, generator=random)
    return Networks(cnn=TINY, weights=drawn.weights, statistics=drawn.statistics + noise)
