import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.core.errors import ModelNotFoundError
from interp.planning.agents import (
    choose_snapshots,
    export_agent,
    list_agents,
    load_agent,
    load_agent_info,
)
from interp.planning.drc import AgentOutput, Drc, DrcConfig
from interp.planning.environment import Rules, SokobanBatch
from interp.planning.evaluation import play_levels
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.imitation import Expert, Imitation, ImitationConfig
from interp.planning.levels import Levels
from interp.planning.optimizers import Muon, orthogonalize
from interp.planning.reinforcement import vtrace_targets
from interp.planning.solver import UNSOLVABLE, solve_distances
from interp.planning.training import TrainingConfig, TrainingSchedule, train_agent

NET = DrcConfig(depth=1, ticks=2, channels=4, size=(4, 4), d_hidden=8)
IMITATION = ImitationConfig(pool_size=3, levels_per_update=0.5, ramp=200)
CONFIG = TrainingConfig(
    transitions=48,
    imitation_transitions=32,
    n_envs=4,
    unroll=4,
    warmup_updates=2,
    imitation=IMITATION,
    rules=Rules(limit=20),
)
SILENT = TrainingSchedule(evaluate_seconds=1e9, save_seconds=1e9, first_snapshot=16, limit=3)


@pytest.fixture(scope="module")
def levels() -> Levels:
    return generate_levels(12, config=GenerationConfig(size=(4, 4), distance=(3, 20)), seed=0)


def train(levels: Levels, folder: Path, config: TrainingConfig = CONFIG) -> Drc:
    return train_agent(
        Drc(NET), levels, levels[:2], folder, config=config, schedule=SILENT, progress=False
    )


def test_snapshots_are_at_growing_steps_and_each_is_taken_once(levels, tmp_path) -> None:
    train(levels, tmp_path, dataclasses.replace(CONFIG, unroll=2))
    taken = sorted(int(path.stem) for path in (tmp_path / "snapshots").iterdir())
    assert taken == [0, 16, 24, 32, 48]  # at 16, 22, 32 and 45, rounded up to updates of 8


def test_the_expert_counts_moves_after_each_action_like_the_table(levels) -> None:
    expert = Expert(levels, 5, IMITATION, seed=1)
    batch = SokobanBatch(levels[:1], 5, autoreset=False)
    starts = expert.start(np.arange(5), near=0.5, distance=8)
    for game, position in enumerate(starts):
        batch.place(torch.tensor([game]), position)
    moves = expert.distances(batch)
    for action in range(5):
        after = SokobanBatch(levels[:1], 5, autoreset=False)
        after.load_state_dict(batch.state_dict())
        after.step(torch.full((5,), action))
        for game, position in enumerate(after.positions()):
            table = solve_distances(position)
            boxes = np.flatnonzero(position.boxes[0])[None]
            assert moves[game, action] == table.lookup(boxes, position.player)[0]
    assert (moves.min(axis=1) == moves[:, 0] - 1).all()
    assert (moves[:, 0] < UNSOLVABLE).all()


def test_following_the_expert_solves_every_level(levels) -> None:
    expert = Expert(levels, len(levels), IMITATION, seed=2)
    batch = SokobanBatch(levels[:1], len(levels), autoreset=False)
    for game, position in enumerate(expert.start(np.arange(12), near=0.0, distance=8)):
        batch.place(torch.tensor([game]), position)
    solved = torch.zeros(12, dtype=torch.bool)
    for _ in range(25):
        steps = batch.step(torch.from_numpy(expert.distances(batch).argmin(axis=1)))
        solved |= steps.solved
    assert solved.all()


def test_new_positions_near_the_solution_are_as_near_as_asked(levels) -> None:
    expert = Expert(levels, 10, IMITATION, seed=3)
    for position in expert.start(np.arange(10), near=1.0, distance=5):
        boxes = np.flatnonzero(position.boxes[0])[None]
        assert 1 <= solve_distances(position).lookup(boxes, position.player)[0] <= 5


def test_levels_in_play_stay_in_the_pool(levels) -> None:
    config = dataclasses.replace(IMITATION, levels_per_update=3.0)
    expert = Expert(levels, 2, config, seed=4)
    expert.start(np.arange(2), near=0.0, distance=5)
    used = {int(s): expert.state_dict()["slots"][s] for s in expert.slot}
    before = list(expert.state_dict()["slots"])
    for _ in range(4):
        expert.refresh()
    after = expert.state_dict()["slots"]
    assert all(after[slot] == entry for slot, entry in used.items())
    assert after != before


