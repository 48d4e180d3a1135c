"""Folds for cross-validation: by group, and with the classes in nearly equal shares.

Scores of different folds are ranked together, and an AUROC of them is biased downwards where the
share of the classes differs between folds: therefore groups with the same numbers of each class are
dealt out to the folds in turn.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.core.seeds import derive


def group_folds(
    labels: np.ndarray, groups: np.ndarray, *, n_folds: int = 5, seed: int = 0
) -> Int[np.ndarray, " example"]:
    """The fold in which each example is tested.

    Args:
        labels: Labels, shape (example,), or indicators, shape (example, label).
        groups: Group of each example, shape (example,); a group lies in one fold.
        n_folds: Number of folds.
        seed: Which folds.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise ValueError(
            f"{n_groups} groups cannot make {n_folds} folds: needed 2 folds or more, and a group "
            "for each"
        )
    labels = np.asarray(labels)
    rows = np.ascontiguousarray(labels.reshape(len(labels), -1))
    classes = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    names = np.unique(groups, return_inverse=True)[1].ravel()
    counts = np.zeros((n_groups, int(classes.max()) + 1), np.int64)
    np.add.at(counts, (names, classes), 1)
    order = np.random.default_rng(derive(seed, "folds")).permutation(n_groups)
    alike = order[np.lexsort(counts[order].T[::-1])]  # groups of equal counts are neighbors
    fold_of = np.empty(n_groups, np.int64)
    fold_of[alike] = np.arange(n_groups) % n_folds
    return fold_of[names]


def train_masks(folds: Int[np.ndarray, " example"], n_folds: int) -> Bool[Tensor, "fold example"]:
    """Which examples each fold trains on: those of the other folds."""
    return torch.from_numpy(folds != np.arange(n_folds)[:, None])
