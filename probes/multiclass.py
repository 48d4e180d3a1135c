"""AUROC of several classes: each against the rest, averaged, with intervals by group."""

import numpy as np
from jaxtyping import Float

from probes.base import encoded_groups
from probes.evaluation import Estimate, auroc_values, group_draws, summarized


def macro_auroc(
    labels: np.ndarray,
    scores: Float[np.ndarray, "example class"],
    *,
    others: Float[np.ndarray, "example class"] | None = None,
    groups: np.ndarray | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Mean over the classes of the AUROC of each against the rest.

    Args:
        labels: Class of each example.
        scores: One column for each class, in sorted order.
        others: Other scores of the same examples: then the result is how much better the first
            ones are, paired in every draw.
        groups: Group of each example; by default each is one of its own.
        n_draws: Draws of the bootstrap.
        seed: Which draws.

    Raises:
        ValueError: If scores do not fit the classes.
    """
    classes = np.unique(labels)
    for name, matrix in {"scores": scores, "others": others}.items():
        if matrix is not None and matrix.shape != (len(labels), len(classes)):
            raise ValueError(
                f"{name} has shape {matrix.shape}: needed ({len(labels)}, {len(classes)}), a "
                "column for each class"
            )
    weights = group_draws(encoded_groups(groups, len(labels)), n_draws=n_draws, seed=seed)
    weights = np.concatenate([np.ones((1, len(labels)), np.float32), weights])
    values = _macro(labels, classes, scores, weights)
    if others is not None:
        values = values - _macro(labels, classes, others, weights)
    return summarized(float(values[0]), values[1:], 0.95)


def _macro(
    labels: np.ndarray,
    classes: np.ndarray,
    scores: Float[np.ndarray, "example class"],
    weights: Float[np.ndarray, "draw example"],
) -> Float[np.ndarray, " draw"]:
    rates = [
        auroc_values((labels == name).astype(int), scores[:, k].astype(float), weights)
        for k, name in enumerate(classes)
    ]
    return np.mean(rates, axis=0)
