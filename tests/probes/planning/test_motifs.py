import numpy as np
import pytest

from interp.planning.levels import Levels, parse_levels
from probes.planning.motifs import count_motifs, find_motifs, follow_route, shuffle_ticks

ONE = parse_levels(
    """
#######
#     #
# $  .#
#@    #
#     #
#     #
#######
"""
)
TWO = parse_levels(
    """
#######
# $  .#
#     #
#@    #
#     #
# $  .#
#######
"""
)
UP, DOWN, RIGHT = 1, 2, 4
ROW = 1


def plan(*onsets: int, n_ticks: int = 6) -> np.ndarray:
    """The route of the box of ONE to the right, whose squares come at the given ticks."""
    classes = np.zeros((1, n_ticks, 5, 5), dtype=int)
    for k, onset in enumerate(onsets):
        classes[0, onset:, ROW, 1 + k] = RIGHT
    return classes


def test_a_route_follows_the_directions_to_its_end() -> None:
    classes = plan(0, 0, 0)[0, -1]
    assert follow_route(classes, (1, 1)) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert follow_route(classes, (0, 0)) == [(0, 0)]


def test_a_route_does_not_run_in_circles_or_off_the_board() -> None:
    classes = np.zeros((2, 2), dtype=int)
    classes[0, 0], classes[0, 1] = RIGHT, 3
    assert follow_route(classes, (0, 0)) == [(0, 0), (0, 1)]
    classes[0, 1] = UP
    assert follow_route(classes, (0, 0)) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("onsets", "kinds"),
    [
        ((0, 2, 4), ["forward"]),
        ((4, 2, 0), ["backward"]),
        ((0, 4, 2), []),
        ((0, 0, 4), []),  # two ticks only
    ],
)
def test_the_order_in_which_squares_come_is_the_motif(onsets: tuple, kinds: list) -> None:
    motifs = find_motifs(plan(*onsets), ONE)
    assert [motif.kind for motif in motifs] == kinds
    for motif in motifs:
        assert (motif.tick, motif.until, motif.strength) == (0, 4, 3)
        assert motif.squares == (6, 7, 8, 9)


def test_a_route_that_ends_elsewhere_does_not_count() -> None:
    classes = plan(0, 2, 4)
    down = np.where(classes.swapaxes(2, 3) > 0, DOWN, 0)  # the same route, turned down
    assert not find_motifs(down, ONE)


def test_a_route_that_is_given_up_for_one_to_a_target_is_found() -> None:
    classes = plan(3, 3, 3)
    classes[0, :3, 1:4, 1] = DOWN
    (motif,) = find_motifs(classes, ONE)
    assert (motif.kind, motif.tick, motif.until, motif.strength) == ("evaluative", 0, 3, 3)


def test_boxes_that_stop_sharing_a_target_are_found() -> None:
    classes = np.zeros((1, 6, 5, 5), dtype=int)
    classes[0, :, 0, 1:4] = RIGHT
    classes[0, :2, 4, 1:4] = RIGHT
    classes[0, :2, 1:5, 4] = UP
    classes[0, 2:, 4, 1:4] = RIGHT
    found = find_motifs(classes, TWO)
    assert [motif.kind for motif in found if motif.kind == "adaptive"] == ["adaptive"]
    adaptive = next(motif for motif in found if motif.kind == "adaptive")
    assert (adaptive.tick, adaptive.until) == (0, 2)


def test_shuffled_ticks_keep_the_plans_and_the_last_one() -> None:
    classes = np.concatenate([plan(0, 2, 4), plan(4, 2, 0)])
    shuffled = shuffle_ticks(classes, seed=1)
    np.testing.assert_array_equal(shuffled[:, -1], classes[:, -1])
    np.testing.assert_array_equal(shuffled.sum(1), classes.sum(1))
    assert (shuffled != classes).any()


def test_growth_is_found_less_often_in_random_order() -> None:
    random = np.random.default_rng(0)
    plans = np.concatenate(
        [plan(*np.sort(random.choice(9, 3, False)), n_ticks=10) for _ in range(40)]
    )
    levels = Levels(
        walls=np.repeat(ONE.walls, 40, 0),
        boxes=np.repeat(ONE.boxes, 40, 0),
        targets=np.repeat(ONE.targets, 40, 0),
        player=np.repeat(ONE.player, 40),
    )
    counted = count_motifs(find_motifs(plans, levels), 40).set_index("kind")["share"]
    control = count_motifs(find_motifs(shuffle_ticks(plans), levels), 40).set_index("kind")["share"]
    assert counted["forward"] == 1.0
    assert control["forward"] < 0.5


def test_plans_and_levels_must_fit() -> None:
    with pytest.raises(ValueError, match="plans are of 2 levels, but there are 1"):
        find_motifs(np.concatenate([plan(0, 1, 2)] * 2), ONE)
