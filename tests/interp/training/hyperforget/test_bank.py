"""Classifiers as tokens, and the bank of runs."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from interp.training.hyperforget import (
    Mlp,
    RunBank,
    Split,
    each_class,
    forget_and_retain,
    train_bank,
    train_classifiers,
)
from interp.training.vision.training import draw_batches

pytestmark = pytest.mark.slow

MLP = Mlp(d_in=4, d_hidden=8, n_classes=3)


def module_of(weights: torch.Tensor) -> nn.Sequential:
    """The same classifier of torch modules."""
    rows = weights.view(9, 8)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        module[0].weight.copy_(rows[:8, :4])
        module[0].bias.copy_(rows[:8, 4])
        module[2].weight.copy_(rows[:8, 5:].T)
        module[2].bias.copy_(rows[8, 5:])
    return module


def test_logits_are_those_of_torch_modules(split: Split) -> None:
    weights = torch.randn(MLP.n_parameters, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module_of(weights)(split.test_x)
    torch.testing.assert_close(MLP.logits(weights, split.test_x), expected)


def test_losses_and_accuracies_by_class(split: Split) -> None:
    weights = torch.stack([MLP.draw(0), MLP.draw(1)])
    losses = MLP.class_losses(weights, split.test_x, split.test_y)
    right = MLP.class_accuracies(weights, split.test_x, split.test_y)
    own = split.test_y == 2
    logits = MLP.logits(weights[1], split.test_x[own])
    torch.testing.assert_close(losses[1, 2], cross_entropy(logits, split.test_y[own]))
    torch.testing.assert_close(right[1, 2], (logits.argmax(1) == 2).float().mean())


def test_training_all_at_once_is_adam_on_each_alone(split: Split) -> None:
    rows = [torch.arange(60), torch.arange(10, 50)]
    class_weights = torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])
    first = torch.stack([MLP.draw(0), MLP.draw(1)])
    found = train_classifiers(
        MLP, first, split.train_x, split.train_y, rows=rows, class_weights=class_weights,
        kept_steps=[2, 5], lr=0.01, batch_size=8, seeds=[3, 4],
    )  # fmt: skip
    assert found.shape == (2, 2, MLP.n_parameters)
    batches = draw_batches(rows, 5, 8, [3, 4], "order")
    for run in range(2):
        module = module_of(first[run])
        adam = torch.optim.Adam(module.parameters(), lr=0.01)
        for batch in batches[:, run]:
            adam.zero_grad()
            y = split.train_y[batch]
            losses = cross_entropy(module(split.train_x[batch]), y, reduction="none")
            (class_weights[run, y] * losses).mean().backward()
            adam.step()
        with torch.no_grad():
            expected = module(split.test_x)
        torch.testing.assert_close(
            MLP.logits(found[-1, run], split.test_x), expected, rtol=1e-3, atol=1e-4
        )


def test_runs_without_a_class_do_not_know_it_and_others_do(bank: RunBank, split: Split) -> None:
    assert len(bank) == 48
    without = bank.retrained(1)
    assert len(without) == 12
    accuracy = MLP.class_accuracies(without.weights, split.test_x, split.test_y).mean(0)
    assert accuracy[1] < 0.05
    assert accuracy[[0, 2]].min() > 0.9
    counted = bank[(bank.weight > 0.3) & (bank.step == 500)]
    known = MLP.class_accuracies(counted.weights, split.test_x, split.test_y)
    assert known.min() > 0.8
    torch.testing.assert_close(
        without.losses, MLP.class_losses(without.weights, split.train_x, split.train_y)
    )


def test_prompts_are_what_they_say() -> None:
    losses = torch.tensor([[1.0, 2.0, 6.0]])
    torch.testing.assert_close(forget_and_retain(2)(losses), torch.tensor([[6.0, 1.5]]))
    assert torch.equal(each_class(losses), losses)


def test_bad_banks_are_refused(split: Split) -> None:
    for classes in ([], [7]):
        with pytest.raises(ValueError, match=r"some of the classes of the images, \[0, 1, 2\]"):
            train_bank(split, mlp=MLP, classes=classes, n_runs=2)
    broken = replace(split, train_x=split.train_x * torch.nan)
    with pytest.raises(FloatingPointError, match="a classifier diverged"):
        train_bank(broken, mlp=MLP, classes=[0], n_runs=2, kept_steps=(2,))
