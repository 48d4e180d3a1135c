"""Levels as pictures: the published colors, and the same levels back."""

import numpy as np
import pytest

from interp.planning.generation import generate_levels
from interp.planning.levels import LevelError, parse_levels
from interp.planning.pictures import from_pictures, to_pictures

LEVEL = "#####\n#@$.#\n#*  #\n#####\n"


def test_a_picture_has_the_published_colors() -> None:
    picture = to_pictures(parse_levels(LEVEL))[0]
    assert picture.shape == (4, 5, 3)
    assert picture[1, 1:4].tolist() == [[160, 212, 56], [142, 121, 56], [254, 126, 125]]
    assert picture[2, 1:4].tolist() == [[254, 95, 56], [243, 248, 238], [243, 248, 238]]
    assert not picture[0].any()


@pytest.mark.parametrize("scale", [1, 3])
def test_pictures_give_the_same_levels_back(scale: int) -> None:
    levels = generate_levels(4, seed=0)
    assert from_pictures(to_pictures(levels, scale=scale), scale=scale).to_text() == (
        levels.to_text()
    )


def test_what_is_no_level_is_named_by_its_place() -> None:
    picture = to_pictures(parse_levels(LEVEL), scale=2)
    stained, two = picture.copy(), picture.copy()
    stained[0, 3, 5] = (1, 2, 3)
    with pytest.raises(LevelError, match=r"picture 0, line 4, column 6: the pixel \(1, 2, 3\)"):
        from_pictures(stained, scale=2)
    two[0, 4:6, 4:6] = (160, 212, 56)
    with pytest.raises(LevelError, match="picture 0, line 3, column 3: a second player"):
        from_pictures(two, scale=2)
    with pytest.raises(LevelError, match="picture 0, line 1, column 1"):
        from_pictures(np.full((1, 3, 3, 3), 9, dtype=np.uint8))
    with pytest.raises(LevelError, match="8x10 pixels, which are no cells of 3x3"):
        from_pictures(picture, scale=3)
    with pytest.raises(LevelError, match="is no cell of 4x4 pixels"):
        from_pictures(np.concatenate([picture, picture[:, :, :2]], axis=2), scale=4)
