"""An agent that does hold its plan in its cells, by construction: the studies must find it there.

At every step it solves the board and writes the classes of both concepts into the channels of its
top layer, with noise. It then moves to the neighboring square where its cells, as the hooks leave
them, say most clearly that it will step in that direction.
"""

import numpy as np
import pytest
import torch

from interp.planning.concepts import label_concept
from interp.planning.drc import AgentOutput, Drc, DrcConfig
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import Levels
from interp.planning.rollouts import Episodes, play_episodes, replay_actions
from interp.planning.shortcuts import find_shortcuts
from interp.planning.solver import solve_optimally
from probes.planning import ReadingConfig, probe_vectors, random_vectors, read_plans, steer_along

STEPS = {1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}


class PlantedAgent(Drc):
    """Channels 0-4 of layer 1 are the classes of agent_approach, 5-9 those of box_push."""

    def __init__(self) -> None:
        super().__init__(DrcConfig(depth=2, ticks=1, channels=10, size=(4, 4), d_hidden=4))
        self.plans: dict[bytes, torch.Tensor] = {}

    def forward(self, observation: torch.Tensor, state: torch.Tensor) -> AgentOutput:
        noise = torch.Generator().manual_seed(0)
        written = torch.stack([self._plan(board) for board in observation])
        written = written + 0.2 * torch.randn(written.shape, generator=noise)
        others = torch.randn(written.shape, generator=noise)
        cells = [
            layer.ticks[0].hook_cell(value)
            for layer, value in zip(self.layers, (others, written), strict=True)
        ]
        logits = torch.stack([_moves(board, cells[1][i]) for i, board in enumerate(observation)])
        return AgentOutput(logits=logits, value=logits[:, 0], state=state)

    def _plan(self, board: torch.Tensor) -> torch.Tensor:
        key = board.numpy().tobytes()
        if key not in self.plans:
            planes = board.bool().numpy()
            level = Levels(
                walls=planes[[0]],
                boxes=planes[[2]] | planes[[3]],
                targets=planes[[3]] | planes[[5]] | planes[[6]],
                player=np.array([(planes[4] | planes[5]).ravel().argmax()]),
            )
            episode = replay_actions(level, [solve_optimally(level)])
            classes = [
                torch.from_numpy(label_concept(episode, name).classes[0])
                for name in ("agent_approach", "box_push")
            ]
            one_hot = [torch.nn.functional.one_hot(c, 5).movedim(2, 0) for c in classes]
            self.plans[key] = torch.cat(one_hot).float()
        return self.plans[key]


def _moves(board: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
    """How clearly each neighboring square says that the agent steps onto it."""
    row, column = divmod(int((board[4] + board[5]).argmax()), board.shape[2])
    logits = torch.full((5,), -torch.inf)
    logits[0] = -10.0
    for k, (down, right) in STEPS.items():
        r, c = row + down, column + right
        if 0 <= r < board.shape[1] and 0 <= c < board.shape[2]:
            logits[k] = cell[k, r, c] - cell[0, r, c]
    return logits


@pytest.fixture(scope="module")
def agent() -> PlantedAgent:
    return PlantedAgent().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def episodes(agent) -> Episodes:
    levels = generate_levels(20, config=GenerationConfig(size=(4, 4), distance=(4, 16)), seed=2)
    played = play_episodes(agent, levels, limit=16)
    return played[played.solved]


def test_the_plan_is_found_in_the_layer_that_holds_it_and_nowhere_else(agent, episodes) -> None:
    config = ReadingConfig(
        kernels=(1,), observation_kernels=(1,), n_untrained=0, max_rows=80, C=10.0
    )
    reading = read_plans(agent, episodes[:12], episodes[12:], config=config)
    for concept in ("agent_approach", "box_push"):
        assert reading.best_layer(concept) == 1
        found = reading.at(concept, layer=1)
        assert found.score.macro_f1.low > 0.8
        assert found.above_observation is not None
        assert found.above_observation.low > 0.3
        assert reading.at(concept, layer=0).score.macro_f1.value < 0.4


def test_vectors_of_the_probe_turn_the_agent_and_random_ones_do_not(agent, episodes) -> None:
    config = ReadingConfig(
        concepts=("agent_approach",),
        kernels=(1,),
        observation_kernels=(1,),
        n_untrained=0,
        max_rows=80,
    )
    reading = read_plans(agent, episodes[:12], episodes[12:], config=config)
    shortcuts = find_shortcuts(episodes.levels, "agent", detour=2)
    own = probe_vectors(reading.probes("agent_approach")[1])
    turned = {}
    for name, vectors in (("probe", own), ("random", random_vectors(own, 0))):
        steer = steer_along(agent, shortcuts, vectors, layer=1)
        moves = play_episodes(agent, shortcuts.levels, limit=1, steer=steer).actions[:, 0]
        wanted = np.array([plane[order == 0][0] for plane, order in _long(shortcuts)])
        beside = np.array([_is_beside(shortcuts, k) for k in range(len(shortcuts))])
        turned[name] = (moves == wanted)[beside].mean()
    assert turned["probe"] > turned["random"] + 0.3


def _long(shortcuts) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(shortcuts.long, shortcuts.order, strict=True))


def _is_beside(shortcuts, number: int) -> bool:
    """Whether the long way differs from the very first step on."""
    row, column = np.argwhere(shortcuts.order[number] == 0)[0]
    down, right = STEPS[int(shortcuts.long[number, row, column])]
    start = (row - down) * 4 + column - right
    return start == shortcuts.levels.player[number]
