"""Probes: sklearn-style classifiers that read a concept off a model's activations."""

from probes.base import Place, PooledProbe, Probe
from probes.controls import Comparison, compare
from probes.evaluation import Estimate, auroc, auroc_difference, bootstrap
from probes.linear import LinearProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.monitor import Alarm, MonitoredGenerations, ProbeMonitor
from probes.pooling import (
    Attention,
    Ema,
    Last,
    Max,
    Mean,
    Pooling,
    RollingAttention,
    RollingMean,
    Softmax,
    Swim,
)
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining
from probes.sweeps import LayerSweep, cross_scores, sweep_layers

__all__ = [
    "Alarm",
    "Attention",
    "Comparison",
    "Ema",
    "Estimate",
    "Last",
    "LayerSweep",
    "LinearProbe",
    "Max",
    "Mean",
    "MeanDifferenceProbe",
    "MonitoredGenerations",
    "Place",
    "PooledProbe",
    "Pooling",
    "Probe",
    "ProbeMonitor",
    "RollingAttention",
    "RollingMean",
    "SequenceProbe",
    "SequenceTraining",
    "Softmax",
    "Swim",
    "auroc",
    "auroc_difference",
    "bootstrap",
    "compare",
    "cross_scores",
    "sweep_layers",
]
