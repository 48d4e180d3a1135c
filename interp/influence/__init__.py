"""Which training examples change the distribution of what a model does.

- `Problem`, `Queries`, `Training`, `train_ensemble`: the same model trained under many seeds;
  `language_problem` is that of a language model's adapters.
- `unrolled_reverse`, `unrolled_forward`: derivatives of whole training runs.
- `influence_functions` with `solve_exact`, `solve_cg`, `solve_kronecker`: their limit.
- `tracin`, `gradient_similarity`: baselines. All give `Scores`, which may also be imported.
- `distributional_influence`: changes of laws, predicted or retrained.
- `leave_out`, `distributional_lds`, `leave_out_correlation`: predictions against retraining.
- `brittleness`, `prune`, `self_influence`, `detect_mislabeled`: what scores are good for.
"""

from interp.influence.distributions import (
    CHANGES,
    DistributionalInfluence,
    distributional_influence,
    plot_laws,
)
from interp.influence.ensemble import Ensemble, Training, train_ensemble
from interp.influence.evaluation import (
    Agreement,
    Retrained,
    distributional_lds,
    leave_out,
    leave_out_correlation,
    plot_agreement,
)
from interp.influence.gradients import gradient_similarity, tracin
from interp.influence.influence_functions import influence_functions, solve_cg, solve_exact
from interp.influence.kronecker import solve_kronecker
from interp.influence.language import language_problem, text_losses
from interp.influence.problem import PerExample, Problem, Queries
from interp.influence.removal import (
    Detection,
    RemovalResult,
    brittleness,
    detect_mislabeled,
    prune,
    removal_effects,
    self_influence,
)
from interp.influence.scores import Scores, random_subsets, without_each
from interp.influence.unrolled import unrolled_forward, unrolled_reverse
from interp.training.optimizers import AdamW, Sgd, constant, cosine_decay, linear_decay

__all__ = [
    "CHANGES",
    "AdamW",
    "Agreement",
    "Detection",
    "DistributionalInfluence",
    "Ensemble",
    "PerExample",
    "Problem",
    "Queries",
    "RemovalResult",
    "Retrained",
    "Scores",
    "Sgd",
    "Training",
    "brittleness",
    "constant",
    "cosine_decay",
    "detect_mislabeled",
    "distributional_influence",
    "distributional_lds",
    "gradient_similarity",
    "influence_functions",
    "language_problem",
    "leave_out",
    "leave_out_correlation",
    "linear_decay",
    "plot_agreement",
    "plot_laws",
    "prune",
    "random_subsets",
    "removal_effects",
    "self_influence",
    "solve_cg",
    "solve_exact",
    "solve_kronecker",
    "text_losses",
    "tracin",
    "train_ensemble",
    "unrolled_forward",
    "unrolled_reverse",
    "without_each",
]
