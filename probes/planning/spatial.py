"""Probes that read a class off every square: multinomial logistic regression on its neighborhood.

The probe of Bush et al. 2025 (arXiv 2504.01871): a convolution of kernel 1 or 3 from the channels
of a state to the classes, the same weights on every square. Unlike theirs it has an intercept and
is solved to its optimum (the problem is convex), so that it has no seed of its own.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn import functional

_CHUNK_SQUARES = 200_000
"""Squares whose neighborhoods are unfolded at a time when predicting."""


class SpatialProbe(BaseEstimator):
    """Softmax regression on the neighborhood of every square.

    It minimizes C * sum of losses + ||w||^2 / 2 on features standardized on the training squares,
    with free intercepts: scikit-learn's `LogisticRegression` behind a `StandardScaler`.

    Args:
        kernel: Width of the neighborhood, odd; beyond the edge of the board everything is 0.
        C: Strength of the data against the regularization.
        n_classes: How many classes there are, also where some do not occur.
        max_iter: Most steps of the solver.

    Attributes:
        coef_: Weights of the raw features, shape (class, channel, kernel, kernel).
        intercept_: Intercept of each class.
        n_iter_: Steps of the solver.
    """

    def __init__(
        self, kernel: int = 1, *, C: float = 1.0, n_classes: int = 5, max_iter: int = 200
    ) -> None:
        self.kernel = kernel
        self.C = C
        self.n_classes = n_classes
        self.max_iter = max_iter

    def fit(
        self,
        X: Float[Tensor, "row channel height width"],
        y: Int[np.ndarray, "row height width"],
    ) -> "SpatialProbe":
        """Fit to boards and the classes of their squares.

        Args:
            X: States or observations.
            y: Classes from 0.

        Raises:
            ValueError: If the kernel is even, or boards and classes do not fit.
        """
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel!r}; an odd number is needed")
        if X.shape[0] != y.shape[0] or X.shape[2:] != y.shape[1:]:
            raise ValueError(f"X has shape {tuple(X.shape)}, which does not fit {y.shape} of y")
        if not 0 <= y.min() <= y.max() < self.n_classes:
            raise ValueError(
                f"y has classes {y.min()} to {y.max()}: needed 0 to {self.n_classes - 1}"
            )
        features = neighborhoods(X, self.kernel)
        mean = features.mean(0)
        scale = features.std(0, correction=0)
        scale = torch.where(scale > 1e-6, scale, 1)
        features.sub_(mean).div_(scale)
        target = torch.from_numpy(y.reshape(-1)).long()
        weight, bias, self.n_iter_ = _solve(features, target, self.n_classes, self.C, self.max_iter)
        raw = weight / scale
        self.classes_ = np.arange(self.n_classes)
        self.coef_ = raw.view(self.n_classes, X.shape[1], self.kernel, self.kernel)
        self.intercept_ = bias - raw @ mean
        return self

    def decision_function(
        self, X: Float[Tensor, "row channel height width"]
    ) -> Float[Tensor, "row class height width"]:
        """Scores of the classes of every square."""
        return functional.conv2d(X.float(), self.coef_, self.intercept_, padding=self.kernel // 2)

    def predict_proba(
        self, X: Float[Tensor, "row channel height width"]
    ) -> Float[np.ndarray, "row class height width"]:
        """Probabilities of the classes of every square."""
        return self.decision_function(X).softmax(1).numpy()

    def predict(
        self, X: Float[Tensor, "row channel height width"]
    ) -> Int[np.ndarray, "row height width"]:
        """The most probable class of every square."""
        per_chunk = max(1, _CHUNK_SQUARES // (X.shape[2] * X.shape[3]))
        parts = [self.decision_function(part).argmax(1) for part in X.split(per_chunk)]
        return torch.cat(parts).numpy()

    def score(
        self,
        X: Float[Tensor, "row channel height width"],
        y: Int[np.ndarray, "row height width"],
    ) -> float:
        """Share of squares whose class is right (nearly all are never: see `score_plan`)."""
        return float((self.predict(X) == y).mean())

    def direction(self, class_index: int) -> Float[Tensor, " channel"]:
        """The weights of one class at the square itself, for interventions.

        Classes of a softmax are defined up to a common vector; the regularization makes their
        weights on standardized features sum to zero, and so these.
        """
        middle = self.kernel // 2
        return self.coef_[class_index, :, middle, middle]


def neighborhoods(
    X: Float[Tensor, "row channel height width"], kernel: int
) -> Float[Tensor, "square feature"]:
    """The neighborhood of every square as one row, zeros beyond the edge."""
    if kernel == 1:
        return X.float().movedim(1, 3).reshape(-1, X.shape[1]).clone()
    patches = functional.unfold(X.float(), kernel, padding=kernel // 2)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def _solve(
    features: Float[Tensor, "square feature"],
    target: Int[Tensor, " square"],
    n_classes: int,
    strength: float,
    max_iter: int,
) -> tuple[Float[Tensor, "class feature"], Float[Tensor, " class"], int]:
    """Weights and intercepts at the minimum, and how many steps it took."""
    n_squares, n_features = features.shape
    parameters = features.new_zeros(n_classes, n_features + 1)
    counts = torch.bincount(target, minlength=n_classes).to(features.dtype)
    parameters[:, -1] = ((counts + 1) / (n_squares + n_classes)).log()
    chosen = functional.one_hot(target, n_classes).to(features.dtype)
    share = 1 / (strength * n_squares)
    parameters.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=max_iter,
        history_size=10,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        with torch.no_grad():  # the gradient is written down: half the time of autograd
            weight, bias = parameters[:, :-1], parameters[:, -1]
            log_probs = torch.addmm(bias, features, weight.T).log_softmax(1)
            residual = (log_probs.exp() - chosen) / n_squares
            slope = torch.cat([residual.T @ features + share * weight, residual.sum(0)[:, None]], 1)
            parameters.grad = slope
            total = -(log_probs * chosen).sum(dtype=torch.float64) / n_squares
            return total + 0.5 * share * weight.square().sum()

    optimizer.step(loss)
    solved = parameters.detach()
    n_steps = optimizer.state[parameters]["n_iter"]
    return solved[:, :-1], solved[:, -1], n_steps
