"""Optimal Sokoban: the exact distance of every position of a level, and A* for a single one.

`DistanceTable` runs a breadth-first search backward from all solved positions, over every placement
of the boxes; a Boxoban level with four boxes has some 300,000 positions and takes about 0.1 s. The
table then answers for any position that an agent gets into: it is the expert for imitation, and the
oracle of tests. `solve_optimally` finds one shortest solution, also where a table would be too big.
"""

import heapq
import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from interp.core.errors import InterpError
from interp.planning.environment import Action
from interp.planning.levels import Levels

UNSOLVABLE = 255
"""Distance of positions from which no sequence of moves solves the level."""
_BLOCKED = 254


class UnsolvableError(InterpError, ValueError):
    """A level that no sequence of moves solves."""


@dataclass(frozen=True, kw_only=True)
class DistanceTable:
    """Moves to the solution from every position of one level."""

    distance: UInt8[np.ndarray, "placement cell"]
    """Moves by placement of the boxes and cell of the player, `UNSOLVABLE` if there is no way."""
    alive: Int[np.ndarray, " cell"]
    """Rank of each cell among those from which a box can still reach a target, or -1."""
    n_boxes: int
    """How many boxes the level has."""

    def lookup(
        self, boxes: Int[np.ndarray, "position box"], player: Int[np.ndarray, " position"]
    ) -> Int[np.ndarray, " position"]:
        """Moves to the solution from some positions.

        Args:
            boxes: Cells of the boxes, in any order.
            player: Cells of the player.

        Returns:
            Moves, or `UNSOLVABLE`.
        """
        ranks = np.sort(self.alive[boxes], axis=1)
        placement = _rank(np.maximum(ranks, 0))
        moves = self.distance[placement, player].astype(np.int64)
        return np.where(ranks[:, 0] < 0, UNSOLVABLE, moves)

    def placement_boxes(
        self, placements: Int[np.ndarray, " position"]
    ) -> Int[np.ndarray, "position box"]:
        """Cells of the boxes of some placements (rows of `distance`)."""
        cells = np.flatnonzero(self.alive >= 0)
        left, boxes = placements.copy(), np.empty((len(placements), self.n_boxes), dtype=np.int64)
        for k in range(self.n_boxes, 0, -1):
            counts = np.array([math.comb(n, k) for n in range(len(cells) + 1)])
            boxes[:, k - 1] = np.searchsorted(counts, left, side="right") - 1
            left -= counts[boxes[:, k - 1]]
        return cells[boxes]


def solve_distances(level: Levels) -> DistanceTable:
    """The distance to the solution of every position with the level's walls and targets.

    Args:
        level: A single level; where its boxes and player stand does not matter.

    Returns:
        The table. It takes a byte for each placement of the boxes on the cells that are not dead
        and each cell of the player.

    Raises:
        ValueError: If there is not exactly one level.
        OverflowError: If a solution takes more than 253 moves.
    """
    if len(level) != 1:
        raise ValueError(f"solve_distances takes one level at a time, not {len(level)}; use [[i]]")
    height, width = level.size
    open_cells = np.pad(~level.walls[0], 1).ravel()
    targets = np.flatnonzero(np.pad(level.targets[0], 1))
    alive = _alive_cells(open_cells, targets, width + 2)
    distance = _search_backward(open_cells, targets, alive, width + 2)
    inside = np.pad(np.ones((height, width), dtype=bool), 1).ravel()
    ranks = np.full(len(open_cells), -1)
    ranks[alive] = np.arange(len(alive))
    return DistanceTable(
        distance=np.ascontiguousarray(distance[:, inside]),
        alive=ranks[inside],
        n_boxes=len(targets),
    )


def solve_optimally(level: Levels, *, max_positions: int = 2_000_000) -> tuple[Action, ...]:
    """One shortest solution of a level, by A*.

    Args:
        level: A single level, with any number of boxes.
        max_positions: Give up after looking at this many positions.

    Returns:
        The moves; empty if the level is solved already.

    Raises:
        ValueError: If there is not exactly one level.
        UnsolvableError: If there is no solution, or none was found within `max_positions`.
    """
    if len(level) != 1:
        raise ValueError(f"solve_optimally takes one level at a time, not {len(level)}; use [[i]]")
    row = level.size[1] + 2
    open_cells = np.pad(~level.walls[0], 1).ravel()
    pushes = _push_distances(open_cells, np.flatnonzero(np.pad(level.targets[0], 1)), row)
    boxes = frozenset(np.flatnonzero(np.pad(level.boxes[0], 1)).tolist())
    player = int(
        np.flatnonzero(
            np.pad(np.arange(level.walls[0].size).reshape(level.size) == level.player[0], 1)
        )[0]
    )
    return _search_forward(open_cells.tolist(), pushes, (player, boxes), row, max_positions)


def _steps(row: int) -> dict[Action, int]:
    """Change of the cell number by each move."""
    return {Action.UP: -row, Action.DOWN: row, Action.LEFT: -1, Action.RIGHT: 1}


def _alive_cells(
    open_cells: Bool[np.ndarray, " cell"], targets: Int[np.ndarray, " target"], row: int
) -> Int[np.ndarray, " alive"]:
    """Cells from which a single box can be pushed to some target."""
    return np.flatnonzero(_push_distances(open_cells, targets, row) < np.inf)


