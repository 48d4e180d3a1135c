"""How the agents that come with the package were trained, to train them again.

Two learn by imitation of optimal play. `small-drc33` comes from nothing to most new levels of 6x6
with two boxes in under 25 minutes of one core: the tutorial of `train_agent`, and the test of the
whole pipeline. `boxoban-drc33` plays Boxoban (8x8, four boxes). `reinforced-drc21` never sees a
solution: it learns from rewards alone, so that what emerges in it was not copied.
"""

from dataclasses import replace
from pathlib import Path

from interp.planning.drc import Drc, DrcConfig
from interp.planning.environment import BUSH_RULES, Rules
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.imitation import ImitationConfig
from interp.planning.levels import Levels, concatenate_levels
from interp.planning.reinforcement import ReinforcementConfig
from interp.planning.training import TrainingConfig, TrainingSchedule, train_agent

SMALL_AGENT = DrcConfig(channels=16, size=(6, 6), d_hidden=128, output_gate="tanh", forget_bias=1.0)
"""Size and form of `small-drc33`."""
SMALL_LIMIT = 60
"""Steps within which it must solve a level."""
SMALL_TRAINING = TrainingConfig(
    transitions=1_300_000,
    imitation_transitions=1_300_000,
    n_envs=64,
    unroll=6,
    optimizer="muon",
    learning_rate=4e-3,
    warmup_updates=20,
    average=0.99,
    imitation=ImitationConfig(
        levels_per_update=3.0,
        near_share=(1.0, 1.0),  # every game starts anywhere, so that no layout has one start only
        near_distance=(6, 45),
        ramp=200_000,
    ),
    rules=Rules(limit=SMALL_LIMIT),
)
"""How it is trained."""

BOXOBAN_AGENT = replace(SMALL_AGENT, size=(8, 8))
"""Size and form of `boxoban-drc33`."""
BOXOBAN_TRAINING = replace(
    SMALL_TRAINING,
    transitions=1_950_000,
    imitation_transitions=1_950_000,
    imitation=ImitationConfig(
        levels_per_update=3.0,
        near_share=(1.0, 0.6),
        near_distance=(6, 100),
        ramp=400_000,
    ),
    rules=BUSH_RULES,
)
"""How it is trained."""


SMALL_SCHEDULE = TrainingSchedule(
    save_seconds=120.0, evaluate_seconds=120.0, limit=SMALL_LIMIT, first_snapshot=25_000
)
"""When agents of small boards are written and evaluated."""

REINFORCED_AGENT = replace(SMALL_AGENT, depth=2, ticks=1)
"""Size and form of `reinforced-drc21`: as much as learns from rewards in 83 minutes of one core."""
REINFORCED_LEVELS = (
    (5000, GenerationConfig()),
    (5000, GenerationConfig(distance=(1, 12))),
    (4000, GenerationConfig(n_boxes=1, distance=(1, 30))),
    (4000, GenerationConfig(distance=(1, 5), starts_per_layout=4)),
)
"""Its levels, from the usual ones to those that an untrained agent solves by chance."""
REINFORCED_TRAINING = TrainingConfig(
    transitions=9_000_000,
    imitation_transitions=0,
    n_envs=32,
    unroll=5,  # small updates, many of them
    reinforcement_learning_rate=2e-3,
    warmup_updates=20,
    average=0.995,
    reinforcement=ReinforcementConfig(discount=0.95, trace=0.9, entropy_weight=0.02),
    # solved at +10 drowns what a single box on its target teaches
    rules=Rules(limit=40, solved=2.0),
)
"""How it is trained."""


def train_small_agent(
    directory: str | Path, *, max_seconds: float = float("inf"), progress: bool = True
) -> Drc:
    """Train `small-drc33` from nothing, or go on training it, in a folder.

    Args:
        directory: The folder, see `train_agent`.
        max_seconds: Stop after this much time (resumable).
        progress: Whether to show a progress bar.

    Returns:
        The agent, in evaluation mode.
    """
    schedule = replace(SMALL_SCHEDULE, max_seconds=max_seconds)
    levels = generate_levels(4000, seed=0), generate_levels(256, seed=1)
    return _train(SMALL_AGENT, *levels, directory, SMALL_TRAINING, schedule, progress)


def train_boxoban_agent(
    train: Levels,
    held_out: Levels,
    directory: str | Path,
    *,
    max_seconds: float = float("inf"),
    progress: bool = True,
) -> Drc:
    """Train `boxoban-drc33` from nothing, or go on training it, in a folder.

    Args:
        train: Levels of 8x8 with four boxes, such as those of Boxoban's unfiltered training set.
        held_out: Levels on which it is evaluated along the way.
        directory: The folder, see `train_agent`.
        max_seconds: Stop after this much time (resumable).
        progress: Whether to show a progress bar.

    Returns:
        The agent, in evaluation mode.
    """
    schedule = TrainingSchedule(max_seconds=max_seconds, first_snapshot=25_000)
    return _train(BOXOBAN_AGENT, train, held_out, directory, BOXOBAN_TRAINING, schedule, progress)


def train_reinforced_agent(
    directory: str | Path, *, max_seconds: float = float("inf"), progress: bool = True
) -> Drc:
    """Train `reinforced-drc21` from nothing, or go on training it, in a folder.

    Args:
        directory: The folder, see `train_agent`.
        max_seconds: Stop after this much time (resumable).
        progress: Whether to show a progress bar.

    Returns:
        The agent, in evaluation mode.
    """
    schedule = replace(SMALL_SCHEDULE, max_seconds=max_seconds)
    train = concatenate_levels(
        generate_levels(n, config=config, seed=0) for n, config in REINFORCED_LEVELS
    )
    levels = train, generate_levels(256, seed=1)
    return _train(REINFORCED_AGENT, *levels, directory, REINFORCED_TRAINING, schedule, progress)


def _train(
    agent: DrcConfig,
    train: Levels,
    held_out: Levels,
    directory: str | Path,
    config: TrainingConfig,
    schedule: TrainingSchedule,
    progress: bool,
) -> Drc:
    trained = train_agent(
        Drc(agent), train, held_out, directory, config=config, schedule=schedule, progress=progress
    )
    assert isinstance(trained, Drc)
    return trained
