"""What `hookscope planning` measures: play, probes, interventions, emergence, unseen boards."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.core.seeds import derive
from interp.core.statistics import wilson
from interp.planning.agents import load_agent, load_agent_info
from interp.planning.drc import Drc
from interp.planning.evaluation import play_levels
from interp.planning.generation import LEVEL_SET, GenerationConfig, generate_levels
from interp.planning.levels import Levels, load_levels
from interp.planning.rollouts import Episodes, optimal_episodes, play_episodes
from interp.planning.shortcuts import Shortcuts, find_shortcuts, generate_shortcuts
from interp.planning.solver import UnsolvableError, solve_optimally
from interp.planning.variants import blinded, resized
from probes.planning import (
    ReadingConfig,
    SteeringConfig,
    SteeringResult,
    measure_emergence,
    measure_steering,
    measure_thinking,
    measure_unseen,
    read_plans,
)

DEFAULT_LIMIT = 115
"""Steps within which to solve, for agents that do not say with which they were measured."""
ALL, SOLVED = "all_episodes", "solved_episodes"
"""Names of the two readings of "probe"."""
N_LEVELS = 200
"""New levels that are measured, if none are given."""
EMERGENCE_ROWS = 2000
"""Steps to which the probes of every snapshot are fitted."""
N_TRAIN = 400
"""New levels on which probes are fitted, if none are given."""
LARGER = 2
"""Squares by which height and width of the boards of "unseen" grow."""


def measure(what: str, arguments: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and the result of "play", "probe", "intervene", "emergence" or "unseen".

    Args:
        what: Which of them.
        arguments: The options of the command; a limit of None becomes the agent's own.

    Raises:
        LevelError: If a level is malformed; line and column are named.
        UnsolvableError: If `check` is set and a level has no solution.
        ValueError: If the levels are not of the agent's size.
    """
    agent = load_agent(arguments.agent)
    if arguments.limit is None:
        arguments.limit = _own_limit(arguments.agent)
    measures = {
        "play": _play,
        "probe": _probe,
        "intervene": _intervene,
        "emergence": _emergence,
        "unseen": _unseen,
    }
    about = {"agent": arguments.agent, "limit": arguments.limit, "seed": arguments.seed}
    if what == "intervene" and arguments.levels is None:
        table, result = _intervene(agent, None, arguments)
        return table, about | result
    levels = _levels(arguments.levels, agent, arguments)
    if arguments.check:
        _check_solvable(levels)
    table, result = measures[what](agent, levels, arguments)
    return table, about | {"n_levels": len(levels)} | result


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
    """Macro F1 of probes on the given levels, beside their controls.

    Once on all episodes and once on solved ones: what is not solved is aimless walking to a good
    part, which no state can tell in advance.
    """
    kernels = tuple(arguments.kernels)
    observed = (*kernels, max(kernels) + 2)  # the control sees more than any probe
    config = ReadingConfig(kernels=kernels, observation_kernels=observed, seed=arguments.seed)
    train, test = _episodes(agent, levels, arguments)
    readings = {ALL: read_plans(agent, train, test, config=config, progress=True)}
    if train.solved.any() and test.solved.any():
        parts = map(_solved, (train, test))
        readings[SOLVED] = read_plans(agent, *parts, config=config, progress=True)
    frames = [reading.to_frame().assign(episodes=name) for name, reading in readings.items()]
    table = pd.concat(frames, ignore_index=True)
    rates = {
        "solve_rate": float(test.solved.mean()),
        "solve_rate_train": float(train.solved.mean()),
    }
    return table, rates | {name: reading.to_dict() for name, reading in readings.items()}


