"""Sampling classifiers that never knew a class (HyperForget, Rangel et al. 2024).

- `train_bank`: classifiers of many runs and their losses.
- `train_hypernetwork` with `forget_and_retain` or `each_class`: diffusion over weights, conditioned
  on losses; `HyperNetwork.sample` draws classifiers.
- `forget_retain_accuracy`, `alignment`, `disagreement`, `membership_auroc`, `relearn_class`: did
  they forget?
- `nearest_in_bank`, `distance_to_bank`: is it more than looking classifiers up?
"""

from interp.training.hyperforget.bank import (
    RunBank,
    Split,
    each_class,
    forget_and_retain,
    train_bank,
)
from interp.training.hyperforget.classifiers import Mlp, train_classifiers
from interp.training.hyperforget.evaluation import (
    alignment,
    disagreement,
    distance_to_bank,
    forget_retain_accuracy,
    membership_auroc,
    nearest_in_bank,
    relearn_class,
)
from interp.training.hyperforget.hypernetwork import (
    DiffusionConfig,
    HyperNetwork,
    train_hypernetwork,
)

__all__ = [
    "DiffusionConfig",
    "HyperNetwork",
    "Mlp",
    "RunBank",
    "Split",
    "alignment",
    "disagreement",
    "distance_to_bank",
    "each_class",
    "forget_and_retain",
    "forget_retain_accuracy",
    "membership_auroc",
    "nearest_in_bank",
    "relearn_class",
    "train_bank",
    "train_classifiers",
    "train_hypernetwork",
]
