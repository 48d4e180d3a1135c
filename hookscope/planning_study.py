"""What `hookscope planning` measures: play, probes and interventions of an agent on levels."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.planning.agents import load_agent
from interp.planning.drc import Drc
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import Levels, load_levels
from interp.planning.rollouts import play_episodes
from interp.planning.shortcuts import find_shortcuts
from interp.planning.solver import UnsolvableError, solve_optimally
from probes.planning import (
    PlanReading,
    ReadingConfig,
    SteeringConfig,
    measure_steering,
    measure_thinking,
    read_plans,
)


def measure(what: str, arguments: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and the result of one of "play", "probe" and "intervene".

    Args:
        what: Which of them.
        arguments: The options of the command.

    Raises:
        LevelError: If a level is malformed; line and column are named.
        UnsolvableError: If `check` is set and a level has no solution.
        ValueError: If the levels are not of the agent's size.
    """
    agent = load_agent(arguments.agent)
    levels = _levels(arguments.levels, agent, arguments.n_levels)
    if arguments.check:
        _check_solvable(levels)
    measures = {"play": _play, "probe": _probe, "intervene": _intervene}
    about = {"agent": arguments.agent, "n_levels": len(levels), "limit": arguments.limit}
    table, result = measures[what](agent, levels, arguments)
    return table, about | result


def _play(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Solve rates by steps to think, on the same levels."""
    result = measure_thinking(agent, levels, think_steps=arguments.think, limit=arguments.limit)
    frame = result.to_frame()
    return frame, {"solve_rates": frame.to_dict("records"), "solved": result.solved[0].tolist()}


def _probe(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Macro F1 of probes on the given levels, beside their controls."""
    reading = _read(agent, levels, arguments, ReadingConfig())
    return reading.to_frame(), reading.to_dict()


def _intervene(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Share of levels solved the long way, by layer, part and coefficient."""
    shortcuts = find_shortcuts(levels, arguments.mover)
    config = ReadingConfig(
        concepts=(shortcuts.concept,), kernels=(1,), observation_kernels=(1,), n_untrained=0
    )
    probes = _read(agent, levels, arguments, config).probes(shortcuts.concept)
    steering = SteeringConfig(limit=arguments.limit, seed=arguments.seed)
    result = measure_steering(agent, shortcuts, probes, config=steering, progress=True)
    frame = result.to_frame()
    rows = frame.replace({np.nan: None}).to_dict("records")
    return frame, {"n_with_two_ways": len(shortcuts), "interventions": rows}


def _read(
    agent: Drc,
    levels: Levels,
    arguments: argparse.Namespace,
    config: ReadingConfig,
) -> PlanReading:
    """Probes fitted to episodes on other levels than the given ones."""
    if arguments.train is not None:
        train = _levels(arguments.train, agent, None)
    else:
        shape = GenerationConfig(size=levels.size, n_boxes=int(levels.n_boxes[0]))
        train = generate_levels(400, config=shape, seed=arguments.seed)
    episodes = [play_episodes(agent, part, limit=arguments.limit) for part in (train, levels)]
    return read_plans(agent, *episodes, config=config, progress=True)


def _levels(path: Path, agent: Drc, limit: int | None) -> Levels:
    """Levels of the agent's size."""
    levels = load_levels(path, limit=limit)
    if levels.size != agent.config.size:
        raise ValueError(
            f"{path} has levels of {levels.size} inside their border, but the agent plays "
            f"{agent.config.size}"
        )
    return levels


def _check_solvable(levels: Levels) -> None:
    """Raise at the first level without a solution."""
    for number, level in enumerate(levels):
        try:
            solve_optimally(level)
        except UnsolvableError as error:
            raise UnsolvableError(f"level {number}: {error}\n{level.to_text()}") from error
