import numpy as np
import pytest
import torch

from interp import add
from interp.planning.drc import Drc, DrcConfig
from interp.planning.evaluation import play_levels
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import Levels
from interp.planning.resnet import ResNet, ResNetConfig
from interp.planning.rollouts import hook_agent, play_episodes, read_activations, replay_actions
from interp.planning.solver import solve_optimally

CONFIG = DrcConfig(depth=2, ticks=2, channels=3, size=(4, 4), d_hidden=8)


@pytest.fixture(scope="module")
def levels() -> Levels:
    return generate_levels(6, config=GenerationConfig(size=(4, 4), distance=(3, 20)), seed=0)


@pytest.fixture(scope="module")
def agent() -> Drc:
    """An untrained agent that is sure of what it does, so that it does different things."""
    made = Drc(CONFIG, seed=3).eval().requires_grad_(False)
    made.policy.weight.mul_(50)
    return made


def test_episodes_agree_with_the_evaluation(agent, levels) -> None:
    episodes = play_episodes(agent, levels, limit=12, think_steps=2)
    result = play_levels(agent, levels, limit=12, think_steps=2)
    np.testing.assert_array_equal(episodes.solved, result.solved)
    np.testing.assert_array_equal(episodes.lengths - 2, result.n_steps)


def test_thinking_steps_are_no_ops_that_leave_the_board(agent, levels) -> None:
    episodes = play_episodes(agent, levels, limit=4, think_steps=3)
    assert not episodes.actions[:, :3].any()
    assert (episodes.boxes[:, 3] == levels.boxes).all()
    assert (episodes.player[:, 3] == levels.player).all()


def test_optimal_solutions_end_solved_at_their_last_move(levels) -> None:
    moves = [solve_optimally(level) for level in levels]
    episodes = replay_actions(levels, moves)
    assert episodes.solved.all()
    assert episodes.lengths.tolist() == [len(sequence) for sequence in moves]
    assert len(episodes.row_episodes) == sum(map(len, moves))


def test_activations_are_those_of_a_step_by_step_run(agent, levels) -> None:
    episodes = play_episodes(agent, levels, limit=7)
    read = read_activations(agent, episodes, sites=["cell_1", "hidden_1"])
    assert read.sites == ("cell_1", "hidden_1")
    observations = episodes.observations()
    for episode in (0, 3):
        state = agent.initial_state(1)
        for row in np.flatnonzero(episodes.row_episodes == episode):
            state = agent(observations[row][None], state).state
            hidden, cell = state[0, :, 0], state[1, :, 0]
            torch.testing.assert_close(read.tensors["cell_1"][row], cell)
            torch.testing.assert_close(read.tensors["hidden_1"][row], hidden)


def test_observations_lead_to_the_actions_that_were_played(agent, levels) -> None:
    episodes = play_episodes(agent, levels[:2], limit=5)
    state = agent.initial_state(2)
    for step in range(5):
        rows = np.flatnonzero(episodes.row_steps == step)
        output = agent(episodes.observations()[rows], state)
        assert output.logits.argmax(1).tolist() == episodes.actions[:, step].tolist()
        state = output.state


def test_steps_after_the_end_have_no_rows(levels) -> None:
    episodes = replay_actions(levels[:2], [solve_optimally(levels[[0]]), [0]])
    assert episodes.lengths[1] == 1
    assert (np.bincount(episodes.row_episodes) == episodes.lengths).all()


def test_subsets_keep_episodes_whole(agent, levels) -> None:
    episodes = play_episodes(agent, levels, limit=5)
    part = episodes[np.array([4, 1])]
    whole = read_activations(agent, episodes, sites="cell_1")
    alone = read_activations(agent, part, sites="cell_1")
    torch.testing.assert_close(
        alone.values[part.row_episodes == 0], whole.values[episodes.row_episodes == 4]
    )


def test_reading_can_stop_early(agent, levels) -> None:
    episodes = play_episodes(agent, levels, limit=6)
    early = read_activations(agent, episodes, sites="cell_0", max_step=2)
    whole = read_activations(agent, episodes, sites="cell_0")
    torch.testing.assert_close(early.values, whole.values[episodes.row_steps < 2])


def test_an_intervention_of_the_core_changes_what_the_agent_does_and_leaves_no_hook(
    agent, levels
) -> None:
    field = torch.zeros(3, 4, 4)
    nothing = add(field, layers=1, site="cell_1")
    much = add(field + 5.0, layers=1, site="cell_1")
    plain = play_episodes(agent, levels, limit=6)
    same = play_episodes(agent, levels, limit=6, steer=lambda boards, games: [nothing])
    other = play_episodes(agent, levels, limit=6, steer=lambda boards, games: [much])
    np.testing.assert_array_equal(plain.actions, same.actions)
    assert not np.array_equal(plain.actions, other.actions)
    assert hook_agent(agent).hooks.active == ()


def test_a_residual_network_is_read_like_a_recurrent_one(levels) -> None:
    network = ResNet(ResNetConfig(n_blocks=2, channels=3, size=(4, 4), d_hidden=8)).eval()
    episodes = play_episodes(network, levels, limit=3)
    read = read_activations(network, episodes, sites="out")
    assert read.layers == (0, 1)
    assert read.values.shape == (len(episodes.row_episodes), 2, 3, 4, 4)


def test_a_sequence_for_each_level_is_needed(levels) -> None:
    with pytest.raises(ValueError, match="actions has 1 sequences, but there are 6"):
        replay_actions(levels, [[1]])
