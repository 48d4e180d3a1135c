"""Methods: from the activations of positive and negative examples to one vector.

Each takes two matrices, (pair, d) or (example, d), and returns a vector (d) that points from the
negative to the positive examples. `mean_difference` has a natural length: added once, it moves the
mean of the negative examples onto that of the positive ones. The others find a direction; it is
given the length with which it moves one mean to the other *along itself*, so that coefficients
compare across methods.

| method | what it is | paper |
|---|---|---|
| `mean_difference` | difference of the means; the default | CAA (Rimsky et al. 2024, 2312.06681) |
| `paired_pca` | first component of the differences | RepE (Zou et al. 2023, 2310.01405) |
| `logistic` | weights of a logistic regression | ITI's probes (Li et al. 2023, 2306.03341) |
| `lda`, `whitened` | the difference divided by the covariance within the classes | Fisher 1936 |
| `ridge` | weights of a ridge regression on the classes | |
| `mean_centered` | positive mean minus that of a background | Jorgensen et al. 2023, 2312.03813 |

Separating best is not steering best: `lda` reads better and steers worse than the difference of
means wherever directions of small variance tell the classes apart without causing anything.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

Positive = Float[Tensor, "n_positive feature"]
Negative = Float[Tensor, "n_negative feature"]
Vector = Float[Tensor, " feature"]
Method = Callable[[Tensor, Tensor], Tensor]
"""From positive and negative activations to a vector."""


def mean_difference(positive: Positive, negative: Negative) -> Vector:
    """Mean of the positive examples minus mean of the negative ones."""
    return positive.mean(dim=0) - negative.mean(dim=0)


def mean_centered(positive: Positive, background: Negative) -> Vector:
    """Mean of the positive examples minus the mean of a background that need not be paired."""
    return mean_difference(positive, background)


def paired_pca(positive: Positive, negative: Negative) -> Vector:
    """First principal component of the differences, which are not centered.

    Centering would remove the very direction that all differences share: what is left points along
    their noise. `centered_pca` does it, to show this.
    """
    return _first_component(positive - negative, mean_difference(positive, negative))


def centered_pca(positive: Positive, negative: Negative) -> Vector:
    """First principal component of the centered differences: a mistake, kept as a control."""
    differences = positive - negative
    return _first_component(
        differences - differences.mean(dim=0), mean_difference(positive, negative)
    )


def logistic(positive: Positive, negative: Negative) -> Vector:
    """Weights of a logistic regression on features of unit variance, penalty 1."""
    both = torch.cat([positive, negative]).double()
    scale = both.std(dim=0).clamp(min=1e-8)
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    fitted = LogisticRegression(max_iter=2000).fit(((both - both.mean(0)) / scale).numpy(), labels)
    direction = torch.from_numpy(fitted.coef_[0]) / scale
    return _as_long_as_the_gap(direction, positive, negative)


def lda(positive: Positive, negative: Negative) -> Vector:
    """Linear discriminant: the difference divided by the covariance within the classes."""
    return whitened(positive, negative, ridge=1e-3)


def whitened(positive: Positive, negative: Negative, *, ridge: float = 1.0) -> Vector:
    """Difference of means divided by (covariance + ridge x mean variance).

    Args:
        positive: Positive examples.
        negative: Negative examples.
        ridge: 0 divides by the covariance alone, large values give the difference of means.
    """
    within = torch.cat([positive - positive.mean(0), negative - negative.mean(0)]).double()
    covariance = within.mT @ within / max(len(within) - 2, 1)
    variance = covariance.diagonal().mean().clamp(min=1e-12)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    gap = mean_difference(positive, negative).double()
    direction = torch.linalg.solve(covariance + ridge * variance * identity, gap)
    return _as_long_as_the_gap(direction, positive, negative)


def ridge(positive: Positive, negative: Negative, *, penalty: float = 1.0) -> Vector:
    """Weights of a ridge regression on classes +1 and -1.

    Args:
        positive: Positive examples.
        negative: Negative examples.
        penalty: In units of the mean variance of a feature, times the number of examples.
    """
    both = torch.cat([positive, negative]).double()
    labels = torch.cat([torch.ones(len(positive)), -torch.ones(len(negative))]).double()
    centered, target = both - both.mean(0), labels - labels.mean()
    gram = centered.mT @ centered
    scale = penalty * gram.diagonal().mean().clamp(min=1e-12)
    identity = torch.eye(len(gram), dtype=torch.float64)
    direction = torch.linalg.solve(gram + scale * identity, centered.mT @ target)
    return _as_long_as_the_gap(direction, positive, negative)


def _first_component(rows: Positive, gap: Vector) -> Vector:
    """The first right singular vector, turned towards the gap and as long as it along itself."""
    _, _, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    direction = directions[0].to(gap.dtype)
    return (direction @ gap) * direction


def _as_long_as_the_gap(direction: Tensor, positive: Positive, negative: Negative) -> Vector:
    """A vector along a direction that moves one mean to the other, measured along itself."""
    norm = direction.norm()
    if not bool(norm > 0):
        raise ValueError("the two sides do not differ: there is no direction")
    unit = (direction / norm).to(positive.dtype)
    return (unit @ mean_difference(positive, negative)) * unit
