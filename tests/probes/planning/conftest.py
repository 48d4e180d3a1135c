"""A small agent without training, and what it does on small levels."""

import pytest

from interp.planning.drc import Drc, DrcConfig
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import Levels
from interp.planning.rollouts import Episodes, optimal_episodes, play_episodes


@pytest.fixture(scope="session")
def small_levels() -> Levels:
    config = GenerationConfig(size=(4, 4), distance=(3, 16))
    return generate_levels(24, config=config, seed=0)


@pytest.fixture(scope="session")
def untrained() -> Drc:
    """An agent of random weights that is sure of what it does."""
    config = DrcConfig(depth=2, ticks=2, channels=6, size=(4, 4), d_hidden=8, forget_bias=1.0)
    agent = Drc(config, seed=3).eval().requires_grad_(False)
    agent.policy.weight.mul_(50)
    return agent


@pytest.fixture(scope="session")
def optimal(small_levels) -> Episodes:
    return optimal_episodes(small_levels)


@pytest.fixture(scope="session")
def thinking(untrained, small_levels) -> Episodes:
    return play_episodes(untrained, small_levels[:12], limit=4, think_steps=2)
