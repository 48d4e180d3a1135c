"""LEACE: the smallest linear edit after which no linear probe can read a concept.

Belrose et al. (2023), 2306.03819: r(x) = x - W^+ P W (x - E x), with W the inverse square root of
the covariance and P the projection on the whitened covariance of activations and labels. Where a
probe still scores after erasure, it reads something non-linear, or the erasure did not generalize.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import clone

from probes.base import PooledProbe, Targets, encoded_groups, matrix_of
from probes.evaluation import Estimate, auroc


@dataclass(frozen=True, kw_only=True)
class Eraser:
    """An affine map that removes what labels a linear probe could read."""

    mean: Float[np.ndarray, " feature"]
    """Mean of the activations."""
    left: Float[np.ndarray, "feature rank"]
    """What is subtracted, for each removed coordinate."""
    right: Float[np.ndarray, "rank feature"]
    """How the removed coordinates are read."""

    def __call__(self, X: Any) -> Float[np.ndarray, "example feature"]:
        """Activations without the concept."""
        values = np.asarray(matrix_of(X), np.float64)
        return values - (values - self.mean) @ self.right.T @ self.left.T


def fit_eraser(X: Any, labels: np.ndarray) -> Eraser:
    """Learn to erase labels from activations.

    Args:
        X: Array of shape (example, feature), or pooled `Activations` of one layer.
        labels: Classes, shape (example,).
    """
    values = np.asarray(matrix_of(X), np.float64)
    targets = Targets.of(labels).matrix.numpy().T.astype(np.float64)
    centered = values - values.mean(0)
    sizes, axes = np.linalg.svd(centered, full_matrices=False)[1:]
    kept = sizes > sizes.max() * 1e-6
    axes, root = axes[kept].T, sizes[kept] / np.sqrt(len(values))
    shared = (axes / root) @ (axes.T @ (centered.T @ (targets - targets.mean(0)) / len(values)))
    found, strengths, _ = np.linalg.svd(shared, full_matrices=False)
    found = found[:, strengths > strengths.max() * 1e-8]
    return Eraser(
        mean=values.mean(0),
        left=(axes * root) @ (axes.T @ found),
        right=(found.T @ (axes / root)) @ axes.T,
    )


def erased_auroc(
    probe: Any, activations: Any, labels: np.ndarray, folds: np.ndarray, *, seed: int = 0
) -> Estimate:
    """AUROC of a probe that is trained anew after the concept was erased; chance is the aim.

    Each fold erases with what its own training examples show.

    Args:
        probe: The probe.
        activations: Pooled activations of one layer, or an array.
        labels: Two classes.
        folds: The fold in which each example is tested.
        seed: Which draws of the bootstrap.
    """
    values, scores = np.asarray(matrix_of(activations), np.float64), np.empty(len(labels))
    groups = encoded_groups(getattr(activations, "groups", None), len(labels))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        erased = fit_eraser(values[train], labels[train])(values)
        grouped = {"groups": groups[train]} if isinstance(probe, PooledProbe) else {}
        fresh: Any = clone(probe)
        fresh.fit(erased[train], labels[train], **grouped)
        scores[test] = fresh.decision_function(erased[test])
    return auroc(labels, scores, groups=groups, seed=seed)
