"""The main axis of paired differences, as in representation engineering.

Zou et al. (2023), 2310.01405: the first principal component of the differences between the two
examples of each pair, turned so that the positive examples lie above. It ignores labels except for
the pairing and the sign, so it finds what varies most between the members of pairs, which need not
be the concept.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.base import PooledProbe, Weights
from probes.mean_difference import as_log_odds


class PCAProbe(PooledProbe):
    """First principal component of the differences of pairs.

    The k-th positive and the k-th negative example of a group are a pair; those without a partner
    in their group are paired in their order.

    Args:
        standardize: Take the differences on standardized features.
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
        direction = torch.stack(
            [
                torch.stack([self._axis(X, y > 0, rows.numpy(), groups) for y in targets])
                for rows in train
            ]
        )
        return as_log_odds(direction, X, positive, negative)

    def _axis(
        self,
        X: Float[Tensor, "example feature"],
        positive: Bool[Tensor, " example"],
        rows: Bool[np.ndarray, " example"],
        groups: Int[np.ndarray, " example"],
    ) -> Float[Tensor, " feature"]:
        high, low = pairs(positive.numpy(), rows, groups)
        scale = torch.ones_like(X[0])
        if self.standardize:
            deviation = X[torch.from_numpy(rows)].std(0, correction=0)
            scale = torch.where(deviation > 1e-9, deviation, 1)
        difference = (X[high] - X[low]) / scale
        axis = torch.linalg.svd(difference, full_matrices=False).Vh[0]
        up = (difference @ axis).mean()
        return axis * torch.where(up < 0, -1, 1) / scale


def pairs(
    positive: Bool[np.ndarray, " example"],
    rows: Bool[np.ndarray, " example"],
    groups: Int[np.ndarray, " example"],
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Positive and negative examples that belong together."""
    high, low, left = [], [], ([], [])
    for group in np.unique(groups[rows]):
        inside = rows & (groups == group)
        ups, downs = np.flatnonzero(inside & positive), np.flatnonzero(inside & ~positive)
        n = min(len(ups), len(downs))
        high, low = [*high, *ups[:n]], [*low, *downs[:n]]
        left[0].extend(ups[n:])
        left[1].extend(downs[n:])
    n = min(map(len, left))
    return torch.tensor([*high, *left[0][:n]]), torch.tensor([*low, *left[1][:n]])
