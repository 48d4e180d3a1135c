"""Unrolled differentiation: the derivative of a whole training run in the weights of its examples.

Mlodozeniec, Reid, Power, Krueger, Erdogdu, Turner and Grosse 2025, "Distributional training data
attribution": the state after training is a function of the examples' weights, by as many steps as
training has. Forward mode carries the derivative in one direction along, in constant memory;
reverse mode goes back once and gives the derivative of a measurement in all weights. Both are exact
for the run's own initial parameters and batches, whatever the optimizer. A derivative does not say
how far it holds: compare with retraining (`leave_out`).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, jvp, vjp, vmap

from interp.influence.ensemble import Ensemble, Step, step_of
from interp.influence.problem import Problem, Queries
from interp.influence.scores import Scores


def query_gradients(
    problem: Problem, parameters: Float[Tensor, "run parameter"], queries: Queries
) -> Float[Tensor, "run query parameter"]:
    """Gradient of each run's measurement at each query.

    Raises:
        ValueError: If a query has no gradient in any run, so that no example could matter.
    """
    gradients = vmap(jacrev(lambda theta: problem.measured(theta, queries)))(parameters)
    flat = (gradients == 0).all(2).all(0).nonzero()[:, 0].tolist()
    if flat:
        raise ValueError(
            f"queries {flat[:5]} have no gradient in any of {len(parameters)} runs: needed a "
            "measurement that changes with the parameters, such as a loss or a margin (not a "
            "decision, and nothing saturated)"
        )
    return gradients


def as_scores(
    values: Float[Tensor, "run query example"], ensemble: Ensemble, queries: Queries, method: str
) -> Scores:
    """Scores of an ensemble, with what its runs measured."""
    measured = ensemble.measure(queries).numpy(force=True)
    return Scores(values=values.numpy(force=True), measured=measured, method=method)


def unrolled_reverse(ensemble: Ensemble, queries: Queries, *, chunk: int = 4) -> Scores:
    """Scores of all examples by going back through training once.

    Args:
        ensemble: Trained with its trajectory ("checkpoints" or "whole").
        queries: Where the trained models are measured.
        chunk: Seeds at a time, which bounds temporary values of size (seed, query, parameter).

    Raises:
        ValueError: If the ensemble kept only its end, or a query has no gradient.
    """
    problem, n_runs = ensemble.problem, len(ensemble.seeds)
    last = query_gradients(problem, ensemble.parameters, queries)
    n_slots = ensemble.training.optimizer.n_slots
    adjoint = last.new_zeros(n_runs, len(queries), n_slots, problem.n_parameters)
    adjoint[:, :, 0] = last
    values = last.new_zeros(n_runs, len(queries), problem.n_examples)
    for step, states in ensemble.backward():
        pull_back = vmap(_pull_back(step_of(problem, ensemble.training, step)))
        batch = ensemble.batches.at(problem, step)
        for runs in torch.arange(n_runs).split(chunk):
            part = [tensor[runs] for tensor in (states, *batch, adjoint)]
            adjoint[runs], of_weights = pull_back(*part)
            rows = ensemble.batches.indices[step, runs][:, None].expand(of_weights.shape)
            values[runs] = values[runs].scatter_add(2, rows, of_weights)
    return as_scores(values, ensemble, queries, "unrolled")


def unrolled_forward(
    ensemble: Ensemble, queries: Queries, directions: Float[Tensor, "direction example"]
) -> Float[np.ndarray, "run query direction"]:
    """Derivatives of measurements in directions of the weights, in the memory of training.

    Args:
        ensemble: Its initial states and batches are used; needs its trajectory.
        queries: Where the trained models are measured.
        directions: Changes of the examples' weights: a row with a single 1 gives the score of an
            example, one with several 1 that of a group.

    Raises:
        ValueError: If the ensemble kept only its end, or a query has no gradient.
    """
    problem, state = ensemble.problem, ensemble.first
    tangent = state.new_zeros(len(state), len(directions), *state.shape[1:])
    for step in range(ensemble.training.n_steps):
        push = vmap(_push(step_of(problem, ensemble.training, step)))
        moved = directions.to(state)[:, ensemble.batches.indices[step]].transpose(0, 1)
        state, tangent = push(state, *ensemble.batches.at(problem, step), tangent, moved)
    gradients = query_gradients(problem, state[:, 0], queries)
    return torch.einsum("rqp,rdp->rqd", gradients, tangent[:, :, 0]).numpy(force=True)


def _pull_back(take: Step) -> Callable[..., tuple[Tensor, Tensor]]:
    """One step backward: from derivatives in the next state to those in state and weights."""

    def pull_back(
        state: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor, adjoints: Tensor
    ) -> tuple[Tensor, Tensor]:
        pull = vjp(lambda s, w: take(s, inputs, targets, w), state, weights)[1]
        return vmap(pull)(adjoints)

    return pull_back


def _push(take: Step) -> Callable[..., tuple[Tensor, Tensor]]:
    """One step forward: the next state and its derivatives in the directions."""

    def push(
        state: Tensor,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        tangents: Tensor,
        moved: Tensor,
    ) -> tuple[Tensor, Tensor]:
        def step(state: Tensor, weights: Tensor) -> Tensor:
            return take(state, inputs, targets, weights)

        def along(tangent: Tensor, change: Tensor) -> Tensor:
            return jvp(step, (state, weights), (tangent, change))[1]

        return step(state, weights), vmap(along)(tangents, moved)

    return push
