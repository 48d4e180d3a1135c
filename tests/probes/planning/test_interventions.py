import copy

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from interp.planning.drc import Drc, DrcConfig
from interp.planning.environment import Action
from interp.planning.evaluation import play_levels
from interp.planning.levels import parse_levels
from interp.planning.rollouts import hook_agent, observe, play_episodes
from interp.planning.shortcuts import Shortcuts, find_shortcuts, took_long_way
from probes.planning.interventions import (
    SteeringConfig,
    measure_steering,
    probe_vectors,
    random_vectors,
    steer_along,
    wilson_interval,
)
from probes.planning.reading import ReadingConfig
from probes.planning.spatial import SpatialProbe
from probes.planning.thinking import measure_emergence, measure_thinking, plot_emergence

LEVEL = parse_levels(
    """
#######
# @   #
# ### #
#     #
# #####
# $ . #
#######
"""
)


@pytest.fixture(scope="module")
def shortcuts() -> Shortcuts:
    """The agent can go round the block by the left (shorter) or by the right."""
    return find_shortcuts(LEVEL, "agent")


@pytest.fixture(scope="module")
def follower() -> Drc:
    """An agent that moves where channel k of its cell says so, and else toward the left."""
    config = DrcConfig(depth=2, ticks=2, channels=5, size=(5, 5), d_hidden=5)
    agent = Drc(config).eval().requires_grad_(False)
    for parameter in agent.parameters():
        parameter.zero_()
    agent.layers[1].conv.bias[5:10] = -50.0  # forget
    agent.layers[1].conv.bias[10:15] = 50.0  # and show
    weight = agent.head.weight.view(5, 10, 5, 5)
    for k in range(5):
        weight[k, 5 + k] = 1.0
    agent.policy.weight.copy_(100 * torch.eye(5))
    agent.policy.bias[Action.LEFT] = 1.0
    return agent


def test_the_level_has_the_two_ways_that_it_seems_to_have(shortcuts) -> None:
    assert shortcuts.short[0, 0, 0]
    assert shortcuts.long[0, 0, 2] == Action.RIGHT
    assert shortcuts.order[0, 0, 2] == 0


def test_an_agent_that_follows_its_cells_is_directed(follower, shortcuts) -> None:
    vectors = torch.eye(5)
    plain = play_episodes(follower, LEVEL, limit=3)
    assert plain.actions[0].tolist() == [Action.LEFT] * 3
    steer = steer_along(follower, shortcuts, vectors, layer=1, part="directed")
    moved = play_episodes(follower, LEVEL, limit=3, steer=steer)
    assert moved.actions[0].tolist() == [Action.RIGHT, Action.LEFT, Action.LEFT]
    other_layer = steer_along(follower, shortcuts, vectors, layer=0, part="directed")
    untouched = play_episodes(follower, LEVEL, limit=3, steer=other_layer)
    assert untouched.actions[0].tolist() == [Action.LEFT] * 3


@pytest.mark.parametrize("part", ["short", "directed", "both"])
def test_vectors_are_added_to_the_cells_of_their_squares_at_every_tick(
    part: str, follower, shortcuts
) -> None:
    vectors = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    steer = steer_along(follower, shortcuts, vectors, layer=1, part=part, n_directed=2)
    model, games = hook_agent(follower), np.array([0])
    cells = ["blocks.1.hook_cell_0", "blocks.1.hook_cell_1"]
    with model.intervene(*steer(LEVEL, games)), model.capture(cells) as seen:
        follower(observe(LEVEL), follower.initial_state(1))
    expected = torch.zeros(5, 5, 5)
    for row, column in np.argwhere(shortcuts.short[0]).tolist():
        expected[:, row, column] += vectors[0] if part != "directed" else 0
    for row, column in np.argwhere(np.isin(shortcuts.order[0], (0, 1))).tolist():
        expected[:, row, column] += vectors[shortcuts.long[0, row, column]] * (part != "short")
    for values in seen.values():
        torch.testing.assert_close(values[0][0], expected)


