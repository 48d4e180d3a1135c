"""Sokoban levels as pictures, one square of pixels for each cell, in and out.

The colors are those of gym-sokoban's "tiny world" (Schrader 2018), with which agents are trained
that see pictures.
"""

import numpy as np
from jaxtyping import UInt8

from interp.planning.levels import SYMBOLS, LevelError, Levels, concatenate_levels, parse_levels

COLORS = np.array(
    [
        (0, 0, 0),  # wall
        (243, 248, 238),  # floor
        (142, 121, 56),  # box
        (254, 95, 56),  # box on target
        (160, 212, 56),  # player
        (219, 212, 56),  # player on target
        (254, 126, 125),  # target
    ],
    dtype=np.uint8,
)
"""Red, green and blue of each of `SYMBOLS`."""


def to_pictures(levels: Levels, *, scale: int = 1) -> UInt8[np.ndarray, "level height width 3"]:
    """Draw levels with their border.

    Args:
        levels: The levels.
        scale: Pixels on each side of a cell.
    """
    texts = [level.to_text().splitlines()[1:] for level in levels]
    cells = np.array([[[SYMBOLS.index(c) for c in row] for row in rows] for rows in texts])
    return COLORS[cells].repeat(scale, axis=1).repeat(scale, axis=2)


def from_pictures(pictures: UInt8[np.ndarray, "level height width 3"], *, scale: int = 1) -> Levels:
    """Read levels from pictures with their border, as `to_pictures` draws them.

    Args:
        pictures: Pixels, red, green and blue.
        scale: Pixels on each side of a cell.

    Raises:
        LevelError: If sides are no multiples of `scale`, a pixel has none of the `COLORS`, cells
            are not of one color, or the level cannot be played; the message names picture, line and
            column, in pixels for colors and in cells for levels.
    """
    if any(side % scale for side in pictures.shape[1:3]):
        raise LevelError(
            f"pictures have {pictures.shape[1]}x{pictures.shape[2]} pixels, which are no cells of "
            f"{scale}x{scale}"
        )
    match = (pictures[..., None, :] == COLORS).all(-1)
    symbols = np.array(list(SYMBOLS))[match.argmax(-1)]
    cells = symbols[:, ::scale, ::scale]
    even = cells.repeat(scale, axis=1).repeat(scale, axis=2)
    known = match.any(-1) & (symbols == even)
    if not known.all():
        picture, row, column = np.argwhere(~known)[0].tolist()
        color = tuple(pictures[picture, row, column].tolist())
        raise LevelError(
            f"picture {picture}, line {row + 1}, column {column + 1}: the pixel {color} is no cell "
            f"of {scale}x{scale} pixels in a color of {COLORS.tolist()}"
        )
    return concatenate_levels(
        parse_levels("\n".join("".join(row) for row in grid), source=f"picture {number}")
        for number, grid in enumerate(cells)
    )
