import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.planning.levels import (
    LevelError,
    Levels,
    concatenate_levels,
    load_levels,
    load_packed_levels,
    parse_levels,
    save_packed_levels,
)

TEXT = """; 0
#######
#@ $ .#
#  # *#
# +   #
#######
"""
GOOD = TEXT.replace("+", " ")


def random_levels(seed: int, n_levels: int = 3, size: tuple[int, int] = (4, 5)) -> Levels:
    """Boards with one to three boxes, not necessarily solvable."""
    random = np.random.default_rng(seed)
    walls, boxes, targets = (np.zeros((n_levels, *size), dtype=bool) for _ in range(3))
    player = np.zeros(n_levels, dtype=np.int64)
    for i in range(n_levels):
        n_boxes = random.integers(1, 4)
        cells = random.permutation(size[0] * size[1])
        boxes[i].flat[cells[:n_boxes]] = True
        player[i] = cells[n_boxes]
        targets[i].flat[random.permutation(cells[:12])[:n_boxes]] = True
        walls[i].flat[cells[12:16]] = True
    return Levels(walls=walls, boxes=boxes, targets=targets, player=player)


def assert_equal(a: Levels, b: Levels) -> None:
    for name in ("walls", "boxes", "targets", "player"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_symbols_are_read_without_the_border() -> None:
    levels = parse_levels(GOOD)
    assert levels.size == (3, 5)
    assert levels.player.tolist() == [0]
    assert np.argwhere(levels.boxes[0]).tolist() == [[0, 2], [1, 4]]
    assert np.argwhere(levels.targets[0]).tolist() == [[0, 4], [1, 4]]
    assert np.argwhere(levels.walls[0]).tolist() == [[1, 2]]
    assert levels.n_boxes.tolist() == [2]


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_text_and_packed_files_give_the_levels_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    levels = random_levels(seed)
    assert_equal(parse_levels(levels.to_text()), levels)
    same = levels[np.flatnonzero(levels.n_boxes == levels.n_boxes[0])]
    path = tmp_path_factory.mktemp("packed") / "levels.npz"
    save_packed_levels(same, path)
    assert_equal(load_packed_levels(path), same)


def test_levels_need_no_comment_lines_and_allow_other_floor_symbols() -> None:
    body = "\n".join(GOOD.splitlines()[1:])
    assert_equal(parse_levels(f"{body}\n\n{body.replace(' ', '-')}")[:1], parse_levels(GOOD))


def test_a_folder_is_read_in_order_and_up_to_the_limit(tmp_path) -> None:
    levels = random_levels(1, 6)
    for name, part in (("001.txt", levels[3:]), ("000.txt", levels[:3])):
        (tmp_path / name).write_text(part.to_text())
    assert_equal(load_levels(tmp_path), levels)
    assert_equal(load_levels(tmp_path, limit=4), levels[:4])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \*.txt file"):
        load_levels(empty)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("#@ $", "#@ x"), "levels.txt, line 3, column 4: 'x' is not one of"),
        (GOOD.replace("#  # *#", "#  # *##"), "line 4, column 8: the row has 8 characters"),
        (GOOD.replace("#  # *#", "   # *#"), "line 4, column 1: ' ' in the border"),
        (TEXT.replace("@", " "), "the level has 2 boxes but 3 targets"),
        (GOOD.replace("@", " "), "line 2, column 1: the level has no player"),
        (GOOD.replace("#  # *#", "#@ # *#"), "line 4, column 2: a second player"),
        (GOOD.replace("$", " ").replace("*", "."), "no box"),
        ("; 0\n##\n##\n", "at least 3x3"),
        ("\n", "holds no level"),
        (GOOD + "\n; 1\n####\n#@ #\n#$.#\n####\n", "line 9, column 1: the level is 4x4"),
    ],
)
def test_malformed_levels_are_named_by_line_and_column(text: str, message: str) -> None:
    with pytest.raises(LevelError, match=message):
        parse_levels(text, source="levels.txt")


def test_levels_that_do_not_fit_together_are_refused() -> None:
    levels = random_levels(0)
    with pytest.raises(ValueError, match="one size is needed"):
        concatenate_levels([levels, random_levels(0, size=(5, 5))])
    mixed = parse_levels(GOOD + "\n; 1\n#######\n#@ $ .#\n#     #\n#     #\n#######\n")
    with pytest.raises(ValueError, match="cannot be packed together"):
        save_packed_levels(mixed, "unused.npz")