def _intervene(
    agent: Drc, levels: Levels | None, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Share of levels solved the long way, by layer, part and coefficient.

    The probes whose vectors are added are fitted to solved episodes: the others have no plan that
    was carried out.
    """
    shortcuts = _shortcuts(agent, levels, arguments)
    config = ReadingConfig(
        concepts=(shortcuts.concept,),
        kernels=(1,),
        observation_kernels=(1,),
        n_untrained=0,
        seed=arguments.seed,
    )
    episodes = _episodes(agent, shortcuts.levels, arguments)
    reading = read_plans(agent, *map(_solved, episodes), config=config)
    steering = SteeringConfig(
        coefficients=tuple(arguments.coefficients),
        n_directed=arguments.n_directed,
        n_random=arguments.n_random,
        limit=arguments.limit,
        seed=arguments.seed,
    )
    probes = reading.probes(shortcuts.concept)
    result = measure_steering(agent, shortcuts, probes, config=steering, progress=True)
    frame = result.to_frame()
    rows = frame.replace({np.nan: None}).to_dict("records")
    about = {"mover": shortcuts.mover, "n_with_two_ways": len(shortcuts)}
    return frame, about | {"interventions": rows, "above_random": _above_random(result)}


def _emergence(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Solve rate, what thinking gains, and probes along the snapshots of training."""
    snapshots = {
        transitions: load_agent(arguments.agent, transitions=transitions)
        for transitions in load_agent_info(arguments.agent).snapshots
    }
    config = ReadingConfig(
        kernels=(1,),
        observation_kernels=(1,),
        n_untrained=0,
        max_rows=EMERGENCE_ROWS,
        seed=arguments.seed,
    )
    frame = measure_emergence(
        snapshots,
        _train_levels(agent, levels, arguments),
        levels,
        config=config,
        think_steps=max(arguments.think),
        limit=arguments.limit,
        progress=True,
    )
    rows = frame.replace({np.nan: None}).to_dict("records")
    return frame, {"think_steps": max(arguments.think), "emergence": rows}


def _unseen(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Solve rate and probes with one more box, on a larger board, and without seeing itself.

    The probes are fitted to the agent's own episodes on levels like the given ones.
    """
    config = ReadingConfig(
        kernels=(1,), observation_kernels=(1,), n_untrained=0, seed=arguments.seed
    )
    train = play_episodes(agent, _train_levels(agent, levels, arguments), limit=arguments.limit)
    usual, blind = optimal_episodes(levels), blinded(agent)
    reading = read_plans(agent, train, usual, config=config)
    shape, (height, width) = _like(levels.size, int(levels.n_boxes[0])), levels.size
    more, larger = (
        generate_levels(len(levels), config=other, seed=derive(arguments.seed, "unseen"))
        for other in (
            replace(shape, n_boxes=shape.n_boxes + 1),
            replace(shape, size=(height + LARGER, width + LARGER)),
        )
    )
    frame = measure_unseen(
        {
            "as trained": (agent, usual),
            "one more box": (agent, optimal_episodes(more)),
            "larger board": (resized(agent, larger.size), optimal_episodes(larger)),
            "not seeing itself": (blind, usual),
        },
        reading,
    )
    played = {
        "as trained": (agent, levels),
        "one more box": (agent, more),
        "not seeing itself": (blind, levels),
    }
    rates = {
        name: vars(wilson(int(play_levels(*game, limit=arguments.limit).solved.sum()), len(levels)))
        for name, game in played.items()
    }
    return frame, {"solve_rates": rates, "unseen": frame.to_dict("records")}


def _above_random(result: SteeringResult) -> list[dict[str, Any]]:
    """The probe's vectors against random ones of their norm, paired over levels."""
    rows = []
    for row in result.rows:
        if row.layer is None or row.vector != "probe":
            continue
        gain = result.above_random(layer=row.layer, part=row.part, coefficient=row.coefficient)
        place = {"layer": row.layer, "part": row.part, "coefficient": row.coefficient}
        rows.append({**place, "value": gain.value, "low": gain.low, "high": gain.high})
    return rows


def _shortcuts(agent: Drc, levels: Levels | None, arguments: argparse.Namespace) -> Shortcuts:
    """Those of the given levels that have two ways, or new ones."""
    if levels is not None:
        return find_shortcuts(levels, arguments.mover)
    n_levels, shape = arguments.n_levels or N_LEVELS, _shape(arguments.agent)
    return generate_shortcuts(n_levels, arguments.mover, config=shape, seed=arguments.seed)


def _episodes(
    agent: Drc, levels: Levels, arguments: argparse.Namespace
) -> tuple[Episodes, Episodes]:
    """Episodes to fit to, on other levels than the given ones, and those on the given."""
    train = _train_levels(agent, levels, arguments)
    first, second = (play_episodes(agent, part, limit=arguments.limit) for part in (train, levels))
    return first, second


def _solved(episodes: Episodes) -> Episodes:
    """The episodes that were solved; all if none was."""
    return episodes[episodes.solved] if episodes.solved.any() else episodes


def _train_levels(agent: Drc, levels: Levels, arguments: argparse.Namespace) -> Levels:
    """The levels to fit to: those that were named, or new ones like the given."""
    if arguments.train is not None:
        return _levels(arguments.train, agent, None)
    shape = _like(levels.size, int(levels.n_boxes[0]))
    return generate_levels(N_TRAIN, config=shape, seed=derive(arguments.seed, "train"))


def _levels(path: Path | None, agent: Drc, arguments: argparse.Namespace | None) -> Levels:
    """Levels of the agent's size, new ones without a path."""
    limit = None if arguments is None else arguments.n_levels
    if path is None:
        assert arguments is not None
        shape = _shape(arguments.agent)
        seed = derive(arguments.seed, "test")
        return generate_levels(limit or N_LEVELS, config=shape, seed=seed)
    levels = load_levels(path, limit=limit)
    if levels.size != agent.config.size:
        raise ValueError(
            f"{path} has levels of {levels.size} inside their border, but the agent plays "
            f"{agent.config.size}"
        )
    return levels


def _shape(agent: str) -> GenerationConfig:
    """What the levels look like on which an agent was trained."""
    info = load_agent_info(agent)
    return _like(info.config.size, info.training.get("n_boxes", GenerationConfig().n_boxes))


def _like(size: tuple[int, int], n_boxes: int) -> GenerationConfig:
    """What new levels of a size look like: those with the form of Boxoban's have its walls too."""
    shape = GenerationConfig(size=size, n_boxes=n_boxes)
    return LEVEL_SET if (size, n_boxes) == (LEVEL_SET.size, LEVEL_SET.n_boxes) else shape


def _own_limit(agent: str) -> int:
    """The limit with which the agent's solve rate was measured."""
    return load_agent_info(agent).training.get("solve_rate", {}).get("limit", DEFAULT_LIMIT)


def _check_solvable(levels: Levels) -> None:
    """Raise at the first level without a solution."""
    for number, level in enumerate(levels):
        try:
            solve_optimally(level)
        except UnsolvableError as error:
            raise UnsolvableError(f"level {number}: {error}\n{level.to_text()}") from error
