"""Motifs of planning in what probes read tick by tick: how routes of boxes grow and change.

After the examples of Bush et al. 2025 (arXiv 2504.01871), found by rules instead of by eye. The
route of a box at a tick is the chain of `box_push` directions that begins on its square.

- forward, backward: the squares of the final route, which ends on a target, come to stay one after
  the other from the box, or from the target.
- evaluative: a route to elsewhere that stood for some ticks is given up for one to a target.
- adaptive: two boxes that were led to the same target end at different ones.

Any flickering plan has such motifs by chance. `shuffle_ticks` gives the same plans in random order,
on which the counts are the control.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from interp.core.seeds import derive
from interp.planning.levels import Levels

MotifKind = Literal["forward", "backward", "evaluative", "adaptive"]
_LEAST_TICKS, _LEAST_PUSHES = 2, 2
"""Ticks that a plan must have stood, and its pushes, for giving it up to count."""
_STEPS = {1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}


@dataclass(frozen=True, kw_only=True)
class Motif:
    """One motif in the plans of one level."""

    kind: MotifKind
    """Which."""
    level: int
    """Number of the level."""
    tick: int
    """The tick at which it begins, from 0."""
    until: int
    """The tick at which the final routes stand."""
    strength: int
    """For forward and backward how many different ticks the squares came at; for the others how
    many ticks the plan stood that was then given up."""
    squares: tuple[int, ...]
    """Squares of the final routes, counted row by row."""


def find_motifs(
    plans: Int[np.ndarray, "level tick height width"], levels: Levels, *, least: int = 3
) -> list[Motif]:
    """All motifs in the plans of levels, the strongest first.

    Args:
        plans: Classes of `box_push` after every tick, while nothing moves.
        levels: The levels.
        least: Lowest strength of forward and backward motifs; the others need at least 2 ticks.

    Raises:
        ValueError: If there is not one plan for each level.
    """
    if len(plans) != len(levels):
        raise ValueError(f"plans are of {len(plans)} levels, but there are {len(levels)}")
    found: list[Motif] = []
    for number, plan in enumerate(plans):
        boxes, targets = levels.boxes[number], levels.targets[number]
        found += _growth(number, plan, boxes, targets, least)
        found += _changes(number, plan, boxes, targets)
    return sorted(found, key=lambda motif: -motif.strength)


def count_motifs(motifs: list[Motif], n_levels: int) -> pd.DataFrame:
    """In how many of the levels each kind was found.

    Args:
        motifs: What `find_motifs` returned.
        n_levels: How many levels were searched.
    """
    kinds = get_args(MotifKind)
    having = {kind: {motif.level for motif in motifs if motif.kind == kind} for kind in kinds}
    counts = [len(having[kind]) for kind in kinds]
    return pd.DataFrame({"kind": kinds, "n_levels": counts, "share": np.array(counts) / n_levels})


def shuffle_ticks(
    plans: Int[np.ndarray, "level tick height width"], *, seed: int = 0
) -> Int[np.ndarray, "level tick height width"]:
    """The plans of each level in random order of ticks; the last one stays the last.

    Args:
        plans: Classes after every tick.
        seed: Seed of the orders.
    """
    random, n_last = np.random.default_rng(derive(seed, "ticks")), plans.shape[1] - 1
    order = random.permuted(np.tile(np.arange(n_last), (len(plans), 1)), axis=1)
    order = np.concatenate([order, np.full((len(plans), 1), n_last)], axis=1)
    return np.take_along_axis(plans, order[:, :, None, None], axis=1)


def follow_route(
    plan: Int[np.ndarray, "height width"], square: tuple[int, int]
) -> list[tuple[int, int]]:
    """Squares of the route that begins on a square, with the one on which it ends.

    Args:
        plan: Classes of `box_push`.
        square: Row and column where the box stands; alone if the plan says never there.
    """
    route = [square]
    while (move := int(plan[route[-1]])) > 0:
        down, right = _STEPS[move]
        following = route[-1][0] + down, route[-1][1] + right
        inside = 0 <= following[0] < plan.shape[0] and 0 <= following[1] < plan.shape[1]
        if not inside or following in route:
            break
        route.append(following)
    return route


def _growth(
    level: int,
    plan: Int[np.ndarray, "tick height width"],
    boxes: Bool[np.ndarray, "height width"],
    targets: Bool[np.ndarray, "height width"],
    least: int,
) -> Iterator[Motif]:
    """Routes whose squares came to stay in the order from one end to the other."""
    for box in _squares(boxes):
        route = follow_route(plan[-1], box)
        if len(route) <= least or not targets[route[-1]]:
            continue
        onsets = np.array([_onset(plan[:, row, column]) for row, column in route[:-1]])
        strength = len(np.unique(onsets))
        rises, falls = (np.diff(onsets) >= 0).all(), (np.diff(onsets) <= 0).all()
        if strength < least or not (rises or falls):
            continue
        yield Motif(
            kind="forward" if rises else "backward",
            level=level,
            tick=int(onsets.min()),
            until=int(onsets.max()),
            strength=strength,
            squares=_flat([route], plan.shape[2]),
        )


def _changes(
    level: int,
    plan: Int[np.ndarray, "tick height width"],
    boxes: Bool[np.ndarray, "height width"],
    targets: Bool[np.ndarray, "height width"],
) -> Iterator[Motif]:
    """Routes that were given up, and pairs of boxes that stopped sharing a target."""
    routes = {box: [follow_route(now, box) for now in plan] for box in _squares(boxes)}
    for own in routes.values():
        given_up = [len(route) > _LEAST_PUSHES and route[-1] not in own[-1] for route in own]
        if sum(given_up) >= _LEAST_TICKS and len(own[-1]) > 1 and targets[own[-1][-1]]:
            yield _change("evaluative", level, given_up, [own[-1]], plan.shape[2])
    for one, other in itertools.combinations(routes.values(), 2):
        ends = [(a[-1], b[-1]) for a, b in zip(one, other, strict=True)]
        shared = [a == b and bool(targets[a]) for a, b in ends]
        apart = ends[-1][0] != ends[-1][1] and all(targets[end] for end in ends[-1])
        if sum(shared) >= _LEAST_TICKS and apart:
            yield _change("adaptive", level, shared, [one[-1], other[-1]], plan.shape[2])


def _change(kind: MotifKind, level: int, before: list[bool], routes: list, width: int) -> Motif:
    ticks = np.flatnonzero(before)
    return Motif(
        kind=kind,
        level=level,
        tick=int(ticks[0]),
        until=int(ticks[-1]) + 1,
        strength=len(ticks),
        squares=_flat(routes, width),
    )


def _onset(classes: Int[np.ndarray, " tick"]) -> int:
    """The tick from which a square has its final class."""
    other = np.flatnonzero(classes != classes[-1])
    return int(other[-1]) + 1 if len(other) else 0


def _squares(plane: Bool[np.ndarray, "height width"]) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(plane)]


def _flat(routes: list, width: int) -> tuple[int, ...]:
    return tuple(row * width + column for route in routes for row, column in route)
