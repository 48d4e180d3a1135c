"""Layer sweeps: the same cross-validated probe at every layer.

Fold and scores are the same ones at every layer, so layers are compared on equal terms. The best
score of many layers is a little too high; the layer of the one-standard-error rule is the earliest
that cannot be told from the best, and what is reported for it is still its own score.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.base import clone

from interp import Activations, viz
from probes.base import PooledProbe, Targets, encoded_groups, matrix_of
from probes.evaluation import Estimate, auroc
from probes.folds import group_folds, train_masks
from probes.sequence import SequenceProbe


@dataclass(frozen=True, kw_only=True)
class LayerSweep:
    """A probe at every layer, tested on groups that it was not trained on."""

    layers: tuple[int, ...]
    """Layers."""
    auroc: tuple[Estimate, ...]
    """AUROC at each layer over the scores of all folds."""
    scores: Float[np.ndarray, "layer example"]
    """Score of each example by the probe that was not trained on its group."""
    labels: np.ndarray
    """Label of each example."""
    groups: np.ndarray | None
    """Group of each example."""
    folds: Int[np.ndarray, " example"]
    """Fold in which each example was tested."""
    site: str
    """Site of the activations."""

    @property
    def top_layer(self) -> int:
        """The layer with the highest AUROC."""
        return self.layers[int(np.argmax([e.value for e in self.auroc]))]

    @property
    def best_layer(self) -> int:
        """The earliest layer within one standard error of the highest AUROC."""
        top = max(self.auroc, key=lambda estimate: estimate.value)
        good = [e.value >= top.value - top.standard_error for e in self.auroc]
        return self.layers[good.index(True)]

    def at(self, layer: int) -> Estimate:
        """The AUROC at a layer."""
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not swept: there are {self.layers}")
        return self.auroc[self.layers.index(layer)]

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer: AUROC, its interval, and which layer is the best."""
        return pd.DataFrame(
            {
                "layer": self.layers,
                "auroc": [e.value for e in self.auroc],
                "low": [e.low for e in self.auroc],
                "high": [e.high for e in self.auroc],
                "best": [layer == self.best_layer for layer in self.layers],
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """AUROC against the layer, with intervals."""
        frame = self.to_frame()
        line = viz.Curve(
            x=frame["layer"], y=frame["auroc"], low=frame["low"], high=frame["high"], emphasis=True
        )
        return viz.curves(
            {"probe": line},
            title=f"Where the concept can be read: layer {self.best_layer} is enough",
            x_title=f"layer ({self.site})",
            y_title="AUROC on held-out groups (95% interval)",
            references={"chance": 0.5},
            **layout,
        )


def sweep_layers(
    activations: Activations,
    probe: Any,
    *,
    labels: np.ndarray | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> LayerSweep:
    """Cross-validate a probe at every layer, on the same folds by group.

    Args:
        activations: Activations of one site with labels of two classes; pooled, or of tokens for a
            `SequenceProbe`, which is trained at all layers at once.
        probe: A probe, or any sklearn classifier with `decision_function`; it is not changed.
        labels: Label of each example; those of the activations by default.
        n_folds: Number of folds.
        seed: Which folds, and which draws of the bootstrap.

    Raises:
        ValueError: If labels are missing or not of two classes, or there are too few groups.
    """
    y = checked_labels(activations, labels)
    if len(np.unique(y)) != 2:
        raise ValueError(f"labels has {len(np.unique(y))} classes: an AUROC needed two")
    groups = encoded_groups(activations.groups, len(y))
    folds = group_folds(y, groups, n_folds=n_folds, seed=seed)
    if isinstance(probe, SequenceProbe):
        scores = _sequence_scores(probe, activations, y, folds)
    else:
        scores = np.stack(
            [cross_scores(probe, activations.at(layer), y, folds) for layer in activations.layers]
        )
    return LayerSweep(
        layers=activations.layers,
        auroc=tuple(auroc(y, row, groups=groups, seed=seed) for row in scores),
        scores=scores,
        labels=y,
        groups=activations.groups,
        folds=folds,
        site=activations.site,
    )


def cross_scores(
    probe: Any,
    activations: Any,
    labels: np.ndarray,
    folds: Int[np.ndarray, " example"],
    *,
    tested: Any = None,
) -> np.ndarray:
    """Score of each example by a probe fitted to the other folds.

    Args:
        probe: A probe, or any sklearn classifier with `decision_function`.
        activations: Activations that the probe takes, or an array of shape (example, feature).
        labels: Label of each example.
        folds: The fold in which each example is tested.
        tested: Other activations of the same examples that are scored instead of those on which
            the probes are fitted.

    Returns:
        Scores of shape (example,) for two classes, else (example, class).
    """
    if isinstance(probe, PooledProbe):
        return _linear_scores(probe, activations, labels, folds, tested)
    token_level = getattr(activations, "tokens", None) is not None
    fitted, scored = activations, activations if tested is None else tested
    if not token_level:
        fitted, scored = (np.asarray(matrix_of(values)) for values in (fitted, scored))
    rows: dict[int, Any] = {}
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        found = _fresh(probe).fit(fitted[train], labels[train]).decision_function(scored[test])
        rows |= dict(zip(np.flatnonzero(test).tolist(), found, strict=True))
    return np.stack([rows[k] for k in range(len(labels))])


def _linear_scores(
    probe: PooledProbe, activations: Any, labels: np.ndarray, folds: np.ndarray, tested: Any
) -> np.ndarray:
    """Scores of a linear probe, all folds fitted at once."""
    groups = encoded_groups(getattr(activations, "groups", None), len(labels))
    values = torch.from_numpy(np.array(matrix_of(activations), np.float32))
    targets, train = Targets.of(labels), train_masks(folds, int(folds.max()) + 1)
    for fold, members in enumerate(train):
        n_positive = (targets.matrix * members).sum(1)
        if bool((n_positive == 0).any() or (n_positive == members.sum()).any()):
            raise ValueError(f"the training set of fold {fold} lacks a class: use fewer folds")
    weights = _fresh(probe).fit_sets(values, targets.matrix, train, groups)
    if tested is not None:
        values = torch.from_numpy(np.array(matrix_of(tested), np.float32))
    scores = weights.scores(values)[torch.from_numpy(folds), :, torch.arange(len(values))].numpy()
    return scores[:, 0] if targets.kind == "binary" else scores


def _sequence_scores(
    probe: SequenceProbe, activations: Activations, labels: np.ndarray, folds: np.ndarray
) -> Float[np.ndarray, "layer example"]:
    """Scores of a sequence probe, all layers of a fold trained at once."""
    scores = np.empty((len(activations.layers), len(labels)))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        fits, tested = probe.fit_layers(activations[train], labels[train]), activations[test]
        for k, (layer, fit) in enumerate(zip(activations.layers, fits, strict=True)):
            scores[k, test] = fit.decision_function(tested.at(layer))
    return scores


def _fresh(probe: Any) -> Any:
    return clone(probe)


def checked_labels(activations: Activations, labels: np.ndarray | None) -> np.ndarray:
    """Labels as given, or those of the activations.

    Raises:
        ValueError: If there are none, or not one for each example.
    """
    y = activations.labels if labels is None else np.asarray(labels)
    if y is None:
        raise ValueError("the activations have no labels: pass labels, or extract labelled Records")
    if len(y) != len(activations):
        raise ValueError(f"labels has {len(y)} entries, but there are {len(activations)} examples")
    return y
