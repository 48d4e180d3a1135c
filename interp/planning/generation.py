"""New levels: random walls and targets, and a start at a known distance from the solution.

Every level is solvable, because its start is drawn from the positions that the solver reached.
Large levels take long to make, so that a set of them comes with the package.
"""

from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
from jaxtyping import Bool

from interp.core.seeds import derive
from interp.planning.levels import Levels, concatenate_levels, load_packed_levels
from interp.planning.solver import DistanceTable, solve_distances


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """What generated levels look like."""

    size: tuple[int, int] = (6, 6)
    """Height and width without the border."""
    n_boxes: int = 2
    """Boxes, and targets."""
    wall_share: tuple[float, float] = (0.1, 0.35)
    """A level's share of walls is drawn uniformly between these."""
    distance: tuple[int, int] = (6, 45)
    """Fewest and most moves from the start to the solution."""
    starts_per_layout: int = 1
    """Levels made from the same walls and targets."""

    def __post_init__(self) -> None:
        if self.n_boxes < 1 or self.n_boxes + 1 > self.size[0] * self.size[1]:
            raise ValueError(f"n_boxes is {self.n_boxes!r}; it must fit a board of {self.size}")
        if not 1 <= self.distance[0] <= self.distance[1]:
            raise ValueError(f"distance is {self.distance!r}; 1 <= fewest <= most is needed")


LEVEL_SET = GenerationConfig(size=(8, 8), n_boxes=4, wall_share=(0.375, 0.65), distance=(10, 100))
"""What `load_level_set` holds: size, boxes and share of walls are those of most of Boxoban."""


def load_level_set() -> Levels:
    """The 1,000 levels that come with the package: `generate_levels(1000, config=LEVEL_SET)`."""
    with as_file(files("interp.planning") / "levels_8x8.npz") as path:
        return load_packed_levels(path)


def generate_levels(
    n_levels: int,
    *,
    config: GenerationConfig = GenerationConfig(),
    seed: int = 0,
    max_layouts: int | None = None,
) -> Levels:
    """Generate solvable levels.

    Args:
        n_levels: How many.
        config: What they look like.
        seed: Seed of the draws.
        max_layouts: Give up after this many random layouts; 200 + 100 for each level if None.

    Returns:
        The levels. Starts are drawn with a weight in proportion to their distance, so that long
        solutions are not rare.

    Raises:
        ValueError: If too few layouts have a start at the asked distance.
    """
    random = np.random.default_rng(derive(seed, "levels", config))
    made: list[Levels] = []
    for _ in range(200 + 100 * n_levels if max_layouts is None else max_layouts):
        layout = _draw_layout(random, config)
        if layout is not None:
            made.extend(_draw_starts(random, layout, solve_distances(layout), config))
        if len(made) >= n_levels:
            return concatenate_levels(made[:n_levels])
    raise ValueError(
        f"only {len(made)} of {n_levels} levels found: few layouts of size {config.size} have a "
        f"start {config.distance[0]} to {config.distance[1]} moves from the solution; allow other "
        "distances or more layouts"
    )


def _draw_layout(random: np.random.Generator, config: GenerationConfig) -> Levels | None:
    """Random walls and targets, with boxes on the targets; None if they do not fit."""
    height, width = config.size
    walls = random.random(height * width) < random.uniform(*config.wall_share)
    free = np.flatnonzero(~walls)
    if len(free) <= config.n_boxes:
        return None
    chosen = random.permutation(free)[: config.n_boxes + 1]
    targets = np.zeros(height * width, dtype=bool)
    targets[chosen[:-1]] = True
    return _level(walls, targets, targets, int(chosen[-1]), config.size)


def _draw_starts(
    random: np.random.Generator, layout: Levels, table: DistanceTable, config: GenerationConfig
) -> list[Levels]:
    """Starts on one layout; none unless enough positions are far enough to make it a puzzle."""
    moves = table.distance.ravel().astype(np.float64)
    fewest, most = config.distance
    usable = (moves >= fewest) & (moves <= most)
    if usable.sum() < 100:
        return []
    weights = np.where(usable, moves, 0.0)
    drawn = random.choice(len(moves), size=config.starts_per_layout, p=weights / weights.sum())
    placements, players = np.divmod(drawn, table.distance.shape[1])
    starts = []
    for cells, player in zip(table.placement_boxes(placements), players, strict=True):
        boxes = np.zeros(layout.walls.size, dtype=bool)
        boxes[cells] = True
        walls, targets = layout.walls.ravel(), layout.targets.ravel()
        starts.append(_level(walls, boxes, targets, int(player), config.size))
    return starts


def _level(
    walls: Bool[np.ndarray, " cell"],
    boxes: Bool[np.ndarray, " cell"],
    targets: Bool[np.ndarray, " cell"],
    player: int,
    size: tuple[int, int],
) -> Levels:
    return Levels(
        walls=walls.reshape(1, *size),
        boxes=boxes.reshape(1, *size),
        targets=targets.reshape(1, *size),
        player=np.array([player]),
    )
