"""Sokoban levels as arrays: the Boxoban text format in and out, symmetries, subsets.

A level is the interior of a walled board; everything outside counts as wall, so the border of the
text format is checked, dropped when reading and drawn again when writing.

Boxoban (Guez et al. 2018, "An investigation of model-free planning: Boxoban levels") writes a
level as a line `; number`, ten lines of ten characters and an empty line. Any size is read here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from interp.core.errors import InterpError

WALL, FLOOR, BOX, BOX_ON_TARGET, PLAYER, PLAYER_ON_TARGET, TARGET = "# $*@+."
SYMBOLS = WALL + FLOOR + BOX + BOX_ON_TARGET + PLAYER + PLAYER_ON_TARGET + TARGET
"""One character for each observation plane, in the order of the planes."""


class LevelError(InterpError, ValueError):
    """A level that cannot be read or played; the message names the line and the column."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Sokoban levels of one size, as boolean planes of their interior."""

    walls: Bool[np.ndarray, "level height width"]
    """Walls inside the border."""
    boxes: Bool[np.ndarray, "level height width"]
    """Where boxes stand at the start."""
    targets: Bool[np.ndarray, "level height width"]
    """Where boxes must go."""
    player: Int[np.ndarray, " level"]
    """Cell of the player at the start, counted row by row from 0."""

    def __post_init__(self) -> None:
        shapes = {self.walls.shape, self.boxes.shape, self.targets.shape}
        if len(shapes) != 1 or len(self.player) != len(self.walls):
            raise ValueError(
                f"walls, boxes and targets have shapes {self.walls.shape}, {self.boxes.shape} and "
                f"{self.targets.shape} and there are {len(self.player)} players; all must agree"
            )

    def __len__(self) -> int:
        return len(self.walls)

    def __iter__(self) -> Iterator["Levels"]:
        return (self[[index]] for index in range(len(self)))

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "Levels":
        """A subset of the levels; a slice, a list or an array of indices (not a single number)."""
        return Levels(
            walls=self.walls[index],
            boxes=self.boxes[index],
            targets=self.targets[index],
            player=self.player[index],
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the interior."""
        return self.walls.shape[1], self.walls.shape[2]

    @property
    def n_boxes(self) -> Int[np.ndarray, " level"]:
        """Boxes of each level."""
        return self.boxes.sum(axis=(1, 2))

    def to_text(self) -> str:
        """The levels in Boxoban's format; `parse_levels` reads them back unchanged."""
        return "\n".join(f"; {number}\n{_draw(level)}" for number, level in enumerate(self))


def parse_levels(text: str, *, source: str = "text") -> Levels:
    """Read levels from text: rows of `# $*@+.`, levels separated by `;` lines or empty lines.

    Args:
        text: The levels; all must have the same size. `-` and `_` are floor too.
        source: What the text is, for error messages.

    Returns:
        The levels, without their border.

    Raises:
        LevelError: If a character is unknown, a row has the wrong length, the border is open,
            there is not exactly one player, or boxes and targets differ in number. The message
            names line and column, both counted from 1.
    """
    blocks = list(_split(text))
    if not blocks:
        raise LevelError(f"{source} holds no level: rows of the characters {SYMBOLS!r} are needed")
    grids = [_read_grid(number, rows, source) for number, rows in blocks]
    for (number, _), grid in zip(blocks, grids, strict=True):
        if grid.shape != grids[0].shape:
            raise LevelError(
                f"{source}, line {number}, column 1: the level is {_size(grid)}, but the first is "
                f"{_size(grids[0])}; read levels of different sizes separately"
            )
    cells = np.stack(grids)[:, 1:-1, 1:-1]
    return Levels(
        walls=cells == WALL,
        boxes=np.isin(cells, [BOX, BOX_ON_TARGET]),
        targets=np.isin(cells, [TARGET, BOX_ON_TARGET, PLAYER_ON_TARGET]),
        player=np.isin(cells, [PLAYER, PLAYER_ON_TARGET]).reshape(len(cells), -1).argmax(axis=1),
    )


def load_levels(path: str | Path, *, limit: int | None = None) -> Levels:
    """Read levels from a text file, a packed `.npz` file, or a folder of text files.

    Args:
        path: The file, or a folder whose `*.txt` files are read in the order of their names.
        limit: Read at most this many levels.

    Returns:
        The levels, in the order of the files.

    Raises:
        FileNotFoundError: If there is no such file, or no `*.txt` in the folder.
        LevelError: If a level is malformed.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return load_packed_levels(path)[: limit if limit is not None else None]
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"no *.txt file in the folder {str(path)!r}")
    parts, count = [], 0
    for file in files:
        parts.append(parse_levels(file.read_text(), source=str(file)))
        count += len(parts[-1])
        if limit is not None and count >= limit:
            break
    return concatenate_levels(parts)[:limit]


def load_packed_levels(path: str | Path) -> Levels:
    """Read levels from a compressed numpy file, as `save_packed_levels` writes it.

    Args:
        path: A `.npz` file with `walls` (bits of the cells, row by row, padded to whole bytes),
            `boxes` and `targets` (cells), `player` (cell) and optionally `size` (height, width;
            8, 8 without it).

    Returns:
        The levels.
    """
    with np.load(path) as file:
        height, width = (int(n) for n in file["size"]) if "size" in file else (8, 8)
        n_levels, n_cells = len(file["walls"]), height * width
        walls = np.unpackbits(file["walls"], axis=1)[:, :n_cells].astype(bool)
        shape = (n_levels, height, width)
        return Levels(
            walls=walls.reshape(shape),
            boxes=_scatter(file["boxes"], n_cells).reshape(shape),
            targets=_scatter(file["targets"], n_cells).reshape(shape),
            player=file["player"].astype(np.int64),
        )


def save_packed_levels(levels: Levels, path: str | Path) -> None:
    """Write levels to a compressed numpy file of about a dozen bytes a level.

    Args:
        levels: Levels that all have the same number of boxes.
        path: The `.npz` file.

    Raises:
        ValueError: If the levels differ in their number of boxes.
    """
    if len(set(levels.n_boxes.tolist())) != 1:
        raise ValueError(
            f"levels with {sorted(set(levels.n_boxes.tolist()))} boxes cannot be packed together; "
            "save each number of boxes in its own file"
        )
    flat = (len(levels), -1)
    np.savez_compressed(
        path,
        size=np.array(levels.size),
        walls=np.packbits(levels.walls.reshape(flat), axis=1),
        boxes=np.nonzero(levels.boxes.reshape(flat))[1].reshape(flat).astype(np.uint16),
        targets=np.nonzero(levels.targets.reshape(flat))[1].reshape(flat).astype(np.uint16),
        player=levels.player.astype(np.uint16),
    )


def concatenate_levels(parts: Iterable[Levels]) -> Levels:
    """Levels one after the other; all must have the same size."""
    parts = list(parts)
    sizes = {part.size for part in parts}
    if len(sizes) != 1:
        raise ValueError(f"levels of sizes {sorted(sizes)} cannot be joined; one size is needed")
    return Levels(
        walls=np.concatenate([part.walls for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        player=np.concatenate([part.player for part in parts]),
    )


def _split(text: str) -> Iterator[tuple[int, list[str]]]:
    """Blocks of rows with the number of their first line."""
    start, rows = 0, []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith(";") or not line.strip():
            if rows:
                yield start, rows
            rows = []
        else:
            start = start if rows else number
            rows.append(line.rstrip("\r\n"))


def _read_grid(first: int, rows: list[str], source: str) -> np.ndarray:
    """One level as an array of characters, checked."""

    def fail(row: int, column: int, message: str) -> LevelError:
        return LevelError(f"{source}, line {first + row}, column {column + 1}: {message}")

    width = len(rows[0])
    rows = [re.sub("[-_]", FLOOR, row) for row in rows]
    for r, row in enumerate(rows):
        for c, symbol in enumerate(row):
            if symbol not in SYMBOLS:
                raise fail(r, c, f"{symbol!r} is not one of {SYMBOLS!r}")
        if len(row) != width:
            message = f"the row has {len(row)} characters, but the level's first row has {width}"
            raise fail(r, min(len(row), width), message)
    if len(rows) < 3 or width < 3:
        raise fail(
            0, 0, f"the level is {len(rows)}x{width}; at least 3x3 with its border is needed"
        )
    grid = np.array([list(row) for row in rows])
    border = np.ones(grid.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    for r, c in np.argwhere(border & (grid != WALL)).tolist():
        raise fail(r, c, f"{str(grid[r, c])!r} in the border; every border cell must be {WALL!r}")
    _check_pieces(grid, fail)
    return grid


def _check_pieces(grid: np.ndarray, fail: Callable[[int, int, str], LevelError]) -> None:
    """One player, as many boxes as targets, at least one."""
    players = np.argwhere(np.isin(grid, [PLAYER, PLAYER_ON_TARGET]))
    if len(players) == 0:
        raise fail(0, 0, f"the level has no player; mark it by {PLAYER!r} or {PLAYER_ON_TARGET!r}")
    if len(players) > 1:
        row, column = players[1].tolist()
        raise fail(row, column, f"a second player; {len(players)} are marked, one is needed")
    n_boxes = np.isin(grid, [BOX, BOX_ON_TARGET]).sum()
    n_targets = np.isin(grid, [TARGET, BOX_ON_TARGET, PLAYER_ON_TARGET]).sum()
    if n_boxes == 0:
        raise fail(0, 0, f"the level has no box; mark boxes by {BOX!r} or {BOX_ON_TARGET!r}")
    if n_boxes != n_targets:
        raise fail(
            0, 0, f"the level has {n_boxes} boxes but {n_targets} targets; as many are needed"
        )


def _draw(level: Levels) -> str:
    """One level as rows of characters, with its border."""
    return board_text(level.walls[0], level.boxes[0], level.targets[0], int(level.player[0]))


def board_text(
    walls: Bool[np.ndarray, "height width"],
    boxes: Bool[np.ndarray, "height width"],
    targets: Bool[np.ndarray, "height width"],
    player: int,
) -> str:
    """A board as rows of characters with a border of walls, ending in a line break."""
    height, width = walls.shape
    rows = [WALL * (width + 2)]
    for r in range(height):
        row = WALL
        for c in range(width):
            symbol = BOX if boxes[r, c] else PLAYER if r * width + c == player else FLOOR
            on_target = {BOX: BOX_ON_TARGET, PLAYER: PLAYER_ON_TARGET, FLOOR: TARGET}
            row += WALL if walls[r, c] else on_target[symbol] if targets[r, c] else symbol
        rows.append(row + WALL)
    return "\n".join([*rows, WALL * (width + 2)]) + "\n"


def _scatter(cells: np.ndarray, n_cells: int) -> np.ndarray:
    """Rows of cell numbers as rows of booleans."""
    plane = np.zeros((len(cells), n_cells), dtype=bool)
    np.put_along_axis(plane, cells.astype(np.int64), True, axis=1)
    return plane


def _size(grid: np.ndarray) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"
