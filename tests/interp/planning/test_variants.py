"""Agents that see something else: states of the same weights, and nothing of the player."""

import torch

from interp.planning.drc import Drc, DrcConfig
from interp.planning.environment import PLANES
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.rollouts import observe
from interp.planning.variants import blinded, resized

CONFIG = DrcConfig(depth=2, ticks=2, channels=4, size=(4, 4), d_hidden=8, forget_bias=1.0)


def test_a_blinded_agent_does_what_an_agent_does_without_the_planes_of_the_player() -> None:
    agent = Drc(CONFIG, seed=1)
    levels = generate_levels(3, config=GenerationConfig(size=(4, 4), distance=(3, 16)), seed=0)
    seen = observe(levels)
    unseen = seen.clone()
    unseen[:, [k for k, name in enumerate(PLANES) if "player" in name]] = 0
    state = agent.initial_state(3)
    with torch.no_grad():
        expected, found = agent(unseen, state), blinded(agent)(seen, state)
        plain = agent(seen, state)
    torch.testing.assert_close(found.state, expected.state)
    torch.testing.assert_close(found.logits, expected.logits)
    assert not torch.allclose(plain.state, found.state, atol=1e-3)


def test_blinding_leaves_the_agent_as_it_was() -> None:
    agent = Drc(CONFIG, seed=1)
    before = agent.encoder.weight.clone()
    blinded(agent)
    assert torch.equal(agent.encoder.weight, before)


def test_a_resized_core_computes_the_same_far_from_the_edge_of_a_larger_board() -> None:
    # one step of one tick: pooling aside, a state depends on the squares near by only
    config = DrcConfig(depth=1, ticks=1, channels=4, size=(5, 5), d_hidden=8)
    agent = Drc(config, seed=2)
    board = torch.rand(1, config.n_planes, 5, 5)
    room = torch.zeros(1, config.n_planes, 9, 9)
    room[..., 2:7, 2:7] = board
    larger = resized(agent, (9, 9))
    with torch.no_grad():
        small = agent(board, agent.initial_state(1)).state
        large = larger(room, larger.initial_state(1)).state
    torch.testing.assert_close(large[..., 4:5, 4:5], small[..., 2:3, 2:3])
    assert larger.config.size == (9, 9)
    assert not larger.training


def test_a_core_of_the_same_size_has_the_states_of_the_agent() -> None:
    agent = Drc(CONFIG, seed=3)
    board = torch.rand(2, CONFIG.n_planes, 4, 4)
    with torch.no_grad():
        expected = agent(board, agent.initial_state(2)).state
        found = resized(agent, (4, 4))(board, agent.initial_state(2)).state
    assert torch.equal(expected, found)
