"""Imitation of optimal play on the positions that the agent itself reaches (DAgger).

Ross, Gordon, Bagnell 2011 (arXiv 1011.0686): the expert labels every position of the agent's own
games. Here the expert is exact: a `DistanceTable` of each level in use tells the moves to the
solution after every action. One forward pass serves acting and learning, with the gradient
truncated at the length of an unroll and the recurrent state carried over.

An agent made this way plans, but it does not show that planning emerges in model-free learning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from interp.core.seeds import derive, generator
from interp.planning.drc import Agent, clear_state
from interp.planning.environment import N_ACTIONS, Rules, SokobanBatch
from interp.planning.levels import Levels
from interp.planning.solver import UNSOLVABLE, DistanceTable, solve_distances
from interp.planning.symmetry import N_SYMMETRIES, transform_levels


@dataclass(frozen=True, kw_only=True)
class Unroll:
    """The loss of some steps of all games, and what happened in them."""

    loss: Float[Tensor, ""]
    """What to minimize."""
    terms: dict[str, int | float]
    """Parts of the loss and rates, for the learning curve."""


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How games of imitation start, who moves, and what is learned."""

    pool_size: int = 192
    """Levels whose distance tables are held at a time."""
    levels_per_update: float = 1.5
    """Levels of the pool that are replaced by new ones at every update (on average)."""
    max_placements: int = 60_000
    """Levels with more placements of the boxes are passed over: their tables are too large."""
    expert_share: tuple[float, float] = (0.8, 0.2)
    """Share of moves that the expert chooses, at the start and after `ramp` transitions."""
    near_share: tuple[float, float] = (0.8, 0.2)
    """Share of games that start at a random position near the solution, likewise."""
    near_distance: tuple[int, int] = (6, 40)
    """Moves to the solution of such positions at most, likewise."""
    ramp: int = 300_000
    """Transitions over which the three pairs above go from their first to their second value."""
    value_weight: float = 0.02
    """Weight of the error of the value (squared up to 1, then linear)."""
    discount: float = 0.97
    """Discount of the return that the value predicts."""
    tie_share: float = 1.0
    """Where several actions are optimal: 1 asks for the uniform choice among them, 0 only for
    their sum of probabilities to be 1, and numbers between weigh the two losses."""


