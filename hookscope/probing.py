"""The probe study: a label, a model, every layer, the controls, and test sets of your own."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from interp import Activations, HookedModel, Records, extract, viz
from interp.data import check_leakage
from probes import (
    Comparison,
    Estimate,
    LayerSweep,
    LinearProbe,
    MeanDifferenceProbe,
    auroc,
    compare,
    sweep_layers,
)
from probes.controls import EMBEDDING, LENGTH, SHUFFLED, WORDS
from probes.evaluation import binary_labels

METHODS = {"linear probe": LinearProbe, "mean difference": MeanDifferenceProbe}
"""Probes of the layer curve; the first one chooses the layer."""
LEVELS = (WORDS, LENGTH, EMBEDDING, SHUFFLED)
"""Controls that are drawn as levels beside the layer curve."""


@dataclass(frozen=True, kw_only=True)
class ProbeStudy:
    """What probing every layer of a model for a label gave."""

    model: str
    """Name of the model."""
    n_examples: int
    """Training examples."""
    sweeps: Mapping[str, LayerSweep]
    """Cross-validated AUROC at every layer, by method."""
    controls: Comparison
    """The linear probe at the chosen layer beside its controls, on the same folds."""
    probe: LinearProbe
    """The linear probe of the chosen layer, fitted to all training examples."""
    tests: Mapping[str, Estimate]
    """AUROC of that probe on each test set."""
    test_scores: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Labels and scores of each test set."""
    seconds: float
    """Wall time."""

    @property
    def layer(self) -> int:
        """The chosen layer: the earliest within one standard error of the best."""
        return self.sweeps["linear probe"].best_layer

    def summary(self) -> str:
        """The tables as text."""
        layers = self.layer_frame().to_string(index=False, float_format="{:.3f}".format)
        parts = [
            f"{self.model}: {self.n_examples} examples, {self.seconds:.0f} s",
            f"AUROC by layer, cross-validated by group (95% interval)\n{layers}",
            f"layer {self.layer} and its controls\n{self.control_frame().to_string(index=False)}",
        ]
        if self.tests:
            lines = "\n".join(f"{name}: {value}" for name, value in self.tests.items())
            parts.append(f"test sets, linear probe of layer {self.layer}\n{lines}")
        return "\n\n".join(parts)

    def layer_frame(self) -> pd.DataFrame:
        """One row for each layer, with the AUROC of each method and its interval."""
        columns: dict[str, Any] = {"layer": self.sweeps["linear probe"].layers}
        for name, sweep in self.sweeps.items():
            columns[name] = [estimate.value for estimate in sweep.auroc]
            columns[f"{name} interval"] = [f"[{e.low:.3f}, {e.high:.3f}]" for e in sweep.auroc]
        return pd.DataFrame(columns)

    def control_frame(self) -> pd.DataFrame:
        """One row for the probe and one for each control."""
        return self.controls.to_frame()

    def plot_layers(self) -> viz.Figure:
        """AUROC against the layer: both methods, and the controls as levels."""
        lines = {}
        for name, sweep in self.sweeps.items():
            frame = sweep.to_frame()
            lines[name] = viz.Curve(
                x=frame["layer"],
                y=frame["auroc"],
                low=frame["low"],
                high=frame["high"],
                emphasis=name == "linear probe",
            )
        return viz.curves(
            lines,
            title=f"Where {self.model} tells the classes apart",
            x_title="layer (resid_post)",
            y_title="AUROC on held-out groups (95% interval)",
            references={name: self.controls.auroc[name].value for name in LEVELS},
        )

    def plot_roc(self) -> viz.Figure:
        """ROC of the linear probe: cross-validated, and on each test set."""
        sweep = self.sweeps["linear probe"]
        row = sweep.scores[sweep.layers.index(self.layer)]
        curves = {"cross-validated": _roc(sweep.labels, row, sweep.at(self.layer))}
        for name, (labels, scores) in self.test_scores.items():
            curves[name] = _roc(labels, scores, self.tests[name])
        return viz.roc(curves, title=f"Linear probe of layer {self.layer}")

    def report(self, title: str) -> viz.Report:
        """The study as one page; more can be added to it before it is saved."""
        best = self.sweeps["linear probe"].at(self.layer)
        return (
            viz.Report(title, subtitle=f"{self.model}, {self.n_examples} examples")
            .text(
                f"A linear probe of layer {self.layer} separates held-out groups with an AUROC of "
                f"{best.value:.3f} (95% interval {best.low:.3f} to {best.high:.3f})."
            )
            .heading("Layers")
            .figure(
                self.plot_layers(),
                "AUROC of probes on mean-pooled activations of each layer, cross-validated by "
                "group; bands are 95% intervals from a bootstrap over groups. Dotted lines are "
                "the controls of the table below.",
            )
            .heading("Controls")
            .table(
                self.control_frame(),
                f"The probe of layer {self.layer} and what would explain it away, on the same "
                "folds. Gains are differences to the probe over the same draws of groups.",
                controls=[n for n in self.controls.auroc if not n.startswith("probe")],
            )
            .heading("Separation")
            .figure(self.plot_roc(), "ROC of the linear probe at the chosen layer.")
        )

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "model": self.model,
            "n_examples": self.n_examples,
            "layer": self.layer,
            "auroc": asdict(self.sweeps["linear probe"].at(self.layer)),
            "layers": {
                name: [{"layer": k, **asdict(e)} for k, e in zip(s.layers, s.auroc, strict=True)]
                for name, s in self.sweeps.items()
            },
            "controls": self.control_frame().to_dict("records"),
            "tests": {
                name: {**asdict(value), "n_examples": len(self.test_scores[name][0])}
                for name, value in self.tests.items()
            },
            "seconds": self.seconds,
        }


