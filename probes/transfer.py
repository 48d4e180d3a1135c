"""How far a probe carries: to other data, with less data, and with a few new examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from sklearn.base import clone

from interp import Activations, viz
from interp.core.seeds import derive
from probes.base import PooledProbe, encoded_groups
from probes.evaluation import Estimate, auroc, auroc_value, summarized
from probes.folds import group_folds
from probes.linear import LinearProbe
from probes.logistic import fit_logistic
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining
from probes.sweeps import checked_labels, cross_scores

SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of examples of the learning curves."""


@dataclass(frozen=True, kw_only=True)
class GeneralizationMatrix:
    """A probe trained on each set and tested on each."""

    auroc: Mapping[tuple[str, str], Estimate]
    """AUROC by names of training and test set; by cross-validation where both are one."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each pair of sets."""
        return pd.DataFrame(
            [
                {"train": train, "test": test, "auroc": e.value, "low": e.low, "high": e.high}
                for (train, test), e in self.auroc.items()
            ]
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """A heatmap, training sets as rows."""
        rows = list(dict.fromkeys(train for train, _ in self.auroc))
        columns = list(dict.fromkeys(test for _, test in self.auroc))
        return viz.heatmap(
            [[self.auroc[train, test].value for test in columns] for train in rows],
            x=columns,
            y=rows,
            hover=[[str(self.auroc[train, test]) for test in columns] for train in rows],
            title="Where a probe that was trained on one set holds",
            x_title="tested on",
            y_title="trained on",
            value_name="AUROC",
            limits=(0.5, 1.0),
            **layout,
        )


def generalization(
    train_sets: Mapping[str, Activations],
    test_sets: Mapping[str, Activations],
    *,
    probe: Any = None,
    n_folds: int = 5,
    seed: int = 0,
) -> GeneralizationMatrix:
    """Train on each set and test on each; a set in both is cross-validated by group.

    Args:
        train_sets: Labelled activations by name, which the probe takes.
        test_sets: The same of the test sets; a name that is also in `train_sets` means one set.
        probe: The probe; `LinearProbe()` by default.
        n_folds: Folds of the cross-validation.
        seed: Which folds and draws.
    """
    probe, found = LinearProbe() if probe is None else probe, {}
    for name, train in train_sets.items():
        fitted = fresh_fit(probe, train)
        for other, test in test_sets.items():
            y = checked_labels(test, None)
            groups = encoded_groups(test.groups, len(y))
            if name == other:
                folds = group_folds(y, groups, n_folds=n_folds, seed=seed)
                scores = cross_scores(probe, test, y, folds)
            else:
                scores = fitted.decision_function(test)
            found[name, other] = auroc(y, scores, groups=groups, seed=seed)
    return GeneralizationMatrix(auroc=found)


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """AUROC on a test set against the number of training examples."""

    sizes: tuple[int, ...]
    """Numbers of training examples."""
    auroc: Mapping[str, tuple[Estimate, ...]]
    """Mean over the draws of the training examples by name of the method; the interval is that of
    95 % of the draws."""
    references: Mapping[str, float]
    """AUROC without any of these examples, and the like."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each method and size."""
        return pd.DataFrame(
            [
                {"method": name, "size": n, "auroc": e.value, "low": e.low, "high": e.high}
                for name, estimates in self.auroc.items()
                for n, e in zip(self.sizes, estimates, strict=True)
            ]
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """AUROC against the number of examples on a logarithmic axis."""
        lines = {
            name: viz.Curve(
                x=np.array(self.sizes),
                y=[e.value for e in row],
                low=[e.low for e in row],
                high=[e.high for e in row],
            )
            for name, row in self.auroc.items()
        }
        return viz.curves(
            lines,
            title="How many examples a probe needs",
            x_title="training examples",
            y_title="AUROC on the test set (95% of draws)",
            references=dict(self.references),
            log_x=True,
            **layout,
        )


def data_efficiency(
    train: Activations,
    test: Activations,
    probes: Mapping[str, Any],
    *,
    sizes: Sequence[int] = SIZES,
    n_repeats: int = 5,
    seed: int = 0,
) -> LearningCurve:
    """Test AUROC of probes trained on more and more examples, whole groups at a time.

    Args:
        train: Labelled activations to draw from.
        test: Labelled activations of other groups.
        probes: Probes by name.
        sizes: Numbers of examples; those beyond the training set are left out.
        n_repeats: Draws of each size.
        seed: Which draws.
    """
    kept = tuple(n for n in sizes if n <= len(train))
    y, rows = checked_labels(test, None), {name: [] for name in probes}
    for n in kept:
        draws = [balanced_draw(train, n, seed=derive(seed, n, k)) for k in range(n_repeats)]
        for name, probe in probes.items():
            rates = [
                auroc_value(y, fresh_fit(probe, train[draw]).decision_function(test))
                for draw in draws
            ]
            rows[name].append(summarized(float(np.mean(rates)), np.array(rates), 0.95))
    found = {name: tuple(row) for name, row in rows.items()}
    return LearningCurve(sizes=kept, auroc=found, references={})


def few_shot(
    probe: PooledProbe | SequenceProbe,
    target: Activations,
    test: Activations,
    *,
    sizes: Sequence[int] = SIZES,
    n_repeats: int = 5,
    seed: int = 0,
) -> LearningCurve:
    """A fitted probe, adapted with a few examples of new data, beside a probe of those alone.

    Args:
        probe: A probe that was fitted to other data.
        target: Labelled activations of the new data to draw from.
        test: Labelled activations of the new data, of other groups.
        sizes: Numbers of examples; those beyond the target set are left out.
        n_repeats: Draws of each size.
        seed: Which draws.
    """
    kept = tuple(n for n in sizes if n <= len(target))
    y = checked_labels(test, None)
    rows: dict[str, list[Estimate]] = {"adapted": [], "new examples only": []}
    for n in kept:
        draws = [
            target[balanced_draw(target, n, seed=derive(seed, n, k))] for k in range(n_repeats)
        ]
        fits = {
            "adapted": [adapt(probe, draw) for draw in draws],
            "new examples only": [fresh_fit(_small(probe), draw) for draw in draws],
        }
        for name, fitted in fits.items():
            rates = [auroc_value(y, fit.decision_function(test)) for fit in fitted]
            rows[name].append(summarized(float(np.mean(rates)), np.array(rates), 0.95))
    found = {name: tuple(row) for name, row in rows.items()}
    before = auroc_value(y, probe.decision_function(test))
    return LearningCurve(sizes=kept, auroc=found, references={"not adapted": before})


def adapt(probe: Any, X: Any, y: Any = None, *, C: float = 1e-2, n_epochs: int = 20) -> Any:
    """A copy of a fitted probe that was trained further on a few examples.

    A linear probe learns a change of its weights and intercept, by logistic regression pulled
    towards no change; a sequence probe goes on training from its weights for a few epochs.

    Args:
        probe: A fitted probe of two classes; it is not changed.
        X: Activations that the probe takes.
        y: Labels; those of the activations by default.
        C: Strength of the new data, for a linear probe.
        n_epochs: Epochs, for a sequence probe.
    """
    fresh: Any = clone(probe)
    if isinstance(probe, SequenceProbe):
        training = _without_validation(probe.training, n_epochs)
        fresh.set_params(training=training).fit(X, y, start=probe)
        return fresh
    y = checked_labels(X, None) if y is None else np.asarray(y)
    values = torch.from_numpy(np.asarray(X, np.float64))
    targets = torch.from_numpy((y == probe.classes_[1]).astype(np.float64))[None]
    offset = torch.from_numpy(probe.decision_function(X))[None]
    strength = torch.tensor([C], dtype=torch.float64)
    fit = fit_logistic(values, targets, torch.ones_like(targets), strength, offset=offset)
    for name in ("classes_", "kind_", "place_", "n_features_in_"):
        setattr(fresh, name, getattr(probe, name))
    fresh.coef_ = probe.coef_ + fit.coef.numpy()
    fresh.intercept_ = probe.intercept_ + fit.intercept.numpy()
    return fresh


def balanced_draw(activations: Activations, n: int, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Indices of n examples, the classes in turn, as many groups as possible."""
    y = checked_labels(activations, None)
    order = np.random.default_rng(seed).permutation(len(y))
    classes = [order[y[order] == label] for label in np.unique(y)]
    if min(map(len, classes)) < n // len(classes):
        raise ValueError(f"{n} examples of {len(classes)} equal classes are more than there are")
    turns = [
        members[k] for k in range(max(map(len, classes))) for members in classes if k < len(members)
    ]
    return np.array(turns[:n])


def fresh_fit(probe: Any, activations: Activations) -> Any:
    """A new copy of a probe, fitted to labelled activations."""
    fresh: Any = clone(probe)
    return fresh.fit(activations, checked_labels(activations, None))


def _small(probe: Any) -> Any:
    """The probe with options that two examples suffice for."""
    fresh: Any = clone(probe)
    if isinstance(probe, SequenceProbe):
        return fresh.set_params(training=_without_validation(probe.training, 20))
    return fresh.set_params(C=1e-2) if isinstance(probe, LinearProbe) else fresh


def _without_validation(training: Any, n_epochs: int) -> Any:
    return replace(training or SequenceTraining(), validation_folds=0, n_epochs=n_epochs)
