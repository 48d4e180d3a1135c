"""Images of three classes that a small classifier learns at once."""

import pytest
import torch

from interp.training.hyperforget import Mlp, RunBank, Split, train_bank

MLP = Mlp(d_in=4, d_hidden=8, n_classes=3)


@pytest.fixture(scope="session")
def split() -> Split:
    """Points around three centers; 60 to train on, 30 to test on."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.eye(4)[y] * 2 + 0.3 * torch.randn(90, 4, generator=random)
    return Split(train_x=x[:60], train_y=y[:60], test_x=x[60:], test_y=y[60:])


@pytest.fixture(scope="session")
def bank(split: Split) -> RunBank:
    """24 runs in which class 1 counts less."""
    return train_bank(split, mlp=MLP, classes=[1], n_runs=24, kept_steps=(50, 500))