def test_all_interventions_are_tried_beside_random_ones(untrained, small_levels) -> None:
    board = parse_levels("######\n#@   #\n# ## #\n#  $.#\n#    #\n######\n")
    found = find_shortcuts(board, "agent", detour=1)
    X = torch.randn(30, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    y = np.random.default_rng(0).integers(0, 5, (30, 4, 4))
    probes = {0: SpatialProbe().fit(X, y)}
    config = SteeringConfig(coefficients=(1.0, 4.0), parts=("both",), n_random=2, limit=4)
    result = measure_steering(untrained, found, probes, config=config)
    frame = result.to_frame()
    assert len(frame) == 1 + 2 * 2
    assert set(frame["vector"]) == {"nothing", "probe", "random"}
    estimate = result.above_random(layer=0, part="both", coefficient=1.0)
    assert estimate.low <= estimate.value <= estimate.high
    assert result.best() == 0
    assert len(result.plot().data) > 2
    with pytest.raises(KeyError, match="layer 1"):
        result.above_random(layer=1, part="both", coefficient=1.0)


def test_random_vectors_have_the_norms_of_the_probe() -> None:
    X = torch.randn(30, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    probe = SpatialProbe().fit(X, np.random.default_rng(0).integers(0, 5, (30, 3, 3)))
    own, drawn = probe_vectors(probe), random_vectors(probe_vectors(probe), 0)
    torch.testing.assert_close(own.norm(dim=1), drawn.norm(dim=1))
    assert not torch.allclose(own, drawn)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (7, 20), (20, 20), (150, 200)])
def test_wilson_intervals_are_those_of_scipy(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(k, n), expected, atol=1e-9)


def test_thinking_is_paired_over_levels(untrained, small_levels) -> None:
    result = measure_thinking(untrained, small_levels, think_steps=(0, 2), limit=6)
    frame = result.to_frame()
    plain = play_levels(untrained, small_levels, limit=6)
    later = play_levels(untrained, small_levels, limit=6, think_steps=2)
    assert frame["solve_rate"].tolist() == [plain.solve_rate, later.solve_rate]
    assert frame["gain"].iloc[1] == pytest.approx(later.solve_rate - plain.solve_rate)
    assert result.gain(0).high == 0
    assert len(result.plot().data) > 0


def test_emergence_has_a_row_for_each_snapshot_and_layer(untrained, small_levels) -> None:
    config = ReadingConfig(
        concepts=("agent_approach",),
        kernels=(1,),
        observation_kernels=(1,),
        n_untrained=0,
        max_rows=20,
    )
    frame = measure_emergence(
        {0: untrained, 10: untrained},
        small_levels[:12],
        small_levels[12:],
        config=config,
        think_steps=1,
        limit=8,
    )
    assert frame["transitions"].tolist() == [0, 0, 10, 10]
    assert frame["layer"].tolist() == [0, 1, 0, 1]
    beside = frame["macro_f1"] - frame["above_observation"]
    assert beside.notna().all()
    assert (beside.groupby([frame["transitions"], frame["concept"]]).std() < 1e-9).all()
    lines = {trace.name for trace in plot_emergence(frame, concept=frame["concept"][0]).data}
    assert {"macro F1, layer 0", "macro F1, layer 1", "levels solved"} <= lines


def test_an_agent_that_does_not_move_has_no_score(untrained, small_levels) -> None:
    still = copy.deepcopy(untrained)
    still.policy.weight.zero_()
    still.policy.bias.copy_(torch.eye(5)[0])  # always the no-op
    config = ReadingConfig(kernels=(1,), observation_kernels=(1,), n_untrained=0)
    levels = small_levels[:3], small_levels[3:6]
    frame = measure_emergence({0: still}, *levels, config=config, think_steps=1, limit=2)
    assert frame[["macro_f1", "above_observation"]].isna().all(axis=None)
    assert (frame["solve_rate"] == 0).all()
    lines = {trace.name for trace in plot_emergence(frame, concept="box_push").data}
    assert "levels solved" in lines
    assert "macro F1, observation" not in lines


def test_a_solved_level_counts_only_without_the_checkpoint(follower, shortcuts) -> None:
    episodes = play_episodes(follower, LEVEL, limit=2)
    assert not took_long_way(shortcuts, episodes).any()
    with pytest.raises(ValueError, match="parts has"):
        SteeringConfig(parts=("sideways",))
