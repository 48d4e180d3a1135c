"""Influence functions: what unrolled differentiation tends to at the end of training.

The score of an example is -1/N times the gradient of the measurement, the inverse curvature of the
training loss, and the gradient of the example's loss (Koh and Liang 2017). Curvature is the
generalized Gauss-Newton matrix (GGN) with damping, which is positive where the Hessian of a network
is not. They need no trajectory, but assume that training has come to rest.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import hessian, jacrev, jvp, vjp, vmap

from interp.influence.ensemble import Ensemble
from interp.influence.problem import Problem, Queries
from interp.influence.scores import Scores
from interp.influence.unrolled import as_scores, query_gradients

Solver = Callable[[Problem, Tensor, Tensor, float], Tensor]
"""From a problem, parameters (p,), vectors (k, p) and a damping to (curvature + damping)^-1 v."""
_MOST_EXACT = 8000


def influence_functions(
    ensemble: Ensemble,
    queries: Queries,
    *,
    damping: float = 1e-3,
    solve: Solver | None = None,
) -> Scores:
    """Scores of all examples from the end of training.

    Args:
        ensemble: Trained runs; the trajectory is not needed.
        queries: Where they are measured.
        damping: Added to the diagonal of the curvature, besides an L2 penalty of the optimizer.
        solve: How curvature is inverted: `solve_exact` (the default), `solve_cg` for many
            parameters, `solve_kronecker` for layers that are linear or convolutions.

    Raises:
        ValueError: If damping is not positive, or a query has no gradient.
    """
    if not damping > 0:
        raise ValueError(f"damping={damping!r}: needed a positive number, as the GGN is singular")
    problem, solve = ensemble.problem, solve or solve_exact
    total = damping + ensemble.training.optimizer.l2
    gradients = query_gradients(problem, ensemble.parameters, queries)
    values = [
        -products(problem, theta, solve(problem, theta, rows, total)) / problem.n_examples
        for theta, rows in zip(ensemble.parameters, gradients, strict=True)
    ]
    name = f"influence functions ({solve.__name__.removeprefix('solve_')})"
    return as_scores(torch.stack(values), ensemble, queries, name)


def products(
    problem: Problem,
    theta: Float[Tensor, " parameter"],
    vectors: Float[Tensor, "vector parameter"],
) -> Float[Tensor, "vector example"]:
    """Product of vectors with the gradient of each training example's loss."""

    def losses(theta: Tensor) -> Tensor:
        return problem.losses(theta, problem.inputs, problem.targets)

    return vmap(lambda vector: jvp(losses, (theta,), (vector,))[1])(vectors)


def solve_exact(
    problem: Problem,
    theta: Float[Tensor, " parameter"],
    vectors: Float[Tensor, "vector parameter"],
    damping: float,
) -> Float[Tensor, "vector parameter"]:
    """By Cholesky decomposition of the whole GGN, in float64.

    Raises:
        ValueError: If there are too many parameters for a matrix of their square.
    """
    if len(theta) > _MOST_EXACT:
        raise ValueError(
            f"the GGN of {len(theta)} parameters does not fit (at most {_MOST_EXACT}); use "
            "solve_cg or solve_kronecker"
        )
    matrix = ggn(problem, theta).double()
    matrix.diagonal().add_(damping)
    factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(vectors.T.double(), factor).T.to(vectors)


def solve_cg(
    problem: Problem,
    theta: Float[Tensor, " parameter"],
    vectors: Float[Tensor, "vector parameter"],
    damping: float,
    *,
    n_iterations: int = 500,
    tolerance: float = 1e-4,
) -> Float[Tensor, "vector parameter"]:
    """By conjugate gradients, which need only products with the GGN.

    Raises:
        RuntimeError: If the residual is above `tolerance` of the vector after `n_iterations`.
    """
    multiply = _ggn_product(problem, theta)
    solution, residual = torch.zeros_like(vectors), vectors
    direction, size = vectors, (vectors * vectors).sum(1, keepdim=True)
    target = tolerance**2 * size
    for _ in range(n_iterations):
        if (size <= target).all():
            return solution
        moved = multiply(direction) + damping * direction
        rate = size / (direction * moved).sum(1, keepdim=True).clamp(min=1e-30)
        solution, residual = solution + rate * direction, residual - rate * moved
        new = (residual * residual).sum(1, keepdim=True)
        direction, size = residual + new / size.clamp(min=1e-30) * direction, new
    if (size <= target).all():
        return solution
    raise RuntimeError(
        f"conjugate gradients left {float((size / target).max().sqrt() * tolerance):.2g} of the "
        f"vector after {n_iterations} iterations (tolerance {tolerance:g}); raise damping"
    )


def ggn(
    problem: Problem, theta: Float[Tensor, " parameter"]
) -> Float[Tensor, "parameter parameter"]:
    """Mean over the examples of J^T H J: Jacobian of the outputs, Hessian of the loss in them."""

    def outputs(theta: Tensor) -> Tensor:
        return problem.outputs(theta, problem.inputs).flatten(1)

    with torch.no_grad():
        roots = output_roots(problem, outputs(theta))
    jacobian = jacrev(outputs)(theta)  # example, output, parameter
    rows = torch.einsum("nco,ncp->nop", roots, jacobian).flatten(0, 1)
    return rows.T @ rows / problem.n_examples


def output_roots(
    problem: Problem, outputs: Float[Tensor, "example output"]
) -> Float[Tensor, "example output column"]:
    """A root R of the Hessian of each example's loss in its outputs, H = R R^T."""
    hessians = vmap(hessian(_loss_of_outputs(problem)))(outputs, problem.targets)
    values, vectors = torch.linalg.eigh(hessians.double())
    return (vectors * values.clamp(min=0).sqrt()[:, None]).to(outputs)


def _loss_of_outputs(problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    with torch.no_grad():
        shape = problem.outputs(problem.parameters(), problem.inputs[:1]).shape
    return lambda output, target: problem.loss(output.reshape(shape), target[None])[0]


def _ggn_product(
    problem: Problem, theta: Float[Tensor, " parameter"]
) -> Callable[[Tensor], Tensor]:
    """Products of the GGN with vectors (k, p)."""

    def outputs(theta: Tensor) -> Tensor:
        return problem.outputs(theta, problem.inputs).flatten(1)

    with torch.no_grad():
        roots = output_roots(problem, outputs(theta))
    hessians = roots @ roots.mT / problem.n_examples
    pull = vjp(outputs, theta)[1]

    def product(vector: Tensor) -> Tensor:
        moved = jvp(outputs, (theta,), (vector,))[1]
        return pull(torch.einsum("nij,nj->ni", hessians, moved))[0]

    return vmap(product)
