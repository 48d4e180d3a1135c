"""Many L2-regularized logistic regressions on one matrix of activations at once.

The problems differ in their training sets, labels and strengths of regularization. They share the
products with the activations, one matrix product for all of them, and a preconditioner built on
their covariance: the Hessian with one curvature for all examples, at first the upper bound 1/4 of
Böhning and Lindsay (1988). The solver is nonlinear conjugate gradients with an exact line search,
which costs no product when the model is linear. Each problem is that of scikit-learn's
`LogisticRegression` on features standardized on its own training set: minimize
C * sum of losses + ||w||^2 / 2, with the intercept free.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.linalg.blas import get_blas_funcs
from torch import Tensor

_MAX_STEPS = 500
_REFRESH = (10, 30)
"""Steps at which the preconditioner learns how flat the losses have become."""


@dataclass(frozen=True, kw_only=True)
class LogisticFit:
    """Solutions in the space of the activations: scores are X @ coef.T + intercept."""

    coef: Float[Tensor, "problem feature"]
    """Weights of the raw features."""
    intercept: Float[Tensor, " problem"]
    """Intercepts."""
    n_steps: int
    """Steps of the solver."""
    converged: bool
    """Whether every problem reached the tolerance."""


def fit_logistic(
    X: Float[Tensor, "example feature"],
    targets: Float[Tensor, "problem example"],
    weights: Float[Tensor, "problem example"],
    C: Float[Tensor, " problem"],
    *,
    offset: Float[Tensor, "problem example"] | None = None,
    tolerance: float = 1e-4,
) -> LogisticFit:
    """Solve one logistic regression for each row of the targets.

    Args:
        X: Activations, float32 or float64; the result has the same type.
        targets: Labels 0 and 1; those of examples with weight 0 do not matter.
        weights: Weight of each example in each problem; 0 leaves it out, also of the
            standardization.
        C: Strength of the data against the regularization, as in scikit-learn.
        offset: Scores to which those of the solution are added; what is learned, and pulled towards
            zero, is then the difference.
        tolerance: Largest entry of the gradient of the mean loss at which a problem is solved.
    """
    problems = _Problems(X, targets, weights, C)
    start = torch.zeros_like(weights) if offset is None else offset
    state, n_steps, converged = _minimize(problems, start, tolerance)
    return LogisticFit(**problems.unstandardized(state), n_steps=n_steps, converged=converged)


class _Problems:
    """Objectives: sum of weighted losses + ||w||^2 / (2 C), for weights and intercept in one row.

    The activations are standardized once on all examples, for the sake of precision; what each
    training set differs from that is folded into its weights.
    """

    def __init__(self, X: Tensor, targets: Tensor, weights: Tensor, C: Tensor) -> None:
        self.targets, self.weights = targets, weights
        self.total = weights.sum(1)
        self.origin = X.mean(0)
        centered = X - self.origin
        self.unit = _positive(centered.square().mean(0).sqrt())
        self.X = centered.div_(self.unit)
        used = (weights > 0).to(X.dtype)
        used /= used.sum(1, keepdim=True)
        self.mean = used @ self.X
        variance = (used @ self.X.square() - self.mean.square()).clamp(min=0)
        self.scale = _positive(variance.sqrt())
        self.ridge = torch.cat([(1 / C)[:, None].expand_as(self.mean), C.new_zeros(len(C), 1)], 1)

    def scores(self, state: Tensor) -> Tensor:
        """Score of every example in every problem."""
        raw = state[:, :-1] / self.scale
        return raw @ self.X.T + (state[:, -1] - (raw * self.mean).sum(1))[:, None]

    def gradient(self, scores: Tensor, state: Tensor) -> Tensor:
        """Gradient of each objective."""
        residual = self.weights * (scores.sigmoid() - self.targets)
        total = residual.sum(1, keepdim=True)
        slopes = (residual @ self.X - self.mean * total) / self.scale
        return torch.cat([slopes, total], 1) + self.ridge * state

    def curvature(self, scores: Tensor) -> Tensor:
        """Mean second derivative of the losses of each problem, at most 1/4."""
        p = scores.sigmoid()
        return (self.weights * p * (1 - p)).sum(1) / self.total

    def step(self, scores: Tensor, slopes: Tensor, state: Tensor, direction: Tensor) -> Tensor:
        """Length of the step that minimizes each objective along its direction, by Newton."""
        linear = (self.ridge * state * direction).sum(1)
        square = (self.ridge * direction.square()).sum(1)
        weighted = self.weights * slopes
        length = torch.zeros_like(linear)
        for _ in range(3):
            p = (scores + length[:, None] * slopes).sigmoid()
            first = (weighted * (p - self.targets)).sum(1) + linear + length * square
            second = (weighted * slopes * p * (1 - p)).sum(1) + square
            length = length - first / second.clamp(min=torch.finfo(p.dtype).tiny)
        return length

    def unstandardized(self, state: Tensor) -> dict[str, Tensor]:
        """Weights and intercepts for the activations as they came."""
        raw = state[:, :-1] / self.scale
        coef = raw / self.unit
        return {
            "coef": coef,
            "intercept": state[:, -1] - (raw * self.mean).sum(1) - coef @ self.origin,
        }


class _Preconditioner:
    """Inverse of strength * covariance + ridge, with one covariance for all problems."""

    def __init__(self, problems: _Problems, curvature: Tensor) -> None:
        X = problems.X
        self.X = X
        self.dual = X.shape[0] < X.shape[1]
        self.gram = _half_gram(X, between_rows=self.dual).div_(len(X))
        self.refresh(problems, curvature)

    def refresh(self, problems: _Problems, curvature: Tensor) -> None:
        """Use other curvatures; problems whose ridges are alike share a factor."""
        self.strength = problems.total * curvature
        ridges = (problems.ridge[:, 0] / self.strength).log2().round()
        levels, self.level = ridges.unique(return_inverse=True)
        self.ridges = levels.exp2()
        eye = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        self.factors = [torch.linalg.cholesky(self.gram + r * eye) for r in self.ridges]

    def __call__(self, gradient: Tensor) -> Tensor:
        out = gradient.clone()
        for level, factor in enumerate(self.factors):
            rows = self.level == level
            out[rows, :-1] = self._solve(gradient[rows, :-1], factor, self.ridges[level])
        return out / self.strength[:, None]

    def _solve(self, rows: Tensor, factor: Tensor, ridge: Tensor) -> Tensor:
        if not self.dual:
            return torch.cholesky_solve(rows.T, factor).T
        inner = torch.cholesky_solve((rows @ self.X.T).T, factor).T / len(self.X)
        return (rows - inner @ self.X) / ridge


def _minimize(problems: _Problems, scores: Tensor, tolerance: float) -> tuple[Tensor, int, bool]:
    """Weights and intercepts at the minimum, the number of steps, and whether it was reached."""
    state = torch.zeros_like(problems.ridge)
    precondition = _Preconditioner(problems, torch.full_like(problems.total, 0.25))
    direction: Tensor | None = None
    before = state, scores[:, 0]  # gradient, and its product with the preconditioned one
    for n_steps in range(_MAX_STEPS):
        gradient = problems.gradient(scores, state)
        error = gradient.abs().amax(1) / problems.total
        if bool((error <= tolerance).all()):
            return state, n_steps, True
        if n_steps in _REFRESH:
            precondition.refresh(problems, problems.curvature(scores).clamp(min=1e-4))
            direction = None
        downhill = precondition(gradient)
        product = (gradient * downhill).sum(1)
        if direction is None:
            direction = -downhill
        else:
            kept = (product - (before[0] * downhill).sum(1)) / before[1]
            direction = kept.nan_to_num(0).clamp(min=0)[:, None] * direction - downhill
        before = gradient, product
        slopes = problems.scores(direction)
        length = problems.step(scores, slopes, state, direction)
        length = torch.where(error > 0.5 * tolerance, length, 0)[:, None]
        state, scores = state + length * direction, scores + length * slopes
    return state, _MAX_STEPS, False


def _half_gram(X: Float[Tensor, "row column"], *, between_rows: bool) -> Float[Tensor, "a a"]:
    """Products between rows or columns, only the lower half, which suffices for a Cholesky factor.

    Half the work of the whole matrix product; torch has no call for it.
    """
    columns = X.cpu().numpy().T
    (multiply,) = get_blas_funcs(("syrk",), (columns,))
    return torch.from_numpy(multiply(1.0, columns, trans=between_rows, lower=True)).to(X)


def _positive(deviation: Tensor) -> Tensor:
    """Standard deviations, 1 where a feature is constant."""
    return torch.where(deviation > 1e-6, deviation, 1)
