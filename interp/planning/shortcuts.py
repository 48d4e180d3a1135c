"""Levels with a short and a long way, to see whether an intervention on a plan changes the way.

After Bush et al. 2025 (arXiv 2504.01871), whose Agent-Shortcut levels offer the agent two ways to
the same box, and whose Box-Shortcut levels offer a box two ways to its target. Here both ways are
found by the solver: the short one is an optimal solution, the long one an optimal solution of the
level with one square of the short way walled up. So any level will do that has such a square.
"""

import itertools
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from interp.core.seeds import derive
from interp.planning.concepts import label_concept
from interp.planning.environment import Action
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import Levels, concatenate_levels
from interp.planning.rollouts import Episodes, replay_actions
from interp.planning.solver import UnsolvableError, solve_optimally
from interp.planning.symmetry import (
    N_SYMMETRIES,
    transform_action,
    transform_levels,
    transform_plane,
)

Mover = Literal["agent", "box"]
_MOST_CANDIDATES = 3
"""Squares of the short way that are tried as checkpoint."""
_CONCEPT = {"agent": "agent_approach", "box": "box_push"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shortcuts:
    """Levels with two ways, and where they differ."""

    levels: Levels
    """The levels."""
    mover: Mover
    """Who has two ways: the agent to the first box that it pushes, or a box to where it goes."""
    short: Bool[np.ndarray, "level height width"]
    """Squares of the short way alone."""
    long: Int[np.ndarray, "level height width"]
    """Direction of the concept on the squares where the long way differs, 0 elsewhere."""
    order: Int[np.ndarray, "level height width"]
    """Place of these squares along the long way, from 0; -1 elsewhere."""
    checkpoint: Int[np.ndarray, " level"]
    """A square of the short way that the long way avoids, counted row by row."""
    base: Int[np.ndarray, " level"]
    """Which levels are symmetric copies of each other: those with the same number."""

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> "Shortcuts":
        """A subset of the levels."""
        arrays = {
            field.name: getattr(self, field.name)[index]
            for field in fields(self)
            if field.name != "mover"
        }
        return Shortcuts(mover=self.mover, **arrays)

    @property
    def concept(self) -> str:
        """The concept whose probe can change the way: C_A for the agent, C_B for a box."""
        return _CONCEPT[self.mover]


def find_shortcuts(levels: Levels, mover: Mover, *, detour: int = 2) -> Shortcuts:
    """The levels that have two ways, and their ways.

    Args:
        levels: Any solvable levels; those without a second way are left out.
        mover: Whose ways.
        detour: How many moves longer the second solution must be at least.

    Raises:
        ValueError: If no level has two ways.
    """
    found = []
    for number, level in enumerate(levels):
        one = _two_ways(level, mover, detour)
        if one is not None:
            found.append((number, *one))
    if not found:
        raise ValueError(f"none of {len(levels)} levels offers the {mover} a second way")
    numbers, short, long, order, checkpoint = (list(column) for column in zip(*found, strict=True))
    return Shortcuts(
        levels=levels[numbers],
        mover=mover,
        short=np.stack(short),
        long=np.stack(long),
        order=np.stack(order),
        checkpoint=np.array(checkpoint),
        base=np.array(numbers),
    )


def generate_shortcuts(
    n_levels: int, mover: Mover, *, config: GenerationConfig, detour: int = 2, seed: int = 0
) -> Shortcuts:
    """Newly generated levels with two ways.

    Args:
        n_levels: How many.
        mover: Whose ways.
        config: What the levels look like.
        detour: How many moves longer the second solution must be at least.
        seed: Seed of the draws.
    """
    parts: list[Shortcuts] = []
    for batch in range(1000):
        drawn = generate_levels(n_levels, config=config, seed=derive(seed, "shortcuts", batch))
        try:
            parts.append(find_shortcuts(drawn, mover, detour=detour))
        except ValueError:
            continue
        if sum(map(len, parts)) >= n_levels:
            break
    joined = concatenate_shortcuts(parts)[:n_levels]
    return Shortcuts(**{**_as_fields(joined), "base": np.arange(len(joined))})


def with_symmetries(shortcuts: Shortcuts) -> Shortcuts:
    """Every level in its eight symmetric forms; the boards must be square."""
    return concatenate_shortcuts(
        [_transform(shortcuts, symmetry) for symmetry in range(N_SYMMETRIES)]
    )


def concatenate_shortcuts(parts: list[Shortcuts]) -> Shortcuts:
    """Levels of the same mover one after the other."""
    if len({part.mover for part in parts}) != 1:
        raise ValueError("only levels with two ways of the same mover can be joined")
    names = ("short", "long", "order", "checkpoint", "base")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    levels = concatenate_levels([part.levels for part in parts])
    return Shortcuts(levels=levels, mover=parts[0].mover, **arrays)


def took_long_way(shortcuts: Shortcuts, episodes: Episodes) -> Bool[np.ndarray, " level"]:
    """Which levels were solved without the agent, or a box, ever standing on the checkpoint."""
    rows = np.arange(len(shortcuts))
    if shortcuts.mover == "agent":
        touched = (episodes.player == shortcuts.checkpoint[:, None]).any(1)
    else:
        flat = episodes.boxes.reshape(*episodes.boxes.shape[:2], -1)
        touched = flat[rows, :, shortcuts.checkpoint].any(1)
    return episodes.solved & ~touched


def _two_ways(level: Levels, mover: Mover, detour: int) -> tuple | None:
    """Short squares, long directions with their order, and the checkpoint, of a level."""
    try:
        solution = solve_optimally(level)
    except UnsolvableError:
        return None
    best = None
    for first, short in _ways(level, solution, mover).items():
        for checkpoint in _candidates(level, short, mover):
            walls = level.walls.copy()
            walls.reshape(1, -1)[:, checkpoint] = True
            blocked = replace(level, walls=walls)
            try:
                other = solve_optimally(blocked, max_positions=200_000)
            except UnsolvableError:
                continue
            long = _ways(level, other, mover).get(first)
            if long is None or len(other) < len(solution) + detour:
                continue
            alone = (short[0] > 0) & (long[0] == 0)
            if alone.sum() < 2:
                continue
            if best is None or len(other) < best[0]:
                differs = (long[0] > 0) & (long[0] != short[0])
                order = np.where(differs, long[1], -1)
                ranks = np.searchsorted(np.unique(order[differs]), order)
                best = (
                    len(other),
                    alone,
                    np.where(differs, long[0], 0),
                    np.where(differs, ranks, -1),
                    checkpoint,
                )
    return None if best is None else best[1:]


def _ways(
    level: Levels, solution: tuple[Action, ...], mover: Mover
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Classes and waiting times of the mover's way, by the square where it starts.

    The agent has one way, to the first box that it pushes; every box that is pushed has its own.
    """
    episode = replay_actions(level, [solution])
    if mover == "agent":
        pushes = (episode.boxes[0, 1:] != episode.boxes[0, :-1]).any((1, 2))
        part = replay_actions(level, [solution[: int(pushes.argmax()) + 1]])
        labels = label_concept(part, "agent_approach")
        return {int(level.player[0]): (labels.classes[0], labels.wait[0])}
    labels = label_concept(episode, "box_push")
    ways = {}
    for square in np.flatnonzero(level.boxes[0]).tolist():
        way = _box_way(episode, square)
        if way.any():
            ways[square] = (np.where(way, labels.classes[0], 0), labels.wait[0])
    return ways


def _box_way(episode: Episodes, square: int) -> Bool[np.ndarray, "height width"]:
    """Squares that the box that starts on a square is pushed off."""
    way, box = np.zeros(episode.levels.walls[0].size, dtype=bool), square
    flat = episode.boxes[0].reshape(len(episode.boxes[0]), -1)
    for before, after in itertools.pairwise(flat):
        if before[box] and not after[box]:
            way[box] = True
            box = int(np.flatnonzero(after & ~before)[0])
    return way.reshape(episode.levels.size)


def _candidates(level: Levels, way: tuple[np.ndarray, np.ndarray], mover: Mover) -> list[int]:
    """Squares of the short way that can be walled up: some near its middle."""
    taken = (level.boxes[0] | level.targets[0]).ravel()
    if mover == "agent":
        taken[level.player[0]] = True
    squares = np.flatnonzero((way[0] > 0).ravel() & ~taken)
    squares = squares[np.argsort(way[1].ravel()[squares])]
    middle = np.argsort(np.abs(np.arange(len(squares)) - len(squares) / 2))
    return squares[middle[:_MOST_CANDIDATES]].tolist()


def _transform(shortcuts: Shortcuts, symmetry: int) -> Shortcuts:
    """The levels and their ways under one symmetry."""
    size = shortcuts.levels.size
    marks = np.arange(size[0] * size[1]) == shortcuts.checkpoint[:, None]
    turned = transform_plane(marks.reshape(-1, *size), symmetry)
    moves = np.array([transform_action(action, symmetry) for action in range(5)])
    return Shortcuts(
        levels=transform_levels(shortcuts.levels, symmetry),
        mover=shortcuts.mover,
        short=transform_plane(shortcuts.short, symmetry).copy(),
        long=moves[transform_plane(shortcuts.long, symmetry)],
        order=transform_plane(shortcuts.order, symmetry).copy(),
        checkpoint=turned.reshape(len(shortcuts), -1).argmax(1),
        base=shortcuts.base,
    )


def _as_fields(shortcuts: Shortcuts) -> dict:
    return {field.name: getattr(shortcuts, field.name) for field in fields(shortcuts)}
