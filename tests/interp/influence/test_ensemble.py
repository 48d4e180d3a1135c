from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from interp.influence import (
    AdamW,
    Problem,
    Queries,
    Sgd,
    Training,
    constant,
    cosine_decay,
    linear_decay,
    train_ensemble,
)
from interp.influence.ensemble import draw_batches, measure_runs
from interp.training.optimizers import Optimizer
from tests.interp.influence.conftest import squared

TRAINING = Training(n_steps=12, batch_size=4, lr=0.05)
RULES = {
    "sgd": (Sgd(weight_decay=0.1), torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (Sgd(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    "adamw": (AdamW(weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_run_is_that_of_the_torch_optimizer(perceptron: Problem, name: str) -> None:
    rule, theirs, options = RULES[name]
    training = replace(TRAINING, optimizer=rule, schedule=constant)
    ensemble = train_ensemble(perceptron, training, seeds=[3, 5])
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    nn.utils.vector_to_parameters(perceptron.draw(5), model.parameters())
    optimizer = theirs(model.parameters(), lr=0.05, **options)
    for rows in ensemble.batches.indices[:, 1]:
        optimizer.zero_grad()
        squared(model(perceptron.inputs[rows]), perceptron.targets[rows]).mean().backward()
        optimizer.step()
    theta = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(ensemble.parameters[1], theta.detach())


def test_a_seed_is_the_same_run_in_every_ensemble(perceptron: Problem, queries: Queries) -> None:
    some = train_ensemble(perceptron, TRAINING, seeds=[7, 8], trajectory="end")
    other = train_ensemble(perceptron, TRAINING, seeds=[8])
    torch.testing.assert_close(some.measure(queries)[1], other.measure(queries)[0])
    assert not torch.allclose(some.parameters[0], some.parameters[1])


def test_kept_parameters_begin_at_the_model(perceptron: Problem) -> None:
    training = replace(TRAINING, initial="kept")
    first = train_ensemble(perceptron, training, seeds=[0, 1]).first[:, 0]
    assert torch.equal(first, perceptron.parameters().expand(2, -1))


def test_missing_examples_change_only_the_draws_that_hit_them(perceptron: Problem) -> None:
    keep = torch.ones(20, dtype=torch.bool)
    keep[[2, 11]] = False
    full = draw_batches(perceptron, replace(TRAINING, n_steps=2000), [0])
    part = draw_batches(perceptron, replace(TRAINING, n_steps=2000), [0], keep)
    hit = ~keep[full.indices]
    assert torch.equal(full.indices[~hit], part.indices[~hit])
    assert keep[part.indices].all()
    counts = part.indices[hit].bincount(minlength=20)[keep]  # replaced by all kept ones alike
    assert (counts - counts.float().mean()).abs().max() < 5 * counts.float().mean() ** 0.5


def test_full_batches_take_the_mean_over_what_is_kept(linear: Problem, queries: Queries) -> None:
    keep = torch.arange(20) < 15
    training = replace(TRAINING, batch_size=None)
    part = Problem(linear.model, linear.loss, linear.inputs[:15], linear.targets[:15])
    torch.testing.assert_close(
        measure_runs(linear, training, queries, seeds=[4], keep=keep[None]),
        train_ensemble(part, training, seeds=[4]).measure(queries),
    )


def test_checkpoints_replay_the_whole_trajectory(perceptron: Problem) -> None:
    whole = train_ensemble(perceptron, TRAINING, seeds=[0, 1], trajectory="whole")
    few = train_ensemble(perceptron, TRAINING, seeds=[0, 1], trajectory="checkpoints")
    assert (len(whole.states), len(few.states)) == (13, 4)
    for (step, a), (other, b) in zip(whole.backward(), few.backward(), strict=True):
        assert step == other
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert [step for step, _ in few.backward()] == list(range(11, -1, -1))


def test_schedules_begin_at_one_and_fall() -> None:
    assert [constant(0.5), linear_decay(0.0), linear_decay(0.75)] == [1.0, 1.0, 0.25]
    assert cosine_decay(0.0) == 1.0
    assert cosine_decay(0.5) == pytest.approx(0.5)
    assert all(isinstance(rule[0], Optimizer) for rule in RULES.values())


def test_training_learns(classes: Callable[..., Problem]) -> None:
    problem = classes()
    right = Queries(
        inputs=problem.inputs,
        targets=problem.targets,
        measure=lambda o, t: (o.argmax(-1) == t).float(),
    )
    ensemble = train_ensemble(problem, Training(n_steps=40, batch_size=8), seeds=range(4))
    assert ensemble.measure(right).mean() > 0.8


def test_diverging_runs_are_named(linear: Problem) -> None:
    training = Training(n_steps=100, lr=1e6, schedule=constant)
    with pytest.raises(FloatingPointError, match=r"1 of 1 runs are not finite after .* lower lr"):
        train_ensemble(linear, training, seeds=[0])


def test_too_large_trajectories_say_what_to_choose(perceptron: Problem) -> None:
    training = replace(TRAINING, n_steps=1000)
    with pytest.raises(MemoryError, match='choose trajectory="checkpoints"'):
        train_ensemble(perceptron, training, seeds=[0], trajectory="whole", max_gib=1e-5)
    with pytest.raises(MemoryError, match="choose fewer seeds at a time, or a larger max_gib"):
        train_ensemble(perceptron, training, seeds=range(99), trajectory="end", max_gib=1e-9)


def test_bad_settings_are_named(linear: Problem) -> None:
    with pytest.raises(ValueError, match="n_steps=0"):
        Training(n_steps=0)
    with pytest.raises(ValueError, match=r"lr=0\.0"):
        Training(lr=0.0)
    with pytest.raises(ValueError, match="0 seeds"):
        train_ensemble(linear, TRAINING, seeds=[])
    with pytest.raises(ValueError, match="1 seeds, of which 1 keep no example"):
        train_ensemble(linear, TRAINING, seeds=[0], keep=torch.zeros(20, dtype=torch.bool))
    ended = train_ensemble(linear, TRAINING, seeds=[0], trajectory="end")
    with pytest.raises(ValueError, match='trajectory="checkpoints"'):
        list(ended.backward())
