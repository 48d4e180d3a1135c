"""How the agents that come with the package were trained, to train them again.

Both learn by imitation of optimal play. `small-drc33` comes from nothing to most new levels of 6x6
with two boxes in under 25 minutes of one core: the tutorial of `train_agent`, and the test of the
whole pipeline. `boxoban-drc33` plays Boxoban (8x8, four boxes).
"""

from dataclasses import replace
from pathlib import Path

from interp.planning.drc import Drc, DrcConfig
from interp.planning.environment import BUSH_RULES, Rules
from interp.planning.generation import generate_levels
from interp.planning.imitation import ImitationConfig
from interp.planning.levels import Levels
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
    schedule = TrainingSchedule(
        max_seconds=max_seconds,
        save_seconds=120,
        evaluate_seconds=120,
        limit=SMALL_LIMIT,
        first_snapshot=25_000,
    )
    train, held_out = generate_levels(4000, seed=0), generate_levels(256, seed=1)
    trained = train_agent(
        Drc(SMALL_AGENT),
        train,
        held_out,
        directory,
        config=SMALL_TRAINING,
        schedule=schedule,
        progress=progress,
    )
    assert isinstance(trained, Drc)
    return trained


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
    trained = train_agent(
        Drc(BOXOBAN_AGENT),
        train,
        held_out,
        directory,
        config=BOXOBAN_TRAINING,
        schedule=schedule,
        progress=progress,
    )
    assert isinstance(trained, Drc)
    return trained
