"""Unlearning in language models: losses, gradient transforms, methods, and one budget for all.

- `unlearn` makes a model forget, by a method, to a budget of disruption.
- Methods are values (`grad_diff()`, `npo()`, `Mudman()`, `RepSelect()`), made of `losses` and
  `transforms`.
- `attack` tries to bring back what was forgotten; `unlearning_depth` looks how deep it went.
"""

from interp.training.unlearning.attacks import (
    Attack,
    AttackReport,
    AttackSuite,
    activation_addition,
    attack,
    few_shot,
    lens,
    no_attack,
    prefixed,
    probabilities,
    probing,
    relearning,
    relearning_curve,
    rephrased,
    rounding,
)
from interp.training.unlearning.depth import DepthResult, logit_lens, unlearning_depth
from interp.training.unlearning.methods import (
    Cir,
    LossMethod,
    Method,
    Mudman,
    RepSelect,
    Tar,
    ce_u,
    circuit_breakers,
    grad_ascent,
    grad_diff,
    npo,
    rmu,
    simnpo,
    undial,
    wga,
)
from interp.training.unlearning.quantization import quantized
from interp.training.unlearning.search import UnlearningResult, unlearn
from interp.training.unlearning.task import Budget, Disruption, Task

__all__ = [
    "Attack",
    "AttackReport",
    "AttackSuite",
    "Budget",
    "Cir",
    "DepthResult",
    "Disruption",
    "LossMethod",
    "Method",
    "Mudman",
    "RepSelect",
    "Tar",
    "Task",
    "UnlearningResult",
    "activation_addition",
    "attack",
    "ce_u",
    "circuit_breakers",
    "few_shot",
    "grad_ascent",
    "grad_diff",
    "lens",
    "logit_lens",
    "no_attack",
    "npo",
    "prefixed",
    "probabilities",
    "probing",
    "quantized",
    "relearning",
    "relearning_curve",
    "rephrased",
    "rmu",
    "rounding",
    "simnpo",
    "undial",
    "unlearn",
    "unlearning_depth",
    "wga",
]
