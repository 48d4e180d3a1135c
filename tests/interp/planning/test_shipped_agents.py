"""The agents that come with the package: they load, and do what they are said to do."""

import dataclasses
import json
from pathlib import Path

import pytest

from interp.planning.agents import list_agents, load_agent, load_agent_info
from interp.planning.evaluation import play_levels
from interp.planning.generation import generate_levels, load_level_set
from interp.planning.levels import load_levels
from interp.planning.recipes import (
    BOXOBAN_AGENT,
    BOXOBAN_TRAINING,
    REINFORCED_AGENT,
    REINFORCED_TRAINING,
    SMALL_AGENT,
    SMALL_LIMIT,
    SMALL_TRAINING,
)


def test_there_are_three() -> None:
    assert list_agents() == ["boxoban-drc33", "reinforced-drc21", "small-drc33"]


@pytest.mark.parametrize("name", list_agents())
def test_training_can_be_followed(name: str) -> None:
    info = load_agent_info(name)
    assert len(info.snapshots) >= 6
    assert info.snapshots[0] == 0
    assert info.snapshots[-1] == info.curve[-1]["transitions"] == info.training["transitions"]
    assert info.curve[0]["solve_rate"] < info.curve[-1]["solve_rate"] - 0.2


def test_the_small_agent_solves_new_levels_and_its_untrained_self_does_not() -> None:
    levels = generate_levels(32, seed=77)
    trained = play_levels(load_agent("small-drc33"), levels, limit=60).solve_rate
    untrained = play_levels(load_agent("small-drc33", transitions=0), levels, limit=60).solve_rate
    assert untrained < 0.1
    assert trained > 0.65  # 0.86 of 256 when it was trained


def test_the_small_agent_is_what_its_recipe_makes() -> None:
    info = load_agent_info("small-drc33")
    recipe = json.loads(json.dumps(dataclasses.asdict(SMALL_TRAINING)))
    assert info.config == SMALL_AGENT
    assert info.training["config"] == recipe | {"seed": 0}
    assert info.training["transitions"] >= SMALL_TRAINING.transitions
    assert info.training["process_cpu_seconds"] < 25 * 60
    assert info.training["solve_rate"]["limit"] == SMALL_LIMIT
    assert info.training["solve_rate"]["value"] >= 0.8


def test_the_boxoban_agent_solves_levels_like_boxobans_and_its_untrained_self_does_not() -> None:
    levels = load_level_set()[:32]
    trained = play_levels(load_agent("boxoban-drc33"), levels, limit=115).solve_rate
    untrained = play_levels(load_agent("boxoban-drc33", transitions=0), levels, limit=60).solve_rate
    assert untrained < 0.1
    assert trained > 0.5


def test_the_boxoban_agent_solves_most_of_boxoban(data_dir: Path) -> None:
    levels = load_levels(data_dir / "boxoban" / "unfiltered" / "valid", limit=64)
    assert play_levels(load_agent("boxoban-drc33"), levels, limit=115).solve_rate > 0.5


def test_the_boxoban_agent_is_what_its_recipe_makes() -> None:
    info = load_agent_info("boxoban-drc33")
    recipe = json.loads(json.dumps(dataclasses.asdict(BOXOBAN_TRAINING)))
    assert info.config == BOXOBAN_AGENT
    assert info.training["config"] == recipe | {"seed": 0}
    assert info.training["transitions"] >= BOXOBAN_TRAINING.transitions
    assert info.training["solve_rate"]["value"] >= 0.6


def test_the_reinforced_agent_solves_new_levels_and_its_first_snapshots_do_not() -> None:
    info, levels = load_agent_info("reinforced-drc21"), generate_levels(32, seed=77)
    rates = [
        play_levels(load_agent("reinforced-drc21", transitions=at), levels, limit=60).solve_rate
        for at in (info.snapshots[0], info.snapshots[-1])
    ]
    assert rates[0] < 0.1
    assert rates[1] > 0.6


def test_the_reinforced_agent_is_what_its_recipe_makes_without_any_imitation() -> None:
    info = load_agent_info("reinforced-drc21")
    recipe = json.loads(json.dumps(dataclasses.asdict(REINFORCED_TRAINING)))
    assert info.config == REINFORCED_AGENT
    assert info.training["config"] == recipe | {"seed": 0}
    assert info.training["config"]["imitation_transitions"] == 0
    assert info.training["transitions"] >= REINFORCED_TRAINING.transitions
