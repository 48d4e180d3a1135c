"""Episodes of an agent, and what its network held at every step of them.

An episode is kept as boards and actions. Activations are read by giving an agent the boards of an
episode again (`read_activations`): a recurrent agent without interventions then passes through the
same states, and another network (an untrained one, a snapshot) can be read on the same episodes.

`hook_agent` gives an agent the sites of the core: `cell_2` at layer 0 is the cell state of the
lowest layer after tick 2, so that `add`, `edit`, `ablate` and `model.capture` work as on language
models.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.core.activations import Activations
from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.planning.drc import Drc
from interp.planning.environment import Action, Rules, SokobanBatch
from interp.planning.levels import Levels
from interp.planning.resnet import ResNet
from interp.planning.solver import solve_optimally

KINDS = ("pool", "input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden")
"""What can be read of a DRC at every layer and tick."""

Steer = Callable[[Levels, Int[np.ndarray, " game"]], Sequence[Intervention]]
"""From the boards of the games that go on, and which games these are, to what acts in this step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Episodes:
    """Games played to their end or to a limit, step by step.

    What comes after the end of an episode repeats its last board, and counts nowhere: the rows of
    labels and activations are the steps before the end, episode after episode.
    """

    levels: Levels
    """The level of each episode."""
    actions: Int[np.ndarray, "episode step"]
    """What was played; no-ops after the end."""
    boxes: Bool[np.ndarray, "episode board height width"]
    """Boxes before every step and after the last one: one board more than there are steps."""
    player: Int[np.ndarray, "episode board"]
    """Cell of the player on the same boards, counted row by row."""
    lengths: Int[np.ndarray, " episode"]
    """Steps of each episode, thinking included."""
    solved: Bool[np.ndarray, " episode"]
    """Whether the episode ended with every box on a target."""
    think_steps: int = 0
    """How many steps at the start were no-ops on which the agent only computed."""

    def __post_init__(self) -> None:
        n_boards = self.actions.shape[1] + 1
        if self.boxes.shape[1] != n_boards or self.player.shape[1] != n_boards:
            raise ValueError(
                f"boxes and player have {self.boxes.shape[1]} and {self.player.shape[1]} boards; "
                f"{self.actions.shape[1]} steps need {n_boards}"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "Episodes":
        """A subset of the episodes; a slice, a list, an array of indices or a boolean mask."""
        return Episodes(
            levels=self.levels[index],
            actions=self.actions[index],
            boxes=self.boxes[index],
            player=self.player[index],
            lengths=self.lengths[index],
            solved=self.solved[index],
            think_steps=self.think_steps,
        )

    @property
    def alive(self) -> Bool[np.ndarray, "episode step"]:
        """Which steps come before the end of their episode."""
        return np.arange(self.actions.shape[1]) < self.lengths[:, None]

    @property
    def row_episodes(self) -> Int[np.ndarray, " row"]:
        """Episode of each row."""
        return np.nonzero(self.alive)[0]

    @property
    def row_steps(self) -> Int[np.ndarray, " row"]:
        """Step of each row within its episode."""
        return np.nonzero(self.alive)[1]

    def boards(self, step: int, episodes: Int[np.ndarray, " chosen"] | None = None) -> Levels:
        """How everything stood before a step, as levels.

        Args:
            step: Number of the step, from 0.
            episodes: Which episodes; all if None.
        """
        chosen = np.arange(len(self)) if episodes is None else episodes
        return Levels(
            walls=self.levels.walls[chosen],
            boxes=self.boxes[chosen, step],
            targets=self.levels.targets[chosen],
            player=self.player[chosen, step],
        )

    def observations(self) -> Float[Tensor, "row plane height width"]:
        """What the agent saw, one row for each step before the end."""
        return observe(
            Levels(
                walls=self.levels.walls[self.row_episodes],
                boxes=self.boxes[self.row_episodes, self.row_steps],
                targets=self.levels.targets[self.row_episodes],
                player=self.player[self.row_episodes, self.row_steps],
            )
        )


def observe(boards: Levels) -> Float[Tensor, "board plane height width"]:
    """The seven planes of boards, as an agent sees them."""
    batch = SokobanBatch(boards, len(boards), autoreset=False)
    batch.reset(torch.arange(len(boards)))
    return batch.observe()


def hook_agent(agent: Drc | ResNet, *, name: str | None = None) -> HookedModel:
    """An agent with sites: read by `capture`, edited by the interventions of the core.

    Args:
        agent: The agent. For a DRC the site of a state or gate is its kind and tick, such as
            `cell_2` or `forget_gate_0`, at the layer of the cell; for a residual network it is
            `out` at the layer of the block. Both have `encoding`, outside the layers.
        name: Under which results name the agent.

    Examples:
        >>> from interp.planning.drc import DrcConfig
        >>> model = hook_agent(Drc(DrcConfig(channels=2, size=(4, 4), d_hidden=4)))
        >>> model.sites.at("cell_2", (0, 1))
        (Site(name='cell_2', layer=0), Site(name='cell_2', layer=1))
    """
    sites = {"encoding": "hook_encoding"}
    if isinstance(agent, Drc):
        for layer in range(agent.config.depth):
            for tick in range(agent.config.ticks):
                path = f"layers.{layer}.ticks.{tick}.hook_"
                sites |= {str(Site(f"{kind}_{tick}", layer)): path + kind for kind in KINDS}
    else:
        for block in range(agent.config.n_blocks):
            sites[str(Site("out", block))] = f"blocks.{block}.hook_out"
    return HookedModel(agent, sites=sites, name=name)


@torch.no_grad()
def play_episodes(
    agent: Drc | ResNet,
    levels: Levels,
    *,
    think_steps: int = 0,
    limit: int = 115,
    steer: Steer | None = None,
) -> Episodes:
    """Let an agent play every level once, taking its most probable action, and keep every step.

    Args:
        agent: The agent, on any device.
        levels: The levels.
        think_steps: No-ops at the start, on which the agent computes but does not move.
        limit: Steps after thinking at which an episode ends unsolved.
        steer: Gives the interventions of each step; without it the agent plays as it is.

    Returns:
        One episode for each level.
    """
    n_games, n_steps = len(levels), think_steps + limit
    model, state = hook_agent(agent), agent.initial_state(n_games)
    rules = Rules(limit=n_steps + 1, start_spread=0)
    batch = SokobanBatch(levels, n_games, rules=rules, autoreset=False)
    batch.reset(torch.arange(n_games))
    boards, actions = [batch.positions()], []
    lengths, solved = np.full(n_games, n_steps), np.zeros(n_games, dtype=bool)
    for step in range(n_steps):
        games = np.flatnonzero(~solved)
        if not len(games):
            break
        edit = nullcontext() if steer is None else model.intervene(*steer(boards[-1][games], games))
        with edit:
            output = agent(batch.observe()[games].to(state.device), state[:, :, games])
        state[:, :, games] = output.state.to(state.dtype)
        played = torch.zeros(n_games, dtype=torch.long)
        if step >= think_steps:
            played[games] = output.logits.argmax(1).cpu()
        ended = batch.step(played).solved.numpy() & ~solved
        lengths[ended], solved[ended] = step + 1, True
        boards.append(batch.positions())
        actions.append(played.numpy())
    return Episodes(
        levels=levels,
        actions=np.stack(actions, 1),
        boxes=np.stack([board.boxes for board in boards], 1),
        player=np.stack([board.player for board in boards], 1),
        lengths=lengths,
        solved=solved,
        think_steps=think_steps,
    )


def replay_actions(levels: Levels, actions: Sequence[Sequence[int | Action]]) -> Episodes:
    """Episodes of given actions, such as optimal solutions.

    Args:
        levels: The levels.
        actions: What is played in each of them; what would come after a solution is not played.

    Raises:
        ValueError: If there is not one sequence of actions for each level.
    """
    if len(actions) != len(levels):
        raise ValueError(f"actions has {len(actions)} sequences, but there are {len(levels)} games")
    n_steps = max(map(len, actions), default=0)
    table = np.zeros((len(levels), n_steps), dtype=np.int64)
    for game, sequence in enumerate(actions):
        table[game, : len(sequence)] = sequence
    rules = Rules(limit=n_steps + 1, start_spread=0)
    batch = SokobanBatch(levels, len(levels), rules=rules, autoreset=False)
    batch.reset(torch.arange(len(levels)))
    lengths = np.array([len(sequence) for sequence in actions])
    solved, boards = np.zeros(len(levels), dtype=bool), [batch.positions()]
    for step in range(n_steps):
        table[solved, step] = Action.NOOP
        ended = batch.step(torch.from_numpy(table[:, step])).solved.numpy() & ~solved
        ended &= step < lengths
        lengths[ended], solved[ended] = step + 1, True
        boards.append(batch.positions())
    return Episodes(
        levels=levels,
        actions=table,
        boxes=np.stack([board.boxes for board in boards], 1),
        player=np.stack([board.player for board in boards], 1),
        lengths=lengths,
        solved=solved,
    )


def optimal_episodes(levels: Levels) -> Episodes:
    """Each level played by a shortest solution.

    Raises:
        UnsolvableError: If a level has no solution.
    """
    return replay_actions(levels, [solve_optimally(level) for level in levels])


@torch.no_grad()
def read_activations(
    agent: Drc | ResNet,
    episodes: Episodes,
    *,
    sites: str | Sequence[str],
    layers: Sequence[int] | None = None,
    max_step: int | None = None,
) -> Activations:
    """What an agent's network holds when it sees the boards of episodes, one after the other.

    Args:
        agent: Any agent for boards of this size, not only the one that played.
        episodes: The episodes; recurrent states start from zero in each.
        sites: Sites of `hook_agent`, such as "cell_2", all of the same layers.
        layers: Layers of the sites; all if None.
        max_step: Read only steps before this one.

    Returns:
        Activations with a row for each step before the end of its episode, and the episode as the
        row's group. Values have the axes channel, y, x.
    """
    model, names = hook_agent(agent), [sites] if isinstance(sites, str) else list(sites)
    chosen = tuple(range(model.n_layers)) if layers is None else tuple(layers)
    wanted = {name: model.sites.at(name, chosen) for name in names}
    rows = _row_table(episodes, max_step)
    tensors: dict[str, Tensor] = {}
    state = agent.initial_state(len(episodes))
    for step, playing in _steps(rows):
        observation = observe(episodes.boards(step, playing)).to(state.device)
        with model.capture([site for at in wanted.values() for site in at]) as seen:
            state[:, :, playing] = agent(observation, state[:, :, playing]).state
        for name, at in wanted.items():
            values = torch.stack([seen[site][0] for site in at], 1).float().cpu()
            if name not in tensors:
                tensors[name] = values.new_empty(int(rows.max()) + 1, *values.shape[1:])
            tensors[name][rows[playing, step]] = values
    kept = rows >= 0
    return Activations(
        tensors=tensors, layers=chosen, groups=np.nonzero(kept)[0], pooling="step of an episode"
    )


def _row_table(episodes: Episodes, max_step: int | None) -> Int[np.ndarray, "episode step"]:
    """Number of the row of each step, -1 where there is none."""
    kept = episodes.alive[:, :max_step]
    table = np.full(kept.shape, -1)
    table[kept] = np.arange(kept.sum())
    return table


def _steps(
    rows: Int[np.ndarray, "episode step"],
) -> Iterator[tuple[int, Int[np.ndarray, " playing"]]]:
    """Each step with the episodes that have a row there."""
    for step in range(rows.shape[1]):
        playing = np.flatnonzero(rows[:, step] >= 0)
        if len(playing):
            yield step, playing
