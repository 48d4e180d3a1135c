"""Logistic regression on standardized activations: the probe to begin with.

A high score shows that the concept can be read off linearly; it does not show that the model uses
it, nor that words alone would not do (see `probes.compare`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.base import PooledProbe, Weights
from probes.folds import group_folds, train_masks
from probes.logistic import fit_logistic

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths from which `LinearProbe` chooses."""


class LinearProbe(PooledProbe):
    """Logistic regression on standardized activations, L2-regularized.

    Args:
        C: Strength of the data against the regularization, on the scale of scikit-learn; `None`
            chooses the one of `C_GRID` with the highest AUROC in inner cross-validation by group,
            the smallest if several are equal.
        balanced: Give the classes equal weight.
        n_folds: Folds of the inner cross-validation (fewer if there are fewer groups).
        random_state: Seed of the inner folds.

    Attributes:
        C_: The strength that was used.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(80, 4))
        >>> LinearProbe(C=1.0).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0) > 0.9
        True
    """

    def __init__(self, *, C=None, balanced=False, n_folds=5, random_state=0) -> None:
        self.C = C
        self.balanced = balanced
        self.n_folds = n_folds
        self.random_state = random_state

    def fit_sets(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "set example"],
        groups: Int[np.ndarray, " example"],
    ) -> Weights:
        """Weights for several training sets, each with the C that its own inner folds choose."""
        if self.C is not None and not self.C > 0:
            raise ValueError(f"C={self.C!r}: needed a positive number or None")
        weights = self._weights(targets, train).to(X)
        strengths = [self.C] * len(train) if self.C else self._chosen(X, targets, train, groups)
        self.C_ = strengths[-1]
        C = torch.tensor(strengths).to(X).repeat_interleave(len(targets))
        y = targets.to(X).repeat(len(train), 1)
        tolerance = 3e-4 if X.dtype == torch.float32 else 1e-7
        fit = fit_logistic(X, y, weights.flatten(0, 1), C, tolerance=tolerance)
        shape = (len(train), len(targets))
        return Weights(
            coef=fit.coef.unflatten(0, shape), intercept=fit.intercept.unflatten(0, shape)
        )

    def _weights(
        self, targets: Float[Tensor, "target example"], train: Bool[Tensor, "set example"]
    ) -> Float[Tensor, "set target example"]:
        """Weight of each example for each classifier."""
        members = train[:, None].to(targets.dtype).expand(-1, len(targets), -1)
        if not self.balanced:
            return members
        positive = (members * targets).sum(-1, keepdim=True)
        n = members.sum(-1, keepdim=True)
        weights = torch.where(targets.bool(), n / positive, n / (n - positive)) / 2
        return members * weights.nan_to_num(posinf=0)

    def _chosen(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "set example"],
        groups: Int[np.ndarray, " example"],
    ) -> Sequence[float]:
        """The C of each training set, by AUROC on inner folds."""
        chosen = []
        for members in train.numpy():
            n_folds = min(self.n_folds, len(np.unique(groups[members])))
            rows = torch.from_numpy(np.flatnonzero(members))
            seed = int(self.random_state or 0)
            folds = group_folds(
                targets[:, rows].T.numpy(), groups[members], n_folds=n_folds, seed=seed
            )
            rates = self._rates(X[rows], targets[:, rows].to(X), train_masks(folds, n_folds))
            chosen.append(C_GRID[int(rates.argmax())])
        return chosen

    def _rates(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "fold example"],
    ) -> Float[Tensor, " C"]:
        """Mean AUROC on held-out folds for each strength of the grid."""
        n_C = len(C_GRID)
        weights = self._weights(targets, train).to(X).flatten(0, 1).repeat(n_C, 1)
        C = torch.tensor(C_GRID).to(X).repeat_interleave(len(train) * len(targets))
        y = targets.repeat(n_C * len(train), 1)
        fit = fit_logistic(X, y, weights, C, tolerance=1e-3)
        held = (~train).repeat_interleave(len(targets), 0).repeat(n_C, 1)
        rates = _held_auroc(fit.coef @ X.T + fit.intercept[:, None], y, held)
        return rates.view(n_C, -1).nanmean(1)


def _held_auroc(
    scores: Float[Tensor, "problem example"],
    targets: Float[Tensor, "problem example"],
    held: Bool[Tensor, "problem example"],
) -> Float[Tensor, " problem"]:
    """AUROC over the held-out examples of each problem, by ranks."""
    ranks = scores.masked_fill(~held, -torch.inf).argsort(1).argsort(1).to(scores)
    positive = held * targets
    n, n_held, n_positive = held.shape[1], held.sum(1), positive.sum(1)
    above = (
        (ranks * positive).sum(1) - n_positive * (n - n_held) - n_positive * (n_positive - 1) / 2
    )
    return above / (n_positive * (n_held - n_positive))
