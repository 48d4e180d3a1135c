"""Baselines that need no curvature: TracIn and the similarity of gradients.

TracIn (Pruthi et al. 2020) adds up, over training, step size times the product of the gradients of
measurement and example; it is unrolled differentiation that forgets what later steps do to a
change. Similarity is the cosine of the two gradients at the end.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from interp.influence.ensemble import Ensemble
from interp.influence.influence_functions import products
from interp.influence.problem import Problem, Queries
from interp.influence.scores import Scores
from interp.influence.unrolled import as_scores, query_gradients


def tracin(ensemble: Ensemble, queries: Queries) -> Scores:
    """Scores of all examples by TracIn over the kept states.

    Each kept state stands for the steps from it to the next. The scale is that of a derivative in
    the weight of an example, so that scores compare with unrolled ones.

    Args:
        ensemble: Trained with its trajectory; a step is taken for one of plain gradient descent.
        queries: Where the trained models are measured.

    Raises:
        ValueError: If the ensemble kept only its end, or a query has no gradient.
    """
    problem, n_runs = ensemble.problem, len(ensemble.first)
    values = torch.zeros(n_runs, len(queries), problem.n_examples).to(ensemble.first)
    kept = sorted(ensemble.states)
    for start, stop in pairwise(kept):
        weight = sum(ensemble.training.lr_at(step) for step in range(start, stop))
        theta = ensemble.states[start][:, 0]
        gradients = query_gradients(problem, theta, queries)
        values -= weight / problem.n_examples * _products(problem, theta, gradients)
    return as_scores(values, ensemble, queries, "TracIn")


def gradient_similarity(ensemble: Ensemble, queries: Queries) -> Scores:
    """Minus the cosine of the gradients of measurement and example: a ranking without a scale.

    Raises:
        ValueError: If a query has no gradient.
    """
    problem, theta = ensemble.problem, ensemble.parameters
    gradients = torch.nn.functional.normalize(query_gradients(problem, theta, queries), dim=2)
    values = -_products(problem, theta, gradients)
    for run, one in enumerate(theta):
        values[run] /= _norms(problem, one).clamp(min=1e-12)
    return as_scores(values, ensemble, queries, "gradient similarity")


def _products(
    problem: Problem,
    theta: Float[Tensor, "run parameter"],
    vectors: Float[Tensor, "run query parameter"],
) -> Float[Tensor, "run query example"]:
    pairs = zip(theta, vectors, strict=True)
    return torch.stack([products(problem, one, rows) for one, rows in pairs])


def _norms(problem: Problem, theta: Float[Tensor, " parameter"]) -> Float[Tensor, " example"]:
    """Length of the gradient of each training example's loss."""

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return problem.losses(theta, x[None], y[None])[0]

    parts = zip(problem.inputs.split(256), problem.targets.split(256), strict=True)
    gradient = vmap(grad(loss), in_dims=(None, 0, 0))
    return torch.cat([gradient(theta, x, y).norm(dim=1) for x, y in parts])
