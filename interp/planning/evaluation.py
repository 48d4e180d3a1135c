"""How many levels an agent solves, and how fast, with steps to think before it acts."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.planning.drc import Agent
from interp.planning.environment import Action, Rules, SokobanBatch
from interp.planning.levels import Levels


@dataclass(frozen=True, kw_only=True)
class PlayResult:
    """Greedy games of an agent, one on each level."""

    solved: Bool[np.ndarray, " level"]
    """Whether the level was solved within the limit."""
    n_steps: Int[np.ndarray, " level"]
    """Steps played, thinking not counted; the limit where the level was not solved."""

    def __post_init__(self) -> None:
        if self.solved.shape != self.n_steps.shape:
            raise ValueError(
                f"solved has {len(self.solved)} levels, but n_steps has {len(self.n_steps)}"
            )

    @property
    def solve_rate(self) -> float:
        """Share of the levels that were solved."""
        return float(self.solved.mean())


@torch.no_grad()
def play_levels(
    agent: Agent,
    levels: Levels,
    *,
    think_steps: int = 0,
    limit: int = 115,
    batch_size: int = 512,
) -> PlayResult:
    """Let an agent play every level once, taking its most probable action.

    Args:
        agent: The agent, on any device.
        levels: The levels.
        think_steps: No-ops at the start, on which the agent computes but does not move.
        limit: Steps after which a game counts as not solved.
        batch_size: How many games to play at once.

    Returns:
        Who was solved, after how many steps.
    """
    solved = np.zeros(len(levels), dtype=bool)
    n_steps = np.full(len(levels), limit)
    for first in range(0, len(levels), batch_size):
        part = slice(first, first + batch_size)
        solved[part], n_steps[part] = _play(agent, levels[part], think_steps, limit)
    return PlayResult(solved=solved, n_steps=n_steps)


def _play(agent: Agent, levels: Levels, think_steps: int, limit: int) -> tuple[np.ndarray, ...]:
    """Play one batch; games that are solved leave it, so that the rest goes faster."""
    solved, n_steps = np.zeros(len(levels), dtype=bool), np.full(len(levels), limit)
    rules = Rules(limit=think_steps + limit + 1, start_spread=0)
    state = agent.initial_state(len(levels))
    batch = SokobanBatch(levels, len(levels), rules=rules, autoreset=False, device=state.device)
    playing = torch.arange(len(levels), device=state.device)
    batch.reset(playing)
    for step in range(-think_steps, limit):
        output = agent(batch.observe(), state)
        actions = output.logits.argmax(1)
        if step < 0:
            actions = torch.full_like(actions, Action.NOOP)
        ended = batch.step(actions).solved
        state = output.state.float()
        solved[playing[ended].cpu()], n_steps[playing[ended].cpu()] = True, step + 1
        if bool(ended.any()):
            playing, state = playing[~ended], state[:, :, ~ended]
            batch = _remaining(batch, ~ended)
        if not len(playing):
            break
    return solved, n_steps


def _remaining(batch: SokobanBatch, keep: Bool[Tensor, " env"]) -> SokobanBatch:
    """A batch of the games that go on."""
    if not bool(keep.any()):
        return batch
    positions = batch.positions()[keep.cpu().numpy().nonzero()[0]]
    rest = SokobanBatch(
        positions, len(positions), rules=batch.rules, autoreset=False, device=batch.device
    )
    rest.reset(torch.arange(len(positions), device=batch.device))
    return rest