class Expert:
    """Levels in use with their distance tables, and which game plays which of them."""

    def __init__(
        self,
        levels: Levels,
        n_envs: int,
        config: ImitationConfig,
        *,
        seed: int = 0,
        solve: Callable[[Levels], DistanceTable] = solve_distances,
    ) -> None:
        self.levels, self.config, self.solve = levels, config, solve
        self._random = np.random.default_rng(derive(seed, "expert"))
        self._slots: list[tuple[int, int]] = []
        self._tables: list[DistanceTable] = []
        self._boards: list[Levels] = []
        self._oldest, self._owed = 0, 0.0
        self.slot = np.zeros(n_envs, dtype=np.int64)
        for _ in range(config.pool_size):
            self._insert(*self._new_level(), at=None)

    def refresh(self) -> None:
        """Replace the oldest levels that no game plays."""
        self._owed += self.config.levels_per_update
        while self._owed >= 1:
            self._owed -= 1
            used = set(self.slot.tolist())
            for _ in range(len(self._slots)):
                self._oldest = (self._oldest + 1) % len(self._slots)
                if self._oldest not in used:
                    self._insert(*self._new_level(), at=self._oldest)
                    break

    def start(self, games: Int[np.ndarray, " game"], *, near: float, distance: int) -> list[Levels]:
        """New positions for some games: the level's own start, or one near the solution."""
        positions = []
        for game in games:
            slot = int(self._random.integers(len(self._slots)))
            self.slot[game] = slot
            position = self._boards[slot]
            if self._random.random() < near:
                position = self._near_solution(slot, distance)
            positions.append(position)
        return positions

    def distances(self, batch: SokobanBatch) -> Int[np.ndarray, "env action"]:
        """Moves to the solution after each action, in every game (`UNSOLVABLE` if there is none).

        An action that cannot be played counts like `NOOP`.
        """
        boxes, players = _successors(batch)
        return np.stack(
            [
                self._tables[slot].lookup(boxes[game], players[game])
                for game, slot in enumerate(self.slot)
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs; tables are not part of it and solved again."""
        return {
            "slots": self._slots,
            "oldest": self._oldest,
            "owed": self._owed,
            "slot": self.slot.copy(),
            "random": self._random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for at, (level, symmetry) in enumerate(state["slots"]):
            if self._slots[at] != (level, symmetry):
                board = transform_levels(self.levels[[level]], symmetry)
                self._insert(level, symmetry, board, self.solve(board), at=at)
        self._oldest, self._owed = state["oldest"], state["owed"]
        self.slot = state["slot"].copy()
        self._random.bit_generator.state = state["random"]

    def _new_level(self) -> tuple[int, int, Levels, DistanceTable]:
        while True:
            level = int(self._random.integers(len(self.levels)))
            symmetry = int(self._random.integers(N_SYMMETRIES))
            board = transform_levels(self.levels[[level]], symmetry)
            table = self.solve(board)
            if len(table.distance) <= self.config.max_placements:
                return level, symmetry, board, table

    def _insert(
        self, level: int, symmetry: int, board: Levels, table: DistanceTable, *, at: int | None
    ) -> None:
        if at is None:
            at = len(self._slots)
            self._slots.append((0, 0))
            self._boards.append(board)
            self._tables.append(table)
        self._slots[at], self._boards[at], self._tables[at] = (level, symmetry), board, table

    def _near_solution(self, slot: int, distance: int) -> Levels:
        """A random position at most `distance` moves from the solution, and not solved.

        Weights are in proportion to the distance, as in `generate_levels`.
        """
        table, board = self._tables[slot], self._boards[slot]
        moves = table.distance.ravel()
        sums = np.where(moves <= distance, moves, 0).cumsum(dtype=np.int64)
        chosen = int(np.searchsorted(sums, self._random.integers(sums[-1]), side="right"))
        placement, player = divmod(chosen, table.distance.shape[1])
        boxes = np.zeros(board.walls.size, dtype=bool)
        boxes[table.placement_boxes(np.array([placement]))[0]] = True
        return Levels(
            walls=board.walls,
            boxes=boxes.reshape(board.walls.shape),
            targets=board.targets,
            player=np.array([player]),
        )


class Imitation:
    """The games of an agent that imitates the expert; `unroll` plays and gives the loss."""

    def __init__(
        self,
        levels: Levels,
        n_envs: int,
        *,
        config: ImitationConfig,
        rules: Rules,
        seed: int = 0,
        solve: Callable[[Levels], DistanceTable] = solve_distances,
    ) -> None:
        self.config = config
        self.expert = Expert(levels, n_envs, config, seed=seed, solve=solve)
        self.batch = SokobanBatch(levels[:1], n_envs, rules=rules, autoreset=False)
        self.transitions = 0
        self._state: Tensor | None = None
        self._generator = generator(seed, "imitation")
        self._restart(torch.arange(n_envs))

    def unroll(self, agent: Agent, length: int) -> Unroll:
        """Play some steps of every game and return the loss on them.

        Args:
            agent: The agent in training.
            length: Steps of each game.
        """
        state = agent.initial_state(len(self.batch)) if self._state is None else self._state
        device, sums = state.device, dict.fromkeys(("policy", "value", "optimal", "solved"), 0.0)
        loss, ends = torch.zeros((), device=device), 0
        self.expert.refresh()
        for _ in range(length):
            after = torch.from_numpy(self.expert.distances(self.batch))
            output = agent(self.batch.observe().to(device), state)
            log_probs = output.logits.float().log_softmax(1)
            best = (after == after.amin(1, keepdim=True)).to(device)
            policy_loss = _policy_loss(log_probs, best, self.config.tie_share)
            target = self._values(after[:, 0]).to(device)
            value_loss = functional.smooth_l1_loss(output.value.float(), target)
            loss = loss + policy_loss + self.config.value_weight * value_loss
            actions = self._choose(log_probs.detach().exp().cpu(), best.cpu())
            sums["optimal"] += float(best.cpu().gather(1, actions[:, None]).float().mean())
            steps = self.batch.step(actions)
            lost = after.gather(1, actions[:, None])[:, 0] == UNSOLVABLE
            ended = steps.done | lost
            sums["policy"] += float(policy_loss.detach())
            sums["value"] += float(value_loss.detach())
            sums["solved"], ends = sums["solved"] + int(steps.solved.sum()), ends + int(ended.sum())
            state = clear_state(output.state.float(), ended.to(device))
            self._restart(ended.nonzero()[:, 0])
        self._state = state.detach()
        self.transitions += length * len(self.batch)
        terms = {name: sums[name] / length for name in ("policy", "value", "optimal")}
        return Unroll(loss=loss / length, terms={**terms, "solved": sums["solved"], "ends": ends})

    def state_dict(self) -> dict[str, Any]:
        """All that a later `load_state_dict` needs to go on exactly here."""
        return {
            "expert": self.expert.state_dict(),
            "batch": self.batch.state_dict(),
            "transitions": self.transitions,
            "state": self._state,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.expert.load_state_dict(state["expert"])
        self.batch.load_state_dict(state["batch"])
        self.transitions, self._state = state["transitions"], state["state"]
        self._generator.set_state(state["generator"])

    def _ramp(self, ends: tuple[float, float] | tuple[int, int]) -> float:
        """Between the first and the second value, by the transitions so far."""
        return ends[0] + (ends[1] - ends[0]) * min(1.0, self.transitions / self.config.ramp)

    def _restart(self, games: Int[Tensor, " game"]) -> None:
        if not len(games):
            return
        near, distance = self._ramp(self.config.near_share), self._ramp(self.config.near_distance)
        for game, position in zip(
            games, self.expert.start(games.numpy(), near=near, distance=int(distance)), strict=True
        ):
            self.batch.place(game[None], position)

    def _choose(
        self, probabilities: Float[Tensor, "env action"], best: Bool[Tensor, "env action"]
    ) -> Int[Tensor, " env"]:
        """The expert's move in a share of the games, the agent's in the others."""
        share = self._ramp(self.config.expert_share)
        by_expert = torch.rand(len(best), generator=self._generator) < share
        mixed = torch.where(by_expert[:, None], best.float(), probabilities)
        return torch.multinomial(mixed, 1, generator=self._generator)[:, 0]

    def _values(self, moves: Int[Tensor, " env"]) -> Float[Tensor, " env"]:
        """Discounted return of optimal play, taking the boxes to arrive at even intervals."""
        rules, gamma, d = self.batch.rules, self.config.discount, moves.float()
        left = (self.batch.boxes & ~self.batch.targets).sum(1)
        value = rules.step * (1 - gamma**d) / (1 - gamma) + rules.solved * gamma ** (d - 1)
        for k in range(1, int(left.max()) + 1):
            arrival = d * k / left.clamp(min=1)
            value = value + torch.where(k <= left, rules.box_on * gamma ** (arrival - 1), 0.0)
        return torch.where(moves == UNSOLVABLE, 0.0, value)


def _policy_loss(
    log_probs: Float[Tensor, "env action"], best: Bool[Tensor, "env action"], tie_share: float
) -> Float[Tensor, ""]:
    """Divergence from the uniform choice among the best actions, mixed with that of their sum."""
    n_best = best.sum(1)
    uniform = -(best * log_probs).sum(1) / n_best - n_best.log()
    total = -log_probs.masked_fill(~best, -torch.inf).logsumexp(1)
    return (tie_share * uniform + (1 - tie_share) * total).mean()


def _successors(
    batch: SokobanBatch,
) -> tuple[Int[np.ndarray, "env action box"], Int[np.ndarray, "env action"]]:
    """Cells of the boxes and of the player, in the board without border, after each action."""
    walls, boxes = batch.walls.cpu().numpy(), batch.boxes.cpu().numpy()
    player, row = batch.player.cpu().numpy()[:, None], batch.width + 2
    n_envs = len(walls)
    moves = np.array([0, -row, row, -1, 1])
    env = np.arange(n_envs)[:, None]
    to = np.broadcast_to(player + moves, (n_envs, N_ACTIONS))
    beyond = np.clip(to + moves, 0, walls.shape[1] - 1)
    pushes = boxes[env, to] & (moves != 0)
    blocked = walls[env, to] | (pushes & (walls[env, beyond] | boxes[env, beyond]))
    cells = np.nonzero(boxes)[1].reshape(n_envs, 1, -1)
    shifted = np.where((cells == to[..., None]) & ~blocked[..., None], beyond[..., None], cells)
    players = np.where(blocked, player, to)
    return _inside(shifted, row), _inside(players, row)


def _inside(cells: np.ndarray, row: int) -> np.ndarray:
    """Cells of the board with border as cells of the board without."""
    return (cells // row - 1) * (row - 2) + cells % row - 1
