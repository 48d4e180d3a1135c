import numpy as np
import pytest

from interp.planning.concepts import CONCEPTS, future_actions, label_concept
from interp.planning.environment import Action
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.levels import parse_levels
from interp.planning.rollouts import Episodes, replay_actions

CORRIDOR = parse_levels("######\n#@$ .#\n######\n")
RIGHT, LEFT = Action.RIGHT, Action.LEFT


@pytest.fixture(scope="module")
def random_episodes() -> Episodes:
    """Aimless walks, in which boxes are pushed to and fro."""
    config = GenerationConfig(size=(5, 4), distance=(3, 30), wall_share=(0.0, 0.2))
    levels = generate_levels(8, config=config, seed=1)
    walks = np.random.default_rng(0).integers(0, 5, (8, 40))
    return replay_actions(levels, [walk[: 40 - k].tolist() for k, walk in enumerate(walks)])


def brute_force(episodes: Episodes, name: str, episode: int, step: int, cell: int) -> tuple:
    """Class and waiting time by the definition: look ahead until it happens."""
    for later in range(step, episodes.lengths[episode]):
        before, after = episodes.boxes[episode, later], episodes.boxes[episode, later + 1]
        if name.startswith("agent"):
            here = episodes.player[episode, later : later + 2] == cell
            happens = not here[0] and here[1] if name == "agent_approach" else here[0] > here[1]
        else:
            change = int(after.ravel()[cell]) - int(before.ravel()[cell])
            happens = change == (1 if name == "box_approach" else -1)
        if happens:
            return episodes.actions[episode, later], later - step
    return 0, -1


@pytest.mark.parametrize("name", CONCEPTS)
def test_labels_agree_with_the_definition(random_episodes, name: str) -> None:
    labels = label_concept(random_episodes, name)
    n_rows, n_cells = len(labels.classes), labels.classes[0].size
    classes, wait = labels.classes.reshape(n_rows, -1), labels.wait.reshape(n_rows, -1)
    assert set(np.unique(classes)) == {0, 1, 2, 3, 4}
    rows = np.random.default_rng(1).permutation(n_rows)[:60]
    for row in rows:
        place = random_episodes.row_episodes[row], random_episodes.row_steps[row]
        for cell in range(n_cells):
            found = brute_force(random_episodes, name, *place, cell)
            assert (classes[row, cell], wait[row, cell]) == found


def test_a_push_along_a_corridor() -> None:
    episodes = replay_actions(CORRIDOR, [[RIGHT, RIGHT]])
    push = label_concept(episodes, "box_push")
    approach = label_concept(episodes, "agent_approach")
    assert push.classes[:, 0].tolist() == [[0, 4, 4, 0], [0, 0, 4, 0]]
    assert approach.classes[:, 0].tolist() == [[0, 4, 4, 0], [0, 0, 4, 0]]
    assert push.wait[0, 0].tolist() == [-1, 0, 1, -1]
    assert label_concept(episodes, "box_approach").classes[0, 0].tolist() == [0, 0, 4, 4]
    assert label_concept(episodes, "agent_exit").classes[0, 0].tolist() == [4, 4, 0, 0]


def test_blocked_moves_and_no_ops_count_nowhere() -> None:
    episodes = replay_actions(CORRIDOR, [[Action.UP, Action.NOOP, LEFT]])
    for name in CONCEPTS:
        assert not label_concept(episodes, name).ever.any()


def test_the_variant_of_some_steps_forgets_what_comes_later(random_episodes) -> None:
    labels = label_concept(random_episodes, "agent_approach")
    np.testing.assert_array_equal(labels.within(1000), labels.classes)
    soon = labels.within(1)
    assert (soon > 0).sum(axis=(1, 2)).max() <= 1
    assert ((soon > 0) == (labels.wait == 0)).all()
    with pytest.raises(ValueError, match="n_steps is 0"):
        labels.within(0)


def test_future_actions_are_those_of_the_same_episode(random_episodes) -> None:
    ahead = future_actions(random_episodes, 3)
    for row in (0, 20, len(ahead) - 2):
        episode, step = random_episodes.row_episodes[row], random_episodes.row_steps[row] + 3
        inside = step < random_episodes.lengths[episode]
        assert ahead[row] == (random_episodes.actions[episode, step] if inside else 0)


def test_an_unknown_concept_is_named() -> None:
    episodes = replay_actions(CORRIDOR, [[RIGHT]])
    with pytest.raises(ValueError, match="did you mean 'box_push'"):
        label_concept(episodes, "box_pusch")
