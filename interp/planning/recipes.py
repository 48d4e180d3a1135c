"""How the small agent that comes with the package was trained, to train it again.

It learns by imitation of optimal play from nothing to most new levels of 6x6 with two boxes in
under 25 minutes of one core: the tutorial of `train_agent`, and the test of the whole pipeline.
"""

from pathlib import Path

from interp.planning.drc import Drc, DrcConfig
from interp.planning.environment import Rules
from interp.planning.generation import generate_levels
from interp.planning.imitation import ImitationConfig
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
    agent = Drc(SMALL_AGENT)
    schedule = TrainingSchedule(
        max_seconds=max_seconds,
        save_seconds=120,
        evaluate_seconds=120,
        limit=SMALL_LIMIT,
        first_snapshot=25_000,
    )
    train, held_out = generate_levels(4000, seed=0), generate_levels(256, seed=1)
    trained = train_agent(
        agent,
        train,
        held_out,
        directory,
        config=SMALL_TRAINING,
        schedule=schedule,
        progress=progress,
    )
    assert isinstance(trained, Drc)
    return trained
