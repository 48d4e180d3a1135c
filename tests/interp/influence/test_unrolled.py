from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.influence import (
    AdamW,
    Problem,
    Queries,
    Sgd,
    Training,
    influence_functions,
    leave_out,
    random_subsets,
    train_ensemble,
    unrolled_forward,
    unrolled_reverse,
)
from interp.training.optimizers import Optimizer
from tests.interp.influence.conftest import squared

RULES = [Sgd(weight_decay=0.01), Sgd(momentum=0.8), AdamW(eps=1e-3, weight_decay=0.1)]
TRAINING = Training(n_steps=9, batch_size=5, lr=0.05)


@pytest.mark.parametrize("rule", RULES, ids=["sgd", "momentum", "adamw"])
def test_reverse_is_the_finite_difference_of_training(
    perceptron: Problem, queries: Queries, rule: Optimizer
) -> None:
    training = replace(TRAINING, optimizer=rule)
    scores = unrolled_reverse(train_ensemble(perceptron, training, seeds=[0, 1]), queries)
    for example in (0,):
        ends = []
        for shift in (1e-4, -1e-4):
            weights = torch.ones(20, dtype=torch.float64)
            weights[example] += shift
            moved = train_ensemble(perceptron, training, seeds=[0, 1], weights=weights)
            ends.append(moved.measure(queries).numpy())
        slope = (ends[0] - ends[1]) / 2e-4
        error = np.linalg.norm(scores.values[:, :, example] - slope) / np.linalg.norm(slope)
        assert error < 1e-5  # 1e-2 would do


@pytest.mark.parametrize("rule", RULES, ids=["sgd", "momentum", "adamw"])
def test_forward_is_reverse(perceptron: Problem, queries: Queries, rule: Optimizer) -> None:
    ensemble = train_ensemble(perceptron, replace(TRAINING, optimizer=rule), seeds=[0, 1])
    directions = torch.zeros(2, 20, dtype=torch.float64)
    directions[0, :5] = 1
    directions[1, 9] = 1
    forward = unrolled_forward(ensemble, queries, directions)
    reverse = np.einsum(
        "sqn,dn->sqd", unrolled_reverse(ensemble, queries).values, directions.numpy()
    )
    assert np.linalg.norm(forward - reverse) / np.linalg.norm(reverse) < 1e-10


def test_chunks_and_full_batches_change_nothing(perceptron: Problem, queries: Queries) -> None:
    ensemble = train_ensemble(perceptron, replace(TRAINING, batch_size=None), seeds=range(3))
    whole = unrolled_reverse(ensemble, queries, chunk=3).values
    np.testing.assert_allclose(whole, unrolled_reverse(ensemble, queries, chunk=2).values)
    forward = unrolled_forward(ensemble, queries, torch.eye(20)[:2])
    np.testing.assert_allclose(whole[:, :, :2], forward, atol=1e-12)


def test_unrolling_tends_to_influence_functions_in_linear_regression(
    linear: Problem, queries: Queries
) -> None:
    training = Training(n_steps=50, batch_size=None, lr=0.3)
    ensemble = train_ensemble(linear, training, seeds=[0])
    unrolled = unrolled_reverse(ensemble, queries).values
    limit = influence_functions(ensemble, queries, damping=1e-9).values
    assert np.corrcoef(unrolled.ravel(), limit.ravel())[0, 1] > 0.999
    early = train_ensemble(linear, replace(training, n_steps=3), seeds=[0])
    before = unrolled_reverse(early, queries).values  # control: not before it converges
    assert np.corrcoef(before.ravel(), limit.ravel())[0, 1] < 0.99


def test_predicted_removal_is_that_of_retraining(perceptron: Problem, queries: Queries) -> None:
    training = Training(n_steps=12, batch_size=None, lr=0.05)
    scores = unrolled_reverse(train_ensemble(perceptron, training, seeds=[0]), queries)
    removed = random_subsets(6, 1, 20)
    truth = leave_out(perceptron, training, queries, removed, seeds=[0])
    change = truth.after - truth.before
    predicted = scores.predict(removed) - scores.measured
    assert np.corrcoef(change.ravel(), predicted.ravel())[0, 1] > 0.95
    shuffled = np.roll(predicted, 2, axis=0)
    assert np.corrcoef(change.ravel(), shuffled.ravel())[0, 1] < 0.6


def test_queries_without_gradient_are_named(
    classes: Callable[..., Problem], perceptron: Problem, queries: Queries
) -> None:
    problem = classes()
    decided = Queries(
        inputs=problem.inputs[:2],
        targets=problem.targets[:2],
        measure=lambda o, t: (o.argmax(-1) == t).float() + 0 * o[:, 0],
    )
    ensemble = train_ensemble(problem, TRAINING, seeds=[0])
    with pytest.raises(ValueError, match=r"queries \[0, 1\] have no gradient"):
        unrolled_reverse(ensemble, decided)
    ended = train_ensemble(perceptron, TRAINING, seeds=[0], trajectory="end")
    with pytest.raises(ValueError, match="kept only its end"):
        unrolled_forward(ended, queries, torch.eye(20)[:1])
    assert squared(torch.ones(1, 1), torch.zeros(1)) == 1
