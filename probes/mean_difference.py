"""Difference of means: from the mean of one class to that of the other.

The plain difference is the usual steering vector. As a classifier it suffers from the few huge
dimensions of a residual stream; with standardized features it does not. The scores are scaled to
log-odds under the assumption that both classes scatter normally along the direction.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.base import PooledProbe, Weights


class MeanDifferenceProbe(PooledProbe):
    """The direction between the means of the classes, the boundary in the middle.

    Args:
        standardize: Take the difference on standardized features; without it `direction_` is the
            plain difference of means.
    """

    def __init__(self, *, standardize=True) -> None:
        self.standardize = standardize

    def fit_sets(
        self,
        X: Float[Tensor, "example feature"],
        targets: Float[Tensor, "target example"],
        train: Bool[Tensor, "set example"],
        groups: Int[np.ndarray, " example"],
    ) -> Weights:
        """Weights for several training sets."""
        members = train[:, None].to(X)
        positive, negative = members * targets.to(X), members * (1 - targets.to(X))
        high, low = _means(positive, X), _means(negative, X)
        direction = high - low
        if self.standardize:
            center = X.mean(0)
            mean = _means(members, X) - center
            variance = _means(members, (X - center).square()) - mean.square()
            direction = direction / torch.where(variance > 1e-12, variance, 1)
        return as_log_odds(direction, X, positive, negative)


def as_log_odds(
    direction: Float[Tensor, "set target feature"],
    X: Float[Tensor, "example feature"],
    positive: Float[Tensor, "set target example"],
    negative: Float[Tensor, "set target example"],
) -> Weights:
    """Weights along a direction, scaled to log-odds, with the boundary between the means.

    Args:
        direction: Direction of any length.
        X: Activations.
        positive: 1 for the positive examples of each training set.
        negative: 1 for the negative ones.
    """
    values = direction @ X.T
    high, low = ((values * side).sum(-1) / side.sum(-1) for side in (positive, negative))
    spread = sum(
        (side * (values - center[..., None]).square()).sum(-1)
        for side, center in ((positive, high), (negative, low))
    )
    variance = (spread / (positive + negative).sum(-1)).clamp(min=torch.finfo(X.dtype).tiny)
    slope = (high - low) / variance
    return Weights(coef=slope[..., None] * direction, intercept=-slope * (high + low) / 2)


def _means(
    members: Float[Tensor, "set target example"], X: Float[Tensor, "example feature"]
) -> Float[Tensor, "set target feature"]:
    return members @ X / members.sum(-1, keepdim=True)
