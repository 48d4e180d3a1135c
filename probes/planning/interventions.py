"""Whether the plan that a probe reads is what the agent acts on: change it and watch.

After Bush et al. 2025 (arXiv 2504.01871). On levels with a short and a long way, vectors of the
1x1 probe are added to the cell state of one layer at every tick, before the output gate reads it:

- "short": the vector of never on the squares of the short way, at every step;
- "directed": the vectors of the long way's directions on its first squares, until the agent (or a
  box) stands on one of them;
- "both" of them.

A success is a level solved without ever entering the short way's checkpoint. Random vectors of the
same norm are the control: large vectors move an agent whatever they mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from interp import viz
from interp.core.interventions import edit
from interp.core.seeds import generator
from interp.core.statistics import wilson
from interp.planning.drc import Drc
from interp.planning.levels import Levels
from interp.planning.rollouts import Steer, play_episodes
from interp.planning.shortcuts import Shortcuts, took_long_way
from probes.evaluation import Estimate, group_draws, summarized
from probes.planning.spatial import SpatialProbe

PARTS = ("short", "directed", "both")
"""What can be added."""
_PLACES: dict[str, str] = {
    "short": "the short way",
    "directed": "the long way",
    "both": "both ways",
}
PROBE, RANDOM, NOTHING = "probe", "random", "nothing"


@dataclass(frozen=True, kw_only=True)
class SteeringConfig:
    """Which interventions are tried."""

    coefficients: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Factors on the vectors."""
    parts: tuple[str, ...] = PARTS
    """Which of the parts."""
    n_directed: int = 1
    """Squares of the long way that get their direction."""
    n_random: int = 1
    """Draws of the random vectors."""
    limit: int = 115
    """Steps within which a level must be solved."""
    seed: int = 0
    """Seed of the random vectors."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise ValueError(f"parts has {unknown}; there are {PARTS}")


@dataclass(frozen=True, kw_only=True, eq=False)
class SteeringRow:
    """One intervention on all levels."""

    layer: int | None
    """Where vectors were added, None without intervention."""
    part: str
    """One of `PARTS`, or "nothing"."""
    vector: str
    """ "probe", "random" or "nothing"."""
    coefficient: float
    """Factor on the vectors."""
    success: Float[np.ndarray, " level"]
    """Whether each level was solved the long way (over several random draws: how often)."""


@dataclass(frozen=True, kw_only=True)
class SteeringResult:
    """How often interventions made the agent, or a box, go the long way."""

    rows: tuple[SteeringRow, ...]
    """One for each layer, part, vector and coefficient."""
    mover: str
    """Whose way."""
    base: Int[np.ndarray, " level"]
    """Levels with the same number are symmetric copies, and stay together in intervals."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each intervention, with Wilson's interval of its success.

        Symmetric copies count as levels of their own there: see `above_random` for intervals that
        do not take them to be independent.
        """
        return pd.DataFrame([_as_row(row, self.mover) for row in self.rows])

    def above_random(self, *, layer: int, part: str, coefficient: float) -> Estimate:
        """Success of the probe's vectors minus that of random ones, paired over levels.

        Args:
            layer: Where they were added.
            part: One of `PARTS`.
            coefficient: Factor on the vectors.
        """
        found = {
            row.vector: row.success
            for row in self.rows
            if (row.layer, row.part, row.coefficient) == (layer, part, coefficient)
        }
        if PROBE not in found or RANDOM not in found:
            raise KeyError(f"no intervention at layer {layer}, {part!r}, {coefficient}")
        return _mean_interval(found[PROBE] - found[RANDOM], self.base)

    def best(self, *, part: str = "both", coefficient: float = 1.0) -> int:
        """The layer at which the probe's vectors succeed most often."""
        own = [
            row
            for row in self.rows
            if (row.vector, row.part, row.coefficient) == (PROBE, part, coefficient)
        ]
        layer = max(own, key=lambda row: float(row.success.mean())).layer
        assert layer is not None
        return layer

    def plot(self, *, part: str = "both", **layout: Any) -> viz.Figure:
        """Success over coefficients, one line for each layer and the random vectors in gray."""
        return plot_steering(self.to_frame(), part=part, **layout)


def plot_steering(frame: pd.DataFrame, *, part: str = "both", **layout: Any) -> viz.Figure:
    """Success over coefficients, one line for each layer and the random vectors in gray.

    Args:
        frame: As `SteeringResult.to_frame` gives it.
        part: One of `PARTS`.
        **layout: For `Figure.update_layout`, applied last.
    """
    chosen = frame.loc[frame["part"] == part].sort_values("coefficient")
    lines = {}
    for _, own in chosen.groupby(["layer", "vector"]):
        layer, vector = own["layer"].iloc[0], own["vector"].iloc[0]
        lines[f"layer {layer:.0f}, {vector}"] = viz.Curve(
            x=own["coefficient"],
            y=own["success"],
            low=own["low"],
            high=own["high"],
            control=vector == RANDOM,
        )
    nothing = frame.loc[frame["part"] == NOTHING, "success"].iloc[0]
    ticks = chosen["coefficient"].drop_duplicates().tolist()
    layout.setdefault("xaxis", {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]})
    return viz.curves(
        lines,
        title=f"The long way of the {frame['mover'].iloc[0]}: vectors on {_PLACES[part]}",
        x_title="coefficient",
        y_title="share of levels solved the long way",
        references={"no intervention": float(nothing)},
        log_x=True,
        **layout,
    )