class Optimal:
    """An agent that looks the best actions up, and prefers them by `strength`."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.games: Imitation | None = None

    def initial_state(self, batch: int) -> torch.Tensor:
        return torch.zeros(2, 1, batch, 1, 1, 1)

    def __call__(self, observation: torch.Tensor, state: torch.Tensor) -> AgentOutput:
        assert self.games is not None
        moves = torch.from_numpy(self.games.expert.distances(self.games.batch))
        best = moves == moves.amin(1, keepdim=True)
        value = torch.zeros(len(observation))
        return AgentOutput(logits=self.strength * best.float(), value=value, state=state)


@pytest.mark.parametrize("tie_share", [0.0, 1.0])
def test_the_loss_of_imitation_is_zero_for_optimal_play_only(levels, tie_share: float) -> None:
    config = dataclasses.replace(IMITATION, tie_share=tie_share, expert_share=(0.0, 0.0))
    losses = {}
    for strength in (0.0, 1.0, 50.0):
        agent = Optimal(strength)
        agent.games = Imitation(levels, 6, config=config, rules=Rules(), seed=1)
        terms = agent.games.unroll(agent, 6).terms
        losses[strength] = terms["policy"]
        if strength == 50.0:
            assert terms["optimal"] == 1.0
            assert terms["solved"] == terms["ends"]
    assert losses[50.0] == pytest.approx(0, abs=1e-6)
    assert losses[0.0] > losses[1.0] > 0.1


def test_imitation_learns_one_position(levels) -> None:
    agent = Drc(NET, seed=0)
    games = Imitation(
        levels[:1], 4, config=dataclasses.replace(IMITATION, pool_size=2), rules=Rules()
    )
    saved = games.state_dict()
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        games.load_state_dict(saved)
        unroll = games.unroll(agent, 1)
        losses.append(unroll.terms["policy"])
        optimizer.zero_grad()
        unroll.loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_vtrace_is_the_discounted_return_when_nothing_is_clipped_or_bootstrapped() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(6, 3, generator=generator) for _ in range(2))
    done = torch.zeros(6, 3, dtype=torch.bool)
    done[-1], done[2, 1] = True, True
    targets, advantages = vtrace_targets(
        values, torch.randn(3), rewards, done, torch.zeros(6, 3), discount=0.9
    )
    expected = torch.zeros(3)
    for t in reversed(range(6)):
        expected = rewards[t] + 0.9 * expected * ~done[t]
        assert torch.allclose(targets[t], expected, atol=1e-5)
        assert torch.allclose(advantages[t], expected - values[t], atol=1e-5)


def test_vtrace_follows_its_published_recursion_with_clipped_weights() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards, values, ratios = (torch.randn(5, 2, generator=generator) for _ in range(3))
    last, done = torch.randn(2, generator=generator), torch.zeros(5, 2, dtype=torch.bool)
    targets, _ = vtrace_targets(values, last, rewards, done, ratios, discount=0.95, trace=0.8)
    following = torch.cat([values[1:], last[None]])
    for start in range(5):
        total, weight = values[start].clone(), torch.ones(2)
        for t in range(start, 5):  # v_s = V(s) + sum_t gamma^(t-s) (prod c) delta_t
            rho = ratios[t].exp().clamp(max=1)
            total = total + weight * rho * (rewards[t] + 0.95 * following[t] - values[t])
            weight = weight * 0.95 * 0.8 * rho
        assert torch.allclose(targets[start], total, atol=1e-5)


def test_muon_decays_matrices_and_leaves_vectors() -> None:
    parameters = [torch.ones(3, 4, requires_grad=True), torch.ones(4, requires_grad=True)]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    Muon(parameters, lr=0.5, weight_decay=0.2).step()
    torch.testing.assert_close(parameters[0].detach(), torch.full((3, 4), 0.9))
    torch.testing.assert_close(parameters[1].detach(), torch.ones(4))


def test_orthogonalized_matrices_have_singular_values_near_one() -> None:
    for shape in ((6, 20), (20, 6)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(matrix))
        assert values.min() > 0.5
        assert values.max() < 1.3


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_resumed_training_equals_uninterrupted_training(
    levels, tmp_path: Path, optimizer: str
) -> None:
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    whole = train(levels, tmp_path / "whole", config)
    for _ in range(4):  # stops after every update, through imitation and reinforcement
        schedule = dataclasses.replace(SILENT, max_seconds=0.0)
        pieces = train_agent(
            Drc(NET),
            levels,
            levels[:2],
            tmp_path / "pieces",
            config=config,
            schedule=schedule,
            progress=False,
        )
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, pieces.state_dict()[name]), name
    rows = [json.loads(x) for x in (tmp_path / "pieces" / "curve.jsonl").read_text().splitlines()]
    counts = [row["transitions"] for row in rows]
    assert counts == sorted(set(counts))
    assert counts[-1] == CONFIG.transitions


def test_a_folder_of_another_training_is_refused(levels, tmp_path: Path) -> None:
    train(levels, tmp_path, dataclasses.replace(CONFIG, transitions=16))
    with pytest.raises(ValueError, match="other values of n_envs, unroll"):
        train(levels, tmp_path, dataclasses.replace(CONFIG, n_envs=2, unroll=2))


def test_snapshots_load_with_identical_logits(levels, tmp_path: Path) -> None:
    agent = train(levels, tmp_path / "run")
    chosen = choose_snapshots(tmp_path / "run", 3)
    export_agent(
        tmp_path / "run", tmp_path / "tiny", config=NET, snapshots=chosen, training={"seed": 0}
    )
    info = load_agent_info(tmp_path / "tiny")
    assert (info.name, info.config, info.training) == ("tiny", NET, {"seed": 0})
    assert info.snapshots == tuple(chosen)
    assert (chosen[0], chosen[-1]) == (0, CONFIG.transitions)
    assert info.curve[-1]["transitions"] == CONFIG.transitions
    boards = torch.rand(3, 7, 4, 4, generator=torch.Generator().manual_seed(0))
    halved = Drc(NET)
    halved.load_state_dict({k: w.half().float() for k, w in agent.state_dict().items()})
    loaded = load_agent(tmp_path / "tiny")
    state = loaded.initial_state(3)
    assert torch.equal(loaded(boards, state).logits, halved(boards, state).logits)
    assert torch.allclose(loaded(boards, state).logits, agent(boards, state).logits, atol=1e-2)
    untrained = load_agent(tmp_path / "tiny", transitions=0)
    assert torch.allclose(
        untrained(boards, state).logits, Drc(NET)(boards, state).logits, atol=1e-2
    )
    with pytest.raises(ValueError, match="transitions is 5, but 'tiny' has snapshots at"):
        load_agent(tmp_path / "tiny", transitions=5)


def test_unknown_agents_are_named() -> None:
    with pytest.raises(ModelNotFoundError, match="no agent 'boxobarn-drc33'"):
        load_agent("boxobarn-drc33")
    assert list_agents() == sorted(list_agents())


def test_games_that_end_leave_the_batch_without_touching_the_others(levels) -> None:
    agent = Drc(NET, seed=3)
    together = play_levels(agent, levels, limit=12)
    for i in range(4):
        alone = play_levels(agent, levels[[i]], limit=12)
        assert together.solved[i] == alone.solved[0]
        assert together.n_steps[i] == alone.n_steps[0]
    split = play_levels(agent, levels, limit=12, batch_size=5)
    np.testing.assert_array_equal(split.solved, together.solved)
    assert together.solve_rate == together.solved.mean()


def test_thinking_moves_nothing_but_changes_the_state(levels) -> None:
    class Impatient(Drc):
        """Solves in one move what one move to the right solves, whatever it has computed."""

        def forward(self, observation, state):
            output = super().forward(observation, state)
            logits = torch.zeros_like(output.logits)
            logits[:, 4] = 1.0
            return dataclasses.replace(output, logits=logits)

    one_move = levels[:1]
    walls = np.zeros((1, 4, 4), dtype=bool)
    boxes, targets = walls.copy(), walls.copy()
    boxes[0, 1, 1], targets[0, 1, 2] = True, True
    one_move = Levels(walls=walls, boxes=boxes, targets=targets, player=np.array([4]))
    result = play_levels(Impatient(NET), one_move, think_steps=3, limit=5)
    assert result.solved.tolist() == [True]
    assert result.n_steps.tolist() == [1]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="unroll is 0"):
        TrainingConfig(unroll=0)
