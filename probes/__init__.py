"""Probes: sklearn-style classifiers that read a concept off a model's activations."""

from probes.base import Place, Probe
from probes.controls import Comparison, compare
from probes.evaluation import Estimate, auroc, auroc_difference, bootstrap
from probes.linear import LinearProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.sweeps import LayerSweep, cross_scores, sweep_layers

__all__ = [
    "Comparison",
    "Estimate",
    "LayerSweep",
    "LinearProbe",
    "MeanDifferenceProbe",
    "Place",
    "Probe",
    "auroc",
    "auroc_difference",
    "bootstrap",
    "compare",
    "cross_scores",
    "sweep_layers",
]
