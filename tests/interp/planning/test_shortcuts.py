import numpy as np
import pytest

from interp.planning.environment import Action
from interp.planning.generation import GenerationConfig
from interp.planning.levels import load_levels, parse_levels
from interp.planning.rollouts import replay_actions
from interp.planning.shortcuts import (
    find_shortcuts,
    generate_shortcuts,
    took_long_way,
    with_symmetries,
)
from interp.planning.solver import solve_optimally

AGENT = parse_levels(
    """
#########
#  @   ##
# #### ##
# #### ##
#      ##
#####  ##
##### $.#
#########
#########
"""
)


def test_the_agent_has_two_ways_round_a_block() -> None:
    found = find_shortcuts(AGENT, "agent")
    assert found.short[0].sum() >= 2
    assert found.short[0].ravel()[found.checkpoint[0]]
    assert not found.long[0].ravel()[found.checkpoint[0]]
    # the long way first goes left, to the square beside the start
    assert np.argwhere(found.order[0] == 0).tolist() == [[0, 1]]
    assert found.long[0, 0, 1] == Action.LEFT
    assert found.long[0, 1, 0] == Action.DOWN
    assert found.short[0, 0].tolist() == [False, False, False, True, True, True, False]


def test_the_short_solution_takes_the_short_way_and_the_other_the_long_one() -> None:
    found = with_symmetries(find_shortcuts(AGENT, "agent"))
    assert len(found) == 8
    short = replay_actions(found.levels, [solve_optimally(level) for level in found.levels])
    assert short.solved.all()
    assert not took_long_way(found, short).any()
    walls = found.levels.walls.copy()
    walls.reshape(8, -1)[np.arange(8), found.checkpoint] = True
    blocked = parse_levels(found.levels.to_text())
    blocked = type(blocked)(
        walls=walls, boxes=blocked.boxes, targets=blocked.targets, player=blocked.player
    )
    long = replay_actions(found.levels, [solve_optimally(level) for level in blocked])
    assert took_long_way(found, long).all()


def test_generated_levels_have_two_ways_too() -> None:
    config = GenerationConfig(size=(5, 5), n_boxes=1, distance=(6, 25), wall_share=(0.2, 0.4))
    found = generate_shortcuts(2, "agent", config=config, seed=0)
    assert len(found) == 2
    assert (found.base == np.arange(2)).all()
    for k in range(2):
        assert found.short[k].sum() >= 2
        ranks = np.sort(found.order[k][found.order[k] >= 0])
        np.testing.assert_array_equal(ranks, np.arange(len(ranks)))


def test_a_box_has_two_ways() -> None:
    config = GenerationConfig(size=(5, 5), n_boxes=1, distance=(6, 25), wall_share=(0.0, 0.2))
    found = generate_shortcuts(2, "box", config=config, seed=0)
    short = replay_actions(found.levels, [solve_optimally(level) for level in found.levels])
    assert not took_long_way(found, short).any()
    assert found.concept == "box_push"


def test_levels_without_a_second_way_are_named() -> None:
    with pytest.raises(ValueError, match="none of 1 levels offers the agent a second way"):
        find_shortcuts(parse_levels("######\n#@$ .#\n######\n"), "agent")


def test_the_published_levels_have_two_ways(data_dir) -> None:
    folder = data_dir / "emergent_planning_levels"
    levels = load_levels(folder / "shortcut.txt", limit=40)[::8]
    assert len(find_shortcuts(levels[:2], "agent")) == 2
