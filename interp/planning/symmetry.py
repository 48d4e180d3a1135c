"""The eight symmetries of the square, acting on levels, boards and moves.

Symmetry `s` in 0..7 mirrors left and right if `s >= 4`, then turns the board by 90 degrees
counterclockwise `s % 4` times. A solution of a level, with its moves transformed, solves the
transformed level.
"""

import numpy as np

from interp.planning.levels import Levels

N_SYMMETRIES = 8
_STEPS = {1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}


def transform_plane(plane: np.ndarray, symmetry: int) -> np.ndarray:
    """Apply a symmetry to arrays whose last two axes are height and width."""
    _check(symmetry)
    mirrored = plane[..., ::-1] if symmetry >= 4 else plane
    return np.rot90(mirrored, symmetry % 4, axes=(-2, -1))


def transform_action(action: int, symmetry: int) -> int:
    """The move on the transformed board that corresponds to a move on the original one."""
    _check(symmetry)
    if action == 0:
        return 0
    down, right = _STEPS[action]
    if symmetry >= 4:
        right = -right
    for _ in range(symmetry % 4):
        down, right = -right, down
    return next(a for a, step in _STEPS.items() if step == (down, right))


def transform_levels(levels: Levels, symmetry: int) -> Levels:
    """Apply a symmetry to levels; for odd ones height and width change places."""
    height, width = levels.size
    player = np.arange(height * width) == levels.player[:, None]
    turned = transform_plane(player.reshape(-1, height, width), symmetry)
    return Levels(
        walls=transform_plane(levels.walls, symmetry).copy(),
        boxes=transform_plane(levels.boxes, symmetry).copy(),
        targets=transform_plane(levels.targets, symmetry).copy(),
        player=turned.reshape(len(levels), -1).argmax(axis=1),
    )


def _check(symmetry: int) -> None:
    if not 0 <= symmetry < N_SYMMETRIES:
        raise ValueError(f"symmetry is {symmetry!r}; an integer from 0 to 7 is needed")