def _push_distances(
    open_cells: Bool[np.ndarray, " cell"], targets: Int[np.ndarray, " target"], row: int
) -> np.ndarray:
    """Pushes that a single box needs to its nearest target, or infinity; other boxes ignored."""
    pushes = np.full(len(open_cells), np.inf)
    pushes[targets] = 0
    frontier = targets.tolist()
    while frontier:
        reached = []
        for cell, step in itertools.product(frontier, _steps(row).values()):
            pulled, player = cell - step, cell - 2 * step
            if open_cells[pulled] and open_cells[player] and pushes[pulled] == np.inf:
                pushes[pulled] = pushes[cell] + 1
                reached.append(pulled)
        frontier = reached
    return pushes


def _rank(placement: Int[np.ndarray, "position box"]) -> Int[np.ndarray, " position"]:
    """Number of a placement (increasing ranks of cells) in the combinatorial number system."""
    total = placement[:, 0].astype(np.int64)
    falling = np.ones_like(total)
    for k in range(1, placement.shape[1]):
        ranks = placement[:, k].astype(np.int64)
        falling = np.ones_like(total)
        for j in range(k + 1):
            falling = falling * (ranks - j) // (j + 1)
        total = total + falling
    return total


def _search_backward(
    open_cells: Bool[np.ndarray, " cell"],
    targets: Int[np.ndarray, " target"],
    alive: Int[np.ndarray, " alive"],
    row: int,
) -> UInt8[np.ndarray, "placement cell"]:
    """Breadth-first search from all solved positions, undoing moves and pushes."""
    n_cells = len(open_cells)
    placements = np.array(list(itertools.combinations(range(len(alive)), len(targets))))
    order = np.empty(len(placements), dtype=np.int64)
    order[_rank(placements)] = np.arange(len(placements))
    placements = placements[order]
    occupied = np.zeros((len(placements), n_cells), dtype=bool)
    np.put_along_axis(occupied, alive[placements], True, axis=1)
    distance = np.where(open_cells & ~occupied, UNSOLVABLE, _BLOCKED).astype(np.uint8)
    ranks = np.full(n_cells, -1)
    ranks[alive] = np.arange(len(alive))
    flat, taken = distance.ravel(), occupied.ravel()
    solved = _rank(ranks[np.sort(targets)][None])[0]
    frontier = solved * n_cells + np.flatnonzero(distance[solved] == UNSOLVABLE)
    flat[frontier] = 0
    for moves in range(1, _BLOCKED + 1):
        if moves == _BLOCKED and len(frontier):
            raise OverflowError("a position of this level is more than 253 moves from the solution")
        reached = []
        for step in _steps(row).values():
            before = flat[frontier - step]
            reached.append((frontier - step)[before == UNSOLVABLE])
            flat[reached[-1]] = moves
            pulls = frontier[(before != _BLOCKED) & taken[frontier + step]]
            pulled = _undo_push(pulls, step, placements, ranks, n_cells)
            reached.append(pulled[flat[pulled] == UNSOLVABLE])
            flat[reached[-1]] = moves
        frontier = np.concatenate(reached)
        if not len(frontier):
            break
    distance[distance == _BLOCKED] = UNSOLVABLE
    return distance


def _undo_push(
    positions: Int[np.ndarray, " position"],
    step: int,
    placements: Int[np.ndarray, "placement box"],
    ranks: Int[np.ndarray, " cell"],
    n_cells: int,
) -> Int[np.ndarray, " position"]:
    """Positions before the player pushed the box that now stands in front of it."""
    placement, player = np.divmod(positions, n_cells)
    boxes = placements[placement]
    pushed = boxes == ranks[player + step][:, None]
    boxes = np.sort(np.where(pushed, ranks[player][:, None], boxes), axis=1)
    return _rank(boxes) * n_cells + player - step


def _search_forward(
    open_cells: list[bool],
    pushes: np.ndarray,
    start: tuple[int, frozenset[int]],
    row: int,
    max_positions: int,
) -> tuple[Action, ...]:
    """A* over positions (player, boxes); the pushes still needed never exceed the moves."""
    bound = pushes.tolist()
    came: dict[tuple[int, frozenset[int]], tuple[int, Action | None, object]] = {}
    came[start] = (0, None, None)
    queue = [(sum(bound[box] for box in start[1]), 0, 0, start)]
    counter = itertools.count(1)
    while queue and len(came) <= max_positions:
        estimate, _, moves, position = heapq.heappop(queue)
        player, boxes = position
        if estimate == math.inf:
            break
        if came[position][0] < moves:
            continue
        if estimate == moves and all(bound[box] == 0 for box in boxes):
            return _trace(came, position)
        for action, step in _steps(row).items():
            to, after = player + step, boxes
            if not open_cells[to]:
                continue
            if to in boxes:
                if not open_cells[to + step] or to + step in boxes:
                    continue
                after = boxes - {to} | {to + step}
            successor, known = (to, after), came.get((to, after))
            if known is None or known[0] > moves + 1:
                came[successor] = (moves + 1, action, position)
                left = sum(bound[box] for box in after)
                if left < math.inf:
                    item = (moves + 1 + left, next(counter), moves + 1, successor)
                    heapq.heappush(queue, item)
    found = f"none within max_positions={max_positions}" if queue else "the level is unsolvable"
    raise UnsolvableError(f"no solution found: {found} ({len(came)} positions were looked at)")


def _trace(came: dict, position: tuple[int, frozenset[int]]) -> tuple[Action, ...]:
    """The moves that led to a position."""
    moves = []
    while came[position][1] is not None:
        _, action, position = came[position]
        moves.append(action)
    return tuple(reversed(moves))
