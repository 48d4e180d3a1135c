from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from interp.influence import (
    Problem,
    Queries,
    Sgd,
    Training,
    gradient_similarity,
    influence_functions,
    solve_cg,
    solve_exact,
    solve_kronecker,
    tracin,
    train_ensemble,
)
from interp.influence.influence_functions import ggn
from interp.influence.kronecker import kronecker_factors

TRAINING = Training(n_steps=30, batch_size=8, lr=0.2)


def vectors(problem: Problem, n: int = 3) -> torch.Tensor:
    theta = problem.parameters()
    return torch.randn(n, len(theta), generator=torch.Generator().manual_seed(2)).to(theta)


def test_exact_influence_is_the_formula_of_ridge_regression(
    linear: Problem, queries: Queries
) -> None:
    training = Training(n_steps=20, batch_size=None, lr=0.1, optimizer=Sgd(weight_decay=0.01))
    ensemble = train_ensemble(linear, training, seeds=[0])
    found = influence_functions(ensemble, queries, damping=0.02).values[0]
    theta = ensemble.parameters[0].numpy()
    x, q = (np.c_[p.numpy(), np.ones(len(p))] for p in (linear.inputs, queries.inputs))
    residual = 2 * (x @ theta - linear.targets.numpy())
    of_query = 2 * (q @ theta - queries.targets.numpy())[:, None] * q
    curvature = 2 * x.T @ x / 20 + 0.03 * np.eye(4)
    expected = -of_query @ np.linalg.solve(curvature, (residual[:, None] * x).T) / 20
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_ggn_of_cross_entropy_is_the_fisher_information(classes: Callable[..., Problem]) -> None:
    problem = classes(n=6)
    theta, fisher = problem.parameters(), 0.0
    chances = problem.outputs(theta, problem.inputs).softmax(1)
    for row in range(6):
        for label in range(3):
            slope = torch.func.grad(
                lambda t, row=row, label=label: problem.losses(
                    t, problem.inputs[row : row + 1], torch.tensor([label])
                )[0]
            )(theta)
            fisher = fisher + chances[row, label] * slope[:, None] * slope / 6
    torch.testing.assert_close(ggn(problem, theta), fisher, rtol=1e-4, atol=1e-6)


def test_conjugate_gradients_are_the_exact_solution(classes: Callable[..., Problem]) -> None:
    problem = classes()
    theta, rows = problem.parameters(), vectors(problem)
    torch.testing.assert_close(
        solve_cg(problem, theta, rows, 0.01, tolerance=1e-5),
        solve_exact(problem, theta, rows, 0.01),
        rtol=1e-3,
        atol=1e-3,
    )
    with pytest.raises(RuntimeError, match="raise damping"):
        solve_cg(problem, theta, rows, 1e-6, n_iterations=2)


def test_kronecker_is_exact_for_linear_regression(linear: Problem) -> None:
    theta, rows = linear.parameters(), vectors(linear)
    torch.testing.assert_close(
        solve_kronecker(linear, theta, rows, 0.01), solve_exact(linear, theta, rows, 0.01)
    )


def test_kronecker_is_between_exact_and_nothing(classes: Callable[..., Problem]) -> None:
    problem = classes()
    theta, rows = problem.draw(0), vectors(problem)
    exact = solve_exact(problem, theta, rows, 0.01)
    cosine = torch.nn.functional.cosine_similarity
    factored = cosine(solve_kronecker(problem, theta, rows, 0.01), exact).mean()
    assert factored > cosine(rows, exact).mean()
    assert factored > 0.9


@pytest.mark.parametrize("flat", [True, False])
def test_a_convolution_over_everything_is_a_linear_layer(
    classes: Callable[..., Problem], flat: bool
) -> None:
    whole = nn.Conv1d(2, 4, 3) if flat else nn.Conv2d(1, 4, (2, 3))
    shape = (2, 3) if flat else (1, 2, 3)
    as_conv = nn.Sequential(nn.Unflatten(1, shape), whole, nn.Flatten(), nn.Linear(4, 3))
    problem, plain = classes(model=as_conv), nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    other = classes(model=plain)
    theta = problem.draw(0)
    convolved, dense = kronecker_factors(problem, theta), kronecker_factors(other, theta)
    for one, two in zip(convolved.values(), dense.values(), strict=True):
        torch.testing.assert_close(one.inputs, two.inputs)
        torch.testing.assert_close(one.outputs, two.outputs, atol=1e-5, rtol=1e-3)


def test_convolutions_share_weights_over_positions(classes: Callable[..., Problem]) -> None:
    layer = nn.Conv1d(1, 3, 2, stride=2)
    model = nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten(), nn.Linear(9, 3))
    problem = classes(model=model)
    theta = problem.draw(0)
    found = kronecker_factors(problem, theta)["1"].inputs
    patches = torch.cat([problem.inputs.reshape(-1, 2), torch.ones(180, 1)], 1)
    torch.testing.assert_close(found, patches.T @ patches / 60)
    exact = solve_exact(problem, theta, vectors(problem), 0.1)
    factored = solve_kronecker(problem, theta, vectors(problem), 0.1)
    assert torch.nn.functional.cosine_similarity(exact, factored).min() > 0.8


def test_kronecker_refuses_other_layers(classes: Callable[..., Problem]) -> None:
    problem = classes(model=nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3)))
    with pytest.raises(ValueError, match=r"\['1.bias', '1.weight'\] belong to no plain linear"):
        solve_kronecker(problem, problem.parameters(), vectors(problem), 0.1)


def test_tracin_is_the_sum_over_training(perceptron: Problem, queries: Queries) -> None:
    training = Training(n_steps=4, batch_size=5, lr=0.05)
    ensemble = train_ensemble(perceptron, training, seeds=[0], trajectory="whole")
    expected = torch.zeros(4, 20, dtype=torch.float64)
    for step in range(4):
        theta = ensemble.states[step][0, 0]
        of_queries = torch.func.jacrev(lambda t: perceptron.measured(t, queries))(theta)
        of_train = torch.func.jacrev(
            lambda t: perceptron.losses(t, perceptron.inputs, perceptron.targets)
        )(theta)
        expected -= training.lr_at(step) / 20 * of_queries @ of_train.T
        if step == 3:
            last = (of_queries, of_train)
    np.testing.assert_allclose(tracin(ensemble, queries).values[0], expected.numpy())
    assert len(last) == 2


def test_similarity_is_a_cosine(perceptron: Problem, queries: Queries) -> None:
    ensemble = train_ensemble(perceptron, TRAINING, seeds=[0])
    found = gradient_similarity(ensemble, queries).values[0]
    theta = ensemble.parameters[0]
    a = torch.func.jacrev(lambda t: perceptron.measured(t, queries))(theta)
    b = torch.func.jacrev(lambda t: perceptron.losses(t, perceptron.inputs, perceptron.targets))(
        theta
    )
    unit = torch.nn.functional.normalize
    np.testing.assert_allclose(found, -(unit(a) @ unit(b).T).numpy(), atol=1e-12)


def test_bad_damping_and_sizes_are_named(linear: Problem, queries: Queries) -> None:
    ensemble = train_ensemble(linear, TRAINING, seeds=[0])
    with pytest.raises(ValueError, match=r"damping=0\.0"):
        influence_functions(ensemble, queries, damping=0.0)
    wide = Problem(nn.Linear(9000, 1), linear.loss, torch.ones(2, 9000), torch.zeros(2))
    with pytest.raises(ValueError, match="use solve_cg or solve_kronecker"):
        solve_exact(wide, wide.parameters(), torch.ones(1, 9001), 0.1)
