"""Small problems: a linear regression, a perceptron, digits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from interp.influence import Problem, Queries

entropy = partial(cross_entropy, reduction="none")


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets) ** 2


def value(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0]


def data(n: int = 20, d: int = 3) -> tuple[Tensor, Tensor]:
    """Rows with a linear target and noise, float64."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=random, dtype=torch.float64)
    y = x @ torch.arange(1.0, d + 1, dtype=torch.float64)
    return x, y + 0.3 * torch.randn(n, generator=random, dtype=torch.float64)


@pytest.fixture(scope="session")
def linear() -> Problem:
    x, y = data()
    return Problem(nn.Linear(3, 1).double(), squared, x, y)


@pytest.fixture(scope="session")
def perceptron() -> Problem:
    x, y = data()
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    return Problem(model, squared, x, y)


@pytest.fixture(scope="session")
def queries() -> Queries:
    x, y = data(24)
    return Queries(inputs=x[20:], targets=y[20:], measure=squared)


@pytest.fixture(scope="session")
def classes() -> Callable[..., Problem]:
    """Makes problems of three classes in blobs, some labels of which may be wrong."""

    def make(n: int = 60, n_wrong: int = 0, model: nn.Module | None = None) -> Problem:
        random = torch.Generator().manual_seed(1)
        labels = torch.arange(n) % 3
        centers = 2 * torch.randn(3, 6, generator=random)
        x = centers[labels] + torch.randn(n, 6, generator=random)
        labels[:n_wrong] = (labels[:n_wrong] + 1) % 3
        model = model or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        return Problem(model, entropy, x, labels)

    return make
