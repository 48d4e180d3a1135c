"""Probes: sklearn-style classifiers that read a concept off a model's activations.

- `LinearProbe`, `MeanDifferenceProbe`, `MassMeanProbe`, `PCAProbe` and `RidgeProbe` take one vector
  for each example; `SequenceProbe` takes tokens and one of the pooling rules (`Attention`, ...).
- `sweep_layers` finds the layer, `compare` puts the controls beside the score, `evaluate` gives all
  metrics with intervals, `calibrate` and `choose_threshold` turn scores into answers.
- `generalization`, `data_efficiency`, `few_shot` and `adapt` carry a probe to other data.
- `ProbeMonitor` scores while a model writes; `check_steering` asks whether the model cares.
- `save_probe` and `load_probe` keep a probe with its card and its test vectors.
"""

from probes.base import Place, PooledProbe, Probe
from probes.calibration import Calibration, Threshold, calibrate, choose_threshold
from probes.causal import SteeringCheck, check_steering
from probes.controls import Comparison, compare
from probes.delong import DeLongTest, delong_test
from probes.erasure import Eraser, erased_auroc, fit_eraser
from probes.evaluation import Estimate, auroc, auroc_difference, bootstrap
from probes.filtering import filter_words
from probes.linear import LinearProbe
from probes.mass_mean import MassMeanProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.metrics import Evaluation, evaluate, reliability_curve, roc_curve
from probes.monitor import Alarm, MonitoredGenerations, ProbeMonitor
from probes.pca import PCAProbe
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
from probes.ridge import RidgeProbe
from probes.saving import ProbeCard, SavedProbe, load_probe, save_probe, write_card
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining
from probes.sweeps import LayerSweep, cross_scores, sweep_layers
from probes.transfer import (
    GeneralizationMatrix,
    LearningCurve,
    adapt,
    data_efficiency,
    few_shot,
    generalization,
)

__all__ = [
    "Alarm",
    "Attention",
    "Calibration",
    "Comparison",
    "DeLongTest",
    "Ema",
    "Eraser",
    "Estimate",
    "Evaluation",
    "GeneralizationMatrix",
    "Last",
    "LayerSweep",
    "LearningCurve",
    "LinearProbe",
    "MassMeanProbe",
    "Max",
    "Mean",
    "MeanDifferenceProbe",
    "MonitoredGenerations",
    "PCAProbe",
    "Place",
    "PooledProbe",
    "Pooling",
    "Probe",
    "ProbeCard",
    "ProbeMonitor",
    "RidgeProbe",
    "RollingAttention",
    "RollingMean",
    "SavedProbe",
    "SequenceProbe",
    "SequenceTraining",
    "Softmax",
    "SteeringCheck",
    "Swim",
    "Threshold",
    "adapt",
    "auroc",
    "auroc_difference",
    "bootstrap",
    "calibrate",
    "check_steering",
    "choose_threshold",
    "compare",
    "cross_scores",
    "data_efficiency",
    "delong_test",
    "erased_auroc",
    "evaluate",
    "few_shot",
    "filter_words",
    "fit_eraser",
    "generalization",
    "load_probe",
    "reliability_curve",
    "roc_curve",
    "save_probe",
    "sweep_layers",
    "write_card",
]
