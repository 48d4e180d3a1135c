"""Ridge regression on standardized activations: for labels that are numbers."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from interp import Activations, Direction
from probes.base import Place, encoded_groups, matrix_of
from probes.folds import group_folds

ALPHAS = tuple(float(a) for a in np.logspace(-2, 5, 15))
"""Strengths of regularization from which `RidgeProbe` chooses."""


class RidgeProbe(RegressorMixin, BaseEstimator):
    """Ridge regression on standardized activations.

    Args:
        alpha: Strength of the regularization, on the scale of scikit-learn; `None` chooses the one
            of `ALPHAS` with the smallest squared error in cross-validation by group.
        n_folds: Folds of that (fewer if there are fewer groups).
        random_state: Seed of the folds.

    Attributes:
        coef_: Weights in the space of the activations, shape (feature,).
        intercept_: Intercept.
        alpha_: The strength that was used.
        place_: Where the activations were read; `None` if fitted to an array.
    """

    def __init__(self, *, alpha=None, n_folds=5, random_state=0) -> None:
        self.alpha = alpha
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, X, y: Any = None, groups: Any = None) -> "RidgeProbe":
        """Fit the probe.

        Args:
            X: Array of shape (example, feature), or pooled `Activations` of one layer.
            y: Numbers, shape (example,); the labels of the activations by default.
            groups: Group of each example; those of the activations by default.
        """
        if isinstance(X, Activations):
            y = X.labels if y is None else y
            groups = X.groups if groups is None else groups
        place = Place.of(X)
        checked: Any = validate_data(
            self, matrix_of(X), y, dtype=np.float64, y_numeric=True, multi_output=True
        )
        values, y = checked
        y = column_or_1d(y, warn=True).astype(np.float64)
        given: float | None = self.alpha
        self.alpha_ = (
            self._chosen(values, y, encoded_groups(groups, len(y))) if given is None else given
        )
        path = ridge_path(values, y, (self.alpha_,))
        self.coef_, self.intercept_ = path[0][0], float(path[1][0])
        self.place_ = place
        return self

    def predict(self, X) -> np.ndarray:
        """Predicted numbers, shape (example,)."""
        check_is_fitted(self)
        if self.place_ is not None:
            self.place_.check(X)
        values: Any = validate_data(self, matrix_of(X), dtype=np.float64, reset=False)
        return values @ self.coef_ + self.intercept_

    @property
    def direction_(self) -> Direction:
        """The unit vector along which the number grows.

        Raises:
            AttributeError: If the probe was fitted to an array.
        """
        check_is_fitted(self)
        if self.place_ is None:
            raise AttributeError("a direction needs a place in a model: fit to Activations")
        return Direction(
            vector=torch.from_numpy(self.coef_),
            layer=self.place_.layers[0],
            site=self.place_.site,
            origin=self.place_.origin,
            provenance={"probe": "RidgeProbe", "alpha": self.alpha_},
        )

    def _chosen(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
        n_folds = min(self.n_folds, len(np.unique(groups)))
        if n_folds < 2:
            raise ValueError(f"{len(y)} sample in one group cannot choose alpha: give one")
        same = np.zeros(len(y), int)  # numbers have no classes to balance
        folds = group_folds(same, groups, n_folds=n_folds, seed=int(self.random_state or 0))
        errors = np.zeros(len(ALPHAS))
        for fold in range(n_folds):
            test = folds == fold
            coef, intercept = ridge_path(X[~test], y[~test], ALPHAS)
            errors += np.square(X[test] @ coef.T + intercept - y[test][:, None]).sum(0)
        return ALPHAS[int(errors.argmin())]


def ridge_path(
    X: Float[np.ndarray, "example feature"],
    y: Float[np.ndarray, " example"],
    alphas: tuple[float, ...],
) -> tuple[Float[np.ndarray, "alpha feature"], Float[np.ndarray, " alpha"]]:
    """Weights and intercepts for several strengths, from one singular value decomposition."""
    mean, scale = X.mean(0), X.std(0)
    scale = np.where(scale > 1e-9 * np.abs(mean).clip(1e-3), scale, 1)
    U, s, Vt = np.linalg.svd((X - mean) / scale, full_matrices=False)
    shrunk = s / (np.square(s) + np.array(alphas)[:, None])
    coef = (shrunk * (U.T @ (y - y.mean()))) @ Vt / scale
    return coef, y.mean() - coef @ mean
