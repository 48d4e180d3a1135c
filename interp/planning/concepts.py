"""What a planning agent will do to each square: concepts of Bush et al. 2025 (arXiv 2504.01871).

Every concept has five classes on every square of every step: never, up, down, left, right.

- `agent_approach` (C_A, Agent Approach Direction): the move by which the agent next steps onto the
  square in the rest of the episode.
- `box_push` (C_B, Box Push Direction): the direction in which a box is next pushed off the square.
- `agent_exit` and `box_approach`: the same for leaving a square and for boxes that come onto it.

The action of the step itself counts as future. No-ops and blocked moves count nowhere. One backward
pass over an episode gives labels and waiting times; the binary and the k-step variants follow.
Labels say what the agent did, so they are only as good as the agent: an episode that is not solved
has labels of aimless walking too.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from interp.core.errors import near_miss
from interp.planning.rollouts import Episodes

CONCEPTS = ("agent_approach", "agent_exit", "box_approach", "box_push")
"""Names of the concepts."""
CLASSES = ("never", "up", "down", "left", "right")
"""Names of the classes; their numbers are those of the actions, with never in place of no-op."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptLabels:
    """A concept on every square of every step."""

    name: str
    """Which concept."""
    classes: Int[np.ndarray, "row height width"]
    """Number of the class, see `CLASSES`."""
    wait: Int[np.ndarray, "row height width"]
    """Steps until it happens, 0 if by the action of this very step, -1 if never."""
    episodes: Int[np.ndarray, " row"]
    """Episode of each row."""

    def __post_init__(self) -> None:
        if self.classes.shape != self.wait.shape or len(self.classes) != len(self.episodes):
            raise ValueError(
                f"classes has shape {self.classes.shape}, wait {self.wait.shape} and episodes has "
                f"{len(self.episodes)} rows; all must agree"
            )

    @property
    def ever(self) -> Bool[np.ndarray, "row height width"]:
        """The binary variant: whether it happens at all."""
        return self.classes > 0

    def within(self, n_steps: int) -> Int[np.ndarray, "row height width"]:
        """The k-step variant: classes, with never where it does not happen in the next steps.

        Args:
            n_steps: How many actions count, from that of this step on.

        Raises:
            ValueError: If `n_steps` is not positive.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps!r}; at least 1 is needed")
        return np.where(self.wait < n_steps, self.classes, 0)


def label_concept(episodes: Episodes, name: str) -> ConceptLabels:
    """Labels of a concept for every step before the end of its episode.

    Args:
        episodes: What was played.
        name: One of `CONCEPTS`.

    Raises:
        ValueError: If there is no such concept.
    """
    if name not in CONCEPTS:
        raise ValueError(f"no concept {name!r}; there are {CONCEPTS}{near_miss(name, CONCEPTS)}")
    happens, cells = _events(episodes, name)
    n_episodes, n_steps = episodes.actions.shape
    shape = (n_episodes, n_steps, episodes.levels.walls[0].size)
    classes, moment = np.zeros(shape, dtype=np.int8), np.full(shape, -1, dtype=np.int16)
    now, when = np.zeros(shape[::2], dtype=np.int8), np.full(shape[::2], -1, dtype=np.int16)
    for step in reversed(range(n_steps)):
        some = np.flatnonzero(happens[:, step])
        now[some, cells[some, step]] = episodes.actions[some, step]
        when[some, cells[some, step]] = step
        classes[:, step], moment[:, step] = now, when
    alive = episodes.alive
    wait = np.where(moment < 0, -1, moment - np.arange(n_steps)[:, None])
    board = (-1, *episodes.levels.size)
    return ConceptLabels(
        name=name,
        classes=classes[alive].reshape(board).astype(np.int64),
        wait=wait[alive].reshape(board).astype(np.int64),
        episodes=episodes.row_episodes,
    )


def future_actions(episodes: Episodes, ahead: int) -> Int[np.ndarray, " row"]:
    """The action that an episode plays some steps ahead, 0 (no-op) beyond its end.

    Args:
        episodes: What was played.
        ahead: How many steps ahead; 0 is the action of the step itself.
    """
    alive, n_steps = episodes.alive, episodes.actions.shape[1]
    shifted = np.zeros_like(episodes.actions)
    shifted[:, : max(0, n_steps - ahead)] = np.where(alive, episodes.actions, 0)[:, ahead:]
    return shifted[alive]


def _events(
    episodes: Episodes, name: str
) -> tuple[Bool[np.ndarray, "episode step"], Int[np.ndarray, "episode step"]]:
    """In which steps something happens that the concept speaks of, and to which square."""
    before, after = episodes.player[:, :-1], episodes.player[:, 1:]
    moved = (before != after) & episodes.alive
    if name == "agent_approach":
        return moved, after
    if name == "agent_exit":
        return moved, before
    flat = episodes.boxes.reshape(*episodes.boxes.shape[:2], -1)
    pushed = moved & np.take_along_axis(flat[:, :-1], after[..., None], axis=2)[..., 0]
    if name == "box_push":
        return pushed, after  # the agent steps onto the square that the box leaves
    beyond = np.where(pushed, 2 * after - before, 0)  # the box goes on by the same step
    return pushed, beyond
