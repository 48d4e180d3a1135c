import json

import numpy as np
import pytest

from interp.viz.boards import Board, board, board_animation


def make(plan: np.ndarray | None = None, truth: np.ndarray | None = None, player: int = 0) -> Board:
    walls, boxes, targets = np.zeros((3, 3, 4), dtype=bool)
    walls[0, 3] = boxes[1, 1] = targets[1, 3] = True
    return Board(walls=walls, boxes=boxes, targets=targets, player=player, plan=plan, truth=truth)


def one_hot(classes: np.ndarray) -> np.ndarray:
    return np.eye(5)[classes]


def trace(figure, name: str):
    return next(one for one in figure.data if one.name == name)


def test_pieces_stand_on_their_squares() -> None:
    figure = board(make(player=6), title="a level")
    assert (trace(figure, "box").x.tolist(), trace(figure, "box").y.tolist()) == ([1], [1])
    assert (trace(figure, "agent").x.tolist(), trace(figure, "agent").y.tolist()) == ([2], [1])
    assert trace(figure, "target").x.tolist() == [3]
    tiles = {(tile.y0 + 0.48, tile.x0 + 0.48): tile.fillcolor for tile in figure.layout.shapes}
    assert len(tiles) == 5 * 6
    border, wall, floor = (tiles[place] for place in ((-1, -1), (0, 3), (1, 1)))
    assert border == wall != floor


def test_arrows_point_as_the_plan_says_and_are_judged_by_the_truth() -> None:
    classes, truth = np.zeros((2, 3, 4), dtype=int)
    classes[0, :3], classes[2, 0] = [1, 2, 3], 4
    truth[0, :3], truth[2, 3] = [1, 1, 3], 4
    figure = board(make(one_hot(classes), truth), title="plan")
    arrows = trace(figure, "plan")
    assert list(arrows.marker.angle) == [0, -180, -90, 90]  # clockwise from up
    colors = list(arrows.marker.color)
    assert colors[0] == colors[2] != colors[1] == colors[3]
    assert (trace(figure, "missed").x.tolist(), trace(figure, "missed").y.tolist()) == ([3], [2])
    assert "up" in arrows.hovertext[0]


def test_an_animation_has_a_frame_and_a_step_for_each_board() -> None:
    plans = [one_hot(np.full((3, 4), k)) for k in (0, 1)]
    figure = board_animation([make(plans[0]), make(plans[1])], labels=["1", "2"], title="ticks")
    assert [frame.name for frame in figure.frames] == ["1", "2"]
    assert [step.label for step in figure.layout.sliders[0].steps] == ["1", "2"]
    n_arrows = [len(frame.data[-1].x) for frame in figure.frames]
    assert n_arrows == [0, 12]
    assert set(figure.frames[0].traces) == {1, 2, 3, 4}
    assert len(json.loads(figure.to_json())["frames"]) == 2


def test_bad_boards_are_named() -> None:
    with pytest.raises(ValueError, match="player is 12"):
        make(player=12)
    with pytest.raises(ValueError, match="labels has 1 labels, but positions has 2 boards"):
        board_animation([make(), make()], labels=["1"], title="x")
    with pytest.raises(ValueError, match="must be unique"):
        board_animation([make(), make()], labels=["1", "1"], title="x")
    with pytest.raises(ValueError, match="positions is empty"):
        board_animation([], labels=[], title="x")
    other = make()
    other.walls[0, 0] = True
    with pytest.raises(ValueError, match="board 1 has other walls"):
        board_animation([make(), other], labels=["1", "2"], title="x")
