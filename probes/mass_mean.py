"""Mass-mean probe: the difference of means, seen through the covariance within the classes.

Marks and Tegmark (2023), 2310.06824. With the pooled covariance within classes this is linear
discriminant analysis; the covariance is shrunk towards a multiple of the identity (Ledoit and Wolf,
2004), without which it could not be inverted where there are fewer examples than dimensions.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from probes.base import PooledProbe, Weights


class MassMeanProbe(PooledProbe):
    """Linear discriminant analysis on standardized activations, with a shrunk covariance.

    Args:
        shrinkage: Weight of the identity in the covariance, from 0 to 1; `None` estimates it.
    """

    def __init__(self, *, shrinkage=None) -> None:
        self.shrinkage = shrinkage

    def fit_sets(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "set example"],
        groups: Int[np.ndarray, " example"],
    ) -> Weights:
        """Weights for several training sets, computed in float64."""
        fits = [
            [self._fit_one(X[members].double(), y[members] > 0) for y in targets]
            for members in train
        ]
        coef = torch.stack([torch.stack([coef for coef, _ in row]) for row in fits])
        intercept = torch.stack([torch.stack([b for _, b in row]) for row in fits])
        return Weights(coef=coef.to(X), intercept=intercept.to(X))

    def _fit_one(
        self, X: Float[Tensor, "example feature"], positive: Bool[Tensor, " example"]
    ) -> tuple[Float[Tensor, " feature"], Float[Tensor, ""]]:
        """Weights and intercept of one classifier."""
        deviation, mean = torch.std_mean(X, 0, correction=0)
        scale = torch.where(deviation > 1e-9, deviation, 1)
        values = (X - mean) / scale
        high, low = values[positive].mean(0), values[~positive].mean(0)
        within = values - torch.where(positive[:, None], high, low)
        share = self.shrinkage
        if share is None:
            share = ledoit_wolf_shrinkage(within.numpy(), assume_centered=True)
        covariance = within.T @ within / len(X)
        eye = torch.eye(len(covariance), dtype=X.dtype)
        shrunk = (1 - share) * covariance + share * covariance.diagonal().mean() * eye
        direction = torch.linalg.lstsq(shrunk, (high - low)[:, None], driver="gelsd").solution[:, 0]
        coef = direction / scale
        return coef, -(direction @ (high + low)) / 2 - coef @ mean