def measure_steering(
    agent: Drc,
    shortcuts: Shortcuts,
    probes: Mapping[int, SpatialProbe],
    *,
    config: SteeringConfig = SteeringConfig(),
    progress: bool = False,
) -> SteeringResult:
    """Try interventions on every layer, with the probe's vectors and with random ones.

    Args:
        agent: The agent.
        shortcuts: Levels with two ways.
        probes: By layer, 1x1 probes of `shortcuts.concept`.
        config: Which interventions.
        progress: Whether to show a progress bar.
    """
    episodes = play_episodes(agent, shortcuts.levels, limit=config.limit)
    plain = took_long_way(shortcuts, episodes).astype(float)
    rows = [SteeringRow(layer=None, part=NOTHING, vector=NOTHING, coefficient=0.0, success=plain)]
    grid = [
        (layer, part, coefficient)
        for layer in probes
        for part in config.parts
        for coefficient in config.coefficients
    ]
    for layer, part, coefficient in tqdm(grid, desc="interventions", disable=not progress):
        own = probe_vectors(probes[layer])
        draws = [random_vectors(own, config.seed + k) for k in range(config.n_random)]
        for vector, tables in ((PROBE, [own]), (RANDOM, draws)):
            results = [
                _try(agent, shortcuts, coefficient * table, layer, part, config) for table in tables
            ]
            rows.append(
                SteeringRow(
                    layer=layer,
                    part=part,
                    vector=vector,
                    coefficient=coefficient,
                    success=np.mean(results, axis=0),
                )
            )
    return SteeringResult(rows=tuple(rows), mover=shortcuts.mover, base=shortcuts.base)


def probe_vectors(probe: SpatialProbe) -> Float[Tensor, "class channel"]:
    """The weights of a 1x1 probe, one row for each class."""
    return torch.stack([probe.direction(k) for k in range(probe.n_classes)])


def random_vectors(
    vectors: Float[Tensor, "class channel"], seed: int
) -> Float[Tensor, "class channel"]:
    """Random vectors of the same norms."""
    drawn = torch.randn(vectors.shape, generator=generator(seed, "random vectors"))
    return drawn * vectors.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)


def steer_along(
    agent: Drc,
    shortcuts: Shortcuts,
    vectors: Float[Tensor, "class channel"],
    *,
    layer: int,
    part: str = "both",
    n_directed: int = 1,
) -> Steer:
    """What `play_episodes` needs to put vectors on the ways of levels while they are played.

    Args:
        agent: The agent.
        shortcuts: The levels that will be played.
        vectors: What is added for each class, with its magnitude.
        layer: Where.
        part: One of `PARTS`.
        n_directed: Squares of the long way that get their direction.
    """
    away = _fields(vectors, np.where(shortcuts.short, 0, -1))
    first = (shortcuts.order >= 0) & (shortcuts.order < n_directed)
    toward = _fields(vectors, np.where(first, shortcuts.long, -1))
    waiting = np.ones(len(shortcuts), dtype=bool)

    def steer(boards: Levels, games: Int[np.ndarray, " game"]) -> Sequence[Any]:
        waiting[games] &= ~_reached(shortcuts, first, boards, games)
        added = torch.zeros_like(away[games])
        if part != "directed":
            added = added + away[games]
        if part != "short":
            added = added + toward[games] * torch.from_numpy(waiting[games])[:, None, None, None]
        return [
            edit(lambda value, call: value + added.to(value), layers=layer, site=f"cell_{tick}")
            for tick in range(agent.config.ticks)
        ]

    return steer


def wilson_interval(
    n_successes: float | int, n: int, *, level: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        n_successes: How often it happened.
        n: Of how many.
        level: Confidence.

    Examples:
        >>> low, high = wilson_interval(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)
    """
    found = wilson(n_successes, n, level=level)
    return found.low, found.high


def _try(
    agent: Drc,
    shortcuts: Shortcuts,
    vectors: Float[Tensor, "class channel"],
    layer: int,
    part: str,
    config: SteeringConfig,
) -> Bool[np.ndarray, " level"]:
    """Which levels are solved the long way under one intervention."""
    steer = steer_along(
        agent, shortcuts, vectors, layer=layer, part=part, n_directed=config.n_directed
    )
    episodes = play_episodes(agent, shortcuts.levels, limit=config.limit, steer=steer)
    return took_long_way(shortcuts, episodes)


def _fields(
    vectors: Float[Tensor, "class channel"], classes: Int[np.ndarray, "level height width"]
) -> Float[Tensor, "level channel height width"]:
    """The vector of each square's class; nothing where the class is -1."""
    table = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
    return table[torch.from_numpy(classes)].movedim(3, 1)


def _reached(
    shortcuts: Shortcuts,
    first: Bool[np.ndarray, "level height width"],
    boards: Levels,
    games: Int[np.ndarray, " game"],
) -> Bool[np.ndarray, " game"]:
    """Whether the agent, or a box that moved, stands on one of the directed squares."""
    directed = first[games].reshape(len(games), -1)
    if shortcuts.mover == "agent":
        return directed[np.arange(len(games)), boards.player]
    came = boards.boxes & ~shortcuts.levels.boxes[games]
    return np.asarray((directed & came.reshape(len(games), -1)).any(1))


def _mean_interval(
    values: Float[np.ndarray, " level"], groups: Int[np.ndarray, " level"]
) -> Estimate:
    """Mean with an interval over draws of whole groups."""
    _, which = np.unique(groups, return_inverse=True)
    draws = group_draws(which)
    return summarized(float(values.mean()), draws @ values / draws.sum(1), 0.95)


def _as_row(row: SteeringRow, mover: str) -> dict[str, Any]:
    n = len(row.success)
    low, high = wilson_interval(float(row.success.sum()), n)
    return {
        "mover": mover,
        "layer": np.nan if row.layer is None else row.layer,
        "part": row.part,
        "vector": row.vector,
        "coefficient": row.coefficient,
        "success": float(row.success.mean()),
        "low": low,
        "high": high,
        "n_levels": n,
    }
