"""Sokoban as a batched torch environment, with exact Boxoban rules.

A move into a wall, or of a box into a wall or another box, changes nothing but costs a step. An
episode ends when every box is on a target or at the limit of steps. Rewards and limit are those of
Bush et al. 2025 (arXiv 2504.01871) or of Guez et al. 2019 (arXiv 1901.03559), see `Rules`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.core.seeds import generator
from interp.planning.levels import Levels, board_text

N_ACTIONS = 5
N_PLANES = 7
PLANES = ("wall", "floor", "box", "box on target", "player", "player on target", "target")
"""What the planes of an observation mark; on every cell exactly one of them is 1."""


class Action(IntEnum):
    """The five actions; `NOOP` lets time pass."""

    NOOP = 0
    UP = 1
    DOWN = 2
    LEFT = 3
    RIGHT = 4


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rewards and the end of an episode."""

    step: float = -0.01
    """Reward of every step."""
    box_on: float = 1.0
    """Reward when a box comes onto a target."""
    box_off: float = -1.0
    """Reward when a box leaves a target."""
    solved: float = 10.0
    """Reward when the last box comes onto its target."""
    limit: int = 120
    """Steps after which an episode ends."""
    start_spread: int = 5
    """An episode's step counter starts at 0 to this number, drawn uniformly, so that episodes
    that began together do not end together."""


