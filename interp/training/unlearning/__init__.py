"""Unlearning in language models: losses, gradient transforms, methods, and one budget for all.

- `unlearn` makes a model forget, by a method, to a budget of disruption.
- Methods are values (`grad_diff()`, `npo()`, `Mudman()`, `RepSelect()`), made of `losses` and
  `transforms`.
- `attack` tries to bring back what was forgotten; `unlearning_depth` looks how deep it went.
- `evaluate_unlearning` is a checklist with limits, `evaluate_tofu` the metrics of TOFU.
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
from interp.training.unlearning.evaluation import (
    Check,
    Checklist,
    Checks,
    evaluate_unlearning,
    membership_auroc,
    min_k,
)
from interp.training.unlearning.gradient_methods import Cir, Mudman, RepSelect, Tar
from interp.training.unlearning.loss_methods import (
    LossMethod,
    ce_u,
    circuit_breakers,
    elm,
    grad_ascent,
    grad_diff,
    idk_dpo,
    npo,
    rmu,
    simnpo,
    undial,
    wga,
)
from interp.training.unlearning.methods import Method
from interp.training.unlearning.quantization import quantized
from interp.training.unlearning.search import UnlearningResult, unlearn
from interp.training.unlearning.task import Budget, Disruption, Task
from interp.training.unlearning.tofu import (
    TofuResult,
    TofuScores,
    evaluate_tofu,
    option_probability,
    rouge_l_recall,
    truth_ratio,
)

__all__ = [
    "Attack",
    "AttackReport",
    "AttackSuite",
    "Budget",
    "Check",
    "Checklist",
    "Checks",
    "Cir",
    "DepthResult",
    "Disruption",
    "LossMethod",
    "Method",
    "Mudman",
    "RepSelect",
    "Tar",
    "Task",
    "TofuResult",
    "TofuScores",
    "UnlearningResult",
    "activation_addition",
    "attack",
    "ce_u",
    "circuit_breakers",
    "elm",
    "evaluate_tofu",
    "evaluate_unlearning",
    "few_shot",
    "grad_ascent",
    "grad_diff",
    "idk_dpo",
    "lens",
    "logit_lens",
    "membership_auroc",
    "min_k",
    "no_attack",
    "npo",
    "option_probability",
    "prefixed",
    "probabilities",
    "probing",
    "quantized",
    "relearning",
    "relearning_curve",
    "rephrased",
    "rmu",
    "rouge_l_recall",
    "rounding",
    "simnpo",
    "truth_ratio",
    "undial",
    "unlearn",
    "unlearning_depth",
    "wga",
]
