"""Training: fine-tuning and preference optimization on copies of models, resumed when interrupted.

`interp.training.unlearning` holds unlearning and the attacks on it.
"""

from interp.training.dpo import (
    DpoConfig,
    Preference,
    TrainingResult,
    dpo_loss,
    sequence_logprobs,
    train_dpo,
)
from interp.training.ema import Ema
from interp.training.loop import Example
from interp.training.sft import SftConfig, SftResult, train_sft

__all__ = [
    "DpoConfig",
    "Ema",
    "Example",
    "Preference",
    "SftConfig",
    "SftResult",
    "TrainingResult",
    "dpo_loss",
    "sequence_logprobs",
    "train_dpo",
    "train_sft",
]
