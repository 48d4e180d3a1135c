"""Training: preference optimization, on a copy of the model, resumed after an interruption."""

from interp.training.dpo import (
    DpoConfig,
    Preference,
    TrainingResult,
    dpo_loss,
    sequence_logprobs,
    train_dpo,
)

__all__ = [
    "DpoConfig",
    "Preference",
    "TrainingResult",
    "dpo_loss",
    "sequence_logprobs",
    "train_dpo",
]
