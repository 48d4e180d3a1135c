"""Folds for cross-validation: by group, and with the classes in nearly equal shares.

Scores of different folds are ranked together, and an AUROC of them is biased downwards where the
share of the classes differs between folds: therefore the folds are stratified.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Int
from sklearn.model_selection import StratifiedGroupKFold
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
        ValueError: If there are fewer groups than folds, or a class is missing in some training
            set.
    """
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise ValueError(
            f"{n_groups} groups cannot make {n_folds} folds: needed 2 folds or more, and a group "
            "for each"
        )
    labels = np.asarray(labels)
    rows = np.ascontiguousarray(labels.reshape(len(labels), -1))
    strata = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    splitter = StratifiedGroupKFold(
        n_folds, shuffle=True, random_state=derive(seed, "folds") % 2**32
    )
    folds = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():  # a rare class in one group is an error of its own below
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, test) in enumerate(splitter.split(rows, strata, groups)):
            folds[test] = fold
    return folds


def train_masks(folds: Int[np.ndarray, " example"], n_folds: int) -> Bool[Tensor, "fold example"]:
    """Which examples each fold trains on: those of the other folds."""
    return torch.from_numpy(folds != np.arange(n_folds)[:, None])
