"""How much of the toxicity study to run."""

from dataclasses import dataclass, field

from hookscope.toxicity.materials import Sizes
from interp.training import DpoConfig

SHUFFLED, ALL_MAPS = "shuffled", "all maps"
"""The run whose preferences were turned around at random, and the one with adapters everywhere."""


@dataclass(frozen=True, kw_only=True)
class ToxicityConfig:
    """How much of the study to run; the defaults run all of it."""

    sizes: Sizes = field(default_factory=Sizes)
    """How many texts."""
    training: DpoConfig = field(
        default_factory=lambda: DpoConfig(
            learning_rate=1e-4,
            n_steps=20,
            lora_rank=16,
            lora_targets=("gate_proj", "up_proj"),
            warmup=4,
            checkpoint_every=5,
        )
    )
    """Settings of training. Adapters sit where neurons read, so that all that training does passes
    through activations, of which the published attribution speaks; value vectors stay. One run has
    adapters on all maps and a third of the learning rate, to see what that leaves out."""
    n_seeds: int = 2
    """Training runs of that kind, beside one on shuffled preferences and one on all maps."""
    n_top: int = 128
    """How many most toxic neurons are looked at."""
    n_random: int = 20
    """Random directions behind the null of the groups."""
    seed: int = 0
    """Seed of the draws."""


QUICK = ToxicityConfig(
    sizes=Sizes(
        n_comments=80,
        n_preferences=8,
        n_prompts=8,
        n_continued=4,
        n_neutral=2,
        n_words=16,
    ),
    training=DpoConfig(
        learning_rate=1e-3,
        lora_rank=2,
        lora_targets=("gate_proj", "up_proj"),
        n_steps=3,
        batch_size=2,
        warmup=1,
        checkpoint_every=3,
    ),
    n_seeds=1,
    n_top=16,
    n_random=2,
)
"""Enough to see every part work, too little for the numbers."""