def run_probe_study(
    model: HookedModel,
    train: Records,
    tests: Mapping[str, Records] | None = None,
    *,
    seed: int = 0,
    truncate: bool = False,
    progress: bool = False,
) -> ProbeStudy:
    """Probe every layer for the records' label, choose a layer on them, and test it elsewhere.

    Args:
        model: A language model.
        train: Records with labels of two classes; groups are kept together in cross-validation.
        tests: Test sets by name; they may share neither texts nor groups with `train`.
        seed: Seed of folds and bootstrap draws.
        truncate: Cut texts beyond the context instead of refusing them.
        progress: Show progress bars.

    Raises:
        LeakageError: If a test set shares texts or groups with `train`.
        ValueError: If labels are missing or not of two classes.
    """
    start, tests = time.perf_counter(), dict(tests or {})
    for records in (train, *tests.values()):
        binary_labels(records.labels)
    for records in tests.values():
        check_leakage(train, records)
    options = {"pooling": "mean", "truncate": truncate, "progress": progress}
    activations = extract(model, train, **options)
    embeddings = extract(model, train, layers=0, sites="resid_pre", **options)
    sweeps = {
        name: sweep_layers(activations, method(), seed=seed) for name, method in METHODS.items()
    }
    layer = sweeps["linear probe"].best_layer
    probe = LinearProbe()
    probe.fit(activations.at(layer))
    scored = {
        name: _scored(probe, extract(model, records, layers=layer, **options))
        for name, records in tests.items()
    }
    return ProbeStudy(
        model=model.name,
        n_examples=len(train),
        sweeps=sweeps,
        controls=compare(activations.at(layer), train, embeddings=embeddings, seed=seed),
        probe=probe,
        tests={
            name: auroc(labels, scores, groups=tests[name].groups, seed=seed)
            for name, (labels, scores) in scored.items()
        },
        test_scores=scored,
        seconds=time.perf_counter() - start,
    )


def _scored(probe: LinearProbe, activations: Activations) -> tuple[np.ndarray, np.ndarray]:
    assert activations.labels is not None, "checked before anything ran"
    return activations.labels, probe.decision_function(activations)


def _roc(labels: np.ndarray, scores: np.ndarray, estimate: Estimate) -> viz.RocCurve:
    false_positives, true_positives, _ = roc_curve(labels, scores, pos_label=np.unique(labels)[1])
    return viz.RocCurve(
        fpr=false_positives, tpr=true_positives, interval=(estimate.low, estimate.high)
    )