BUSH_RULES = Rules()
GUEZ_RULES = Rules(step=-0.1, start_spread=0)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What one step of every environment returned."""

    reward: Float[Tensor, " env"]
    """Reward of the step."""
    done: Bool[Tensor, " env"]
    """Whether the episode ended, solved or at the limit."""
    solved: Bool[Tensor, " env"]
    """Whether every box is on a target after the step."""


class SokobanBatch:
    """Many games of Sokoban that are played at once.

    Boards are flat rows of cells with a border of walls. With `autoreset`, a game that ended goes
    on with a level drawn uniformly from `levels`; the observation after the step is then the new
    game's. There is no branch on data, so that a step can be captured in a CUDA graph.

    Args:
        levels: The levels to draw from.
        n_envs: How many games.
        rules: Rewards and limit.
        autoreset: Whether games that end start again; otherwise they stay as they are, and `place`
            starts new ones.
        seed: Seed of the draws.
        device: Where the games are held; None means the CPU.
    """

    def __init__(
        self,
        levels: Levels,
        n_envs: int,
        *,
        rules: Rules = BUSH_RULES,
        autoreset: bool = True,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        if not len(levels):
            raise ValueError("levels is empty; at least one level is needed")
        self.levels, self.rules, self.autoreset = levels, rules, autoreset
        self.device = torch.device(device or "cpu")
        self.height, self.width = levels.size
        self._row = self.width + 2
        self._generator = generator(seed, "sokoban", device=self.device)
        self._bank = tuple(part.to(self.device) for part in _pad(levels))
        self._bank_missing = (self._bank[1] & ~self._bank[2]).sum(1)
        self._moves = torch.tensor([0, -self._row, self._row, -1, 1], device=self.device)
        self._index = torch.arange(n_envs, device=self.device)
        self.elapsed = torch.zeros(n_envs, dtype=torch.long, device=self.device)
        """Steps that each game has taken, counted from its drawn start."""
        self.reset()

    def __len__(self) -> int:
        return len(self._index)

    def reset(self, indices: Int[Tensor, " env"] | None = None) -> None:
        """Start every game anew.

        Args:
            indices: The level of each game; drawn uniformly if None.
        """
        drawn = self._draw(len(self.levels)) if indices is None else indices.to(self.device)
        self.level = drawn
        self.walls, self.boxes, self.targets, self.player = (part[drawn] for part in self._bank)
        self._missing = self._count_missing()
        self.elapsed = self._draw(self.rules.start_spread + 1)

    def place(self, where: Int[Tensor, " game"], levels: Levels) -> None:
        """Start chosen games on given positions.

        Args:
            where: Indices of the games.
            levels: One position for each of them.
        """
        walls, boxes, targets, player = (part.to(self.device) for part in _pad(levels))
        self.walls[where], self.boxes[where], self.targets[where] = walls, boxes, targets
        self.player[where] = player
        self.level[where] = -1
        self._missing[where] = (boxes & ~targets).sum(1)
        self.elapsed[where] = 0

    def step(self, actions: Int[Tensor, " env"]) -> Steps:
        """Play one action in every game.

        Args:
            actions: Actions, 0 to 4 (see `Action`).

        Returns:
            Rewards and ends of the step.
        """
        to = self.player + self._moves[actions]
        beyond = (to + self._moves[actions]).clamp(0, self.walls.shape[1] - 1)
        near, far = to[:, None], beyond[:, None]
        moving = actions != Action.NOOP
        has_box = self.boxes.gather(1, near)[:, 0]
        blocked = (self.walls.gather(1, far) | self.boxes.gather(1, far))[:, 0]
        moved = moving & ~self.walls.gather(1, near)[:, 0] & ~(has_box & blocked)
        pushed = moved & has_box
        self.player = torch.where(moved, to, self.player)
        self.boxes[self._index, to] &= ~pushed
        self.boxes[self._index, beyond] |= pushed
        on = self.targets.gather(1, far)[:, 0] & pushed
        off = self.targets.gather(1, near)[:, 0] & pushed
        self._missing = self._missing + off.long() - on.long()
        solved = self._missing == 0
        reward = self._reward(on, off, solved)
        self.elapsed += 1
        done = solved | (self.elapsed >= self.rules.limit)
        if self.autoreset:
            self._restart(done)
        return Steps(reward=reward, done=done, solved=solved)

    def observe(self) -> Float[Tensor, "env plane height width"]:
        """The seven planes of every game (see `PLANES`), 0 or 1, without the border."""
        player = torch.zeros_like(self.walls)
        player[self._index, self.player] = True
        free = ~self.targets
        planes = (
            self.walls,
            ~(self.walls | self.boxes | self.targets | player),
            self.boxes & free,
            self.boxes & self.targets,
            player & free,
            player & self.targets,
            self.targets & ~self.boxes & ~player,
        )
        boards = torch.stack(planes, 1).view(len(self), N_PLANES, self.height + 2, self._row)
        return boards[:, :, 1:-1, 1:-1].float()

    def positions(self) -> Levels:
        """Where everything stands now, as levels: to draw, to solve, or to start other games."""
        shape = (len(self), self.height + 2, self._row)
        walls, boxes, targets = (
            plane.cpu().numpy().reshape(shape)[:, 1:-1, 1:-1].copy()
            for plane in (self.walls, self.boxes, self.targets)
        )
        player = self.player.cpu().numpy()
        inside = (player // self._row - 1) * self.width + player % self._row - 1
        return Levels(walls=walls, boxes=boxes, targets=targets, player=inside)

    def state_dict(self) -> dict[str, Any]:
        """All that a later `load_state_dict` needs to go on exactly here."""
        names = ("walls", "boxes", "targets", "player", "level", "elapsed")
        tensors = {name: getattr(self, name).clone() for name in names}
        return {**tensors, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._generator.set_state(state["generator"])
        for name in ("walls", "boxes", "targets", "player", "level", "elapsed"):
            setattr(self, name, state[name].to(self.device, copy=True))
        self._missing = self._count_missing()

    def _count_missing(self) -> Int[Tensor, " env"]:
        """Boxes that are not on a target."""
        return (self.boxes & ~self.targets).sum(1)

    def _draw(self, high: int) -> Int[Tensor, " env"]:
        return torch.randint(high, (len(self),), generator=self._generator, device=self.device)

    def _reward(
        self, on: Bool[Tensor, " env"], off: Bool[Tensor, " env"], solved: Bool[Tensor, " env"]
    ) -> Float[Tensor, " env"]:
        rules = self.rules
        return rules.step + rules.box_on * on + rules.box_off * off + rules.solved * solved

    def _restart(self, done: Bool[Tensor, " env"]) -> None:
        drawn = self._draw(len(self.levels))
        self.level = torch.where(done, drawn, self.level)
        self.elapsed = torch.where(done, self._draw(self.rules.start_spread + 1), self.elapsed)
        walls, boxes, targets, player = self._bank
        self.player = torch.where(done, player[drawn], self.player)
        self._missing = torch.where(done, self._bank_missing[drawn], self._missing)
        planes = ((self.walls, walls), (self.boxes, boxes), (self.targets, targets))
        if self.device.type == "cpu":  # a few rows are cheaper than all
            rows = done.nonzero()[:, 0]
            for plane, bank in planes:
                plane.index_copy_(0, rows, bank.index_select(0, drawn[rows]))
        else:
            for plane, bank in planes:
                plane.copy_(torch.where(done[:, None], bank[drawn], plane))


class SokobanGame:
    """One game with the methods of a gymnasium environment (which is not needed for it).

    Args:
        levels: The levels to draw from.
        rules: Rewards and limit.
        seed: Seed of the draws, until `reset` gets another.
    """

    def __init__(self, levels: Levels, *, rules: Rules = BUSH_RULES, seed: int = 0) -> None:
        self.levels, self.rules = levels, rules
        self._batch = SokobanBatch(levels, 1, rules=rules, autoreset=False, seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "plane height width"], dict[str, Any]]:
        """Start a game.

        Args:
            seed: New seed of the draws; None keeps the stream of the last one.
            options: `{"level": index}` chooses the level.

        Returns:
            The observation, and the level's index under `level`.
        """
        if seed is not None:
            self._batch = SokobanBatch(self.levels, 1, rules=self.rules, autoreset=False, seed=seed)
        level = (options or {}).get("level")
        self._batch.reset(None if level is None else torch.tensor([level]))
        return self._batch.observe()[0].numpy(), {"level": int(self._batch.level[0])}

    def step(
        self, action: int
    ) -> tuple[Float[np.ndarray, "plane height width"], float, bool, bool, dict[str, Any]]:
        """Play one action.

        Args:
            action: 0 to 4 (see `Action`).

        Returns:
            Observation, reward, whether the level is solved, whether the limit ended the game
            unsolved, and `{"solved": ...}`.

        Raises:
            ValueError: If there is no such action.
        """
        if action not in range(N_ACTIONS):
            raise ValueError(
                f"action is {action!r}; an integer from 0 to {N_ACTIONS - 1} is needed"
            )
        steps = self._batch.step(torch.tensor([action]))
        solved, done = bool(steps.solved[0]), bool(steps.done[0])
        observation = self._batch.observe()[0].numpy()
        return observation, float(steps.reward[0]), solved, done and not solved, {"solved": solved}

    def render(self) -> str:
        """The board as text, in the symbols of the level files."""
        now = self._batch.positions()
        return board_text(now.walls[0], now.boxes[0], now.targets[0], int(now.player[0]))


def _pad(levels: Levels) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Walls, boxes, targets (level, cell) and player of boards with a border of walls."""
    width = levels.size[1]
    border = ((0, 0), (1, 1), (1, 1))
    planes = [
        torch.from_numpy(np.pad(plane, border, constant_values=value).reshape(len(levels), -1))
        for plane, value in ((levels.walls, True), (levels.boxes, False), (levels.targets, False))
    ]
    player = (levels.player // width + 1) * (width + 2) + levels.player % width + 1
    return planes[0], planes[1], planes[2], torch.from_numpy(player.astype(np.int64))
