"""Probes: sklearn-style classifiers that read a concept off a model's activations."""

from probes.base import Place, Probe
from probes.evaluation import Estimate, auroc, bootstrap
from probes.linear import LinearProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.sweeps import LayerSweep, cross_scores, sweep_layers

__all__ = [
    "Estimate",
    "LayerSweep",
    "LinearProbe",
    "MeanDifferenceProbe",
    "Place",
    "Probe",
    "auroc",
    "bootstrap",
    "cross_scores",
    "sweep_layers",
]
