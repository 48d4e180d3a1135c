import csv
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.planning.environment import SokobanBatch
from interp.planning.generation import (
    LEVEL_SET,
    GenerationConfig,
    generate_levels,
    load_level_set,
)
from interp.planning.levels import Levels, load_levels, parse_levels
from interp.planning.solver import (
    UNSOLVABLE,
    UnsolvableError,
    solve_distances,
    solve_optimally,
)


def brute_force(level: Levels) -> int | None:
    """Length of the shortest solution by forward breadth-first search over text-like states."""
    height, width = level.size
    walls = {tuple(p) for p in np.argwhere(level.walls[0])}
    free = {(r, c) for r in range(height) for c in range(width)} - walls
    targets = frozenset(map(tuple, np.argwhere(level.targets[0])))
    player = tuple(divmod(int(level.player[0]), width))
    start = (player, frozenset(map(tuple, np.argwhere(level.boxes[0]))))
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        ((r, c), boxes), moves = queue.popleft()
        if boxes == targets:
            return moves
        for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            to, far, after = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc), boxes
            if to not in free:
                continue
            if to in boxes:
                if far not in free or far in boxes:
                    continue
                after = boxes - {to} | {far}
            if (to, after) not in seen:
                seen.add((to, after))
                queue.append(((to, after), moves + 1))
    return None


def start_distance(level: Levels) -> int:
    boxes = np.flatnonzero(level.boxes[0])[None]
    return int(solve_distances(level).lookup(boxes, level.player)[0])


@pytest.fixture(scope="module")
def generated() -> Levels:
    return generate_levels(6, config=GenerationConfig(size=(4, 5), distance=(3, 40)), seed=0)


def test_tables_and_astar_agree_with_brute_force(generated) -> None:
    for level in generated:
        moves = brute_force(level)
        assert start_distance(level) == moves
        assert len(solve_optimally(level)) == moves


def test_every_position_of_a_level_has_its_brute_force_distance() -> None:
    level = parse_levels("######\n#@$. #\n#  $ #\n#.## #\n######\n")
    table = solve_distances(level)
    cells = np.flatnonzero(table.alive >= 0)
    for a in cells:
        for b in cells[cells > a]:
            for player in np.flatnonzero(~level.walls[0].ravel()):
                if player in (a, b):
                    continue
                boxes = np.zeros(level.walls.shape, dtype=bool)
                boxes.reshape(-1)[[a, b]] = True
                position = Levels(
                    walls=level.walls,
                    boxes=boxes,
                    targets=level.targets,
                    player=np.array([player]),
                )
                expected = brute_force(position)
                found = table.lookup(np.array([[b, a]]), np.array([player]))[0]
                assert found == (UNSOLVABLE if expected is None else expected)


def test_solutions_solve_when_played(generated) -> None:
    for level in generated:
        game = SokobanBatch(level, 1, autoreset=False)
        solved = [bool(game.step(torch.tensor([a])).solved) for a in solve_optimally(level)]
        assert solved[-1]
        assert not any(solved[:-1])


def test_boxoban_distances_are_those_of_the_published_solutions(data_dir: Path) -> None:
    folder = data_dir / "boxoban"
    with (folder / "astar_solutions_medium_valid.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"] == "000"][1:5]
    levels = load_levels(folder / "medium" / "valid" / "000.txt")
    for row in rows:
        assert start_distance(levels[[int(row["level"])]]) == int(row["length"])


def test_placements_are_numbered_without_gaps(generated) -> None:
    table = solve_distances(generated[[0]])
    numbers = np.arange(len(table.distance))
    boxes = table.placement_boxes(numbers)
    assert len({tuple(sorted(row)) for row in boxes.tolist()}) == len(numbers)
    for player in (0, 7, 13):
        players = np.full(len(numbers), player)
        np.testing.assert_array_equal(table.lookup(boxes, players), table.distance[:, player])


def test_levels_without_a_solution_are_named() -> None:
    stuck = parse_levels("#####\n#$ @#\n#  .#\n#####\n")
    assert start_distance(stuck) == UNSOLVABLE
    with pytest.raises(UnsolvableError, match="the level is unsolvable"):
        solve_optimally(stuck)
    hard = generate_levels(1, config=GenerationConfig(distance=(25, 45)), seed=0)
    with pytest.raises(UnsolvableError, match="max_positions=10"):
        solve_optimally(hard, max_positions=10)


def test_a_solved_level_needs_no_move() -> None:
    assert solve_optimally(parse_levels("####\n#@*#\n####\n")) == ()


def test_only_one_level_is_taken_at_a_time(generated) -> None:
    with pytest.raises(ValueError, match="one level at a time, not 6"):
        solve_distances(generated)
    with pytest.raises(ValueError, match="one level at a time, not 6"):
        solve_optimally(generated)


def test_generated_levels_are_as_far_as_asked() -> None:
    config = GenerationConfig(size=(4, 5), n_boxes=3, distance=(8, 20))
    levels = generate_levels(4, config=config, seed=2)
    assert levels.n_boxes.tolist() == [3] * 4
    assert all(8 <= start_distance(level) <= 20 for level in levels)
    again = generate_levels(4, config=config, seed=2)
    np.testing.assert_array_equal(again.boxes, levels.boxes)
    with pytest.raises(ValueError, match="only 0 of 2 levels found"):
        generate_levels(2, config=GenerationConfig(size=(3, 3), distance=(90, 95)), max_layouts=5)


def test_the_shipped_levels_are_what_their_config_makes() -> None:
    levels = load_level_set()
    assert len(levels) == 1000
    assert levels.size == LEVEL_SET.size
    assert set(levels.n_boxes.tolist()) == {LEVEL_SET.n_boxes}
    again = generate_levels(3, config=LEVEL_SET)
    assert [one.to_text() for one in again] == [one.to_text() for one in levels[:3]]
    assert len(solve_optimally(levels[[0]])) >= LEVEL_SET.distance[0]
