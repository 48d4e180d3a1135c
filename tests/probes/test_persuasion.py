"""Persuasion probes on planted activations: role masks, labels, trajectories and their figure."""

import numpy as np
import pytest
import torch

from interp import Activations
from interp.data import load_fixture
from probes.persuasion import (
    STRATEGIES,
    STRATEGY,
    SUCCESS,
    TRAITS,
    PersuasionReader,
    Trajectory,
    fit_reader,
    labeled,
    piece_labels,
    shipped_labels,
)
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue

DIALOGUES = [Dialogue.from_record(record) for record in load_fixture("persuasion")]
SPOKEN = np.array([role for d in DIALOGUES for role in d.roles])


def planted(labels: dict[str, np.ndarray]) -> Activations:
    """Noise with an axis for success, and one for each strategy, at layer 3 and not at layer 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(len(SPOKEN), 2, 16))
    X[:, 1, 0] += 4 * np.array([0.5 if v is None else v for v in labels[SUCCESS]], float)
    for k, name in enumerate(STRATEGIES):
        X[:, 1, 1 + k] += 4 * (labels[STRATEGY] == name)
    return Activations(
        tensors={"resid_post": torch.from_numpy(X).float()},
        layers=(1, 3),
        groups=np.repeat([d.name for d in DIALOGUES], [len(d.pieces) for d in DIALOGUES]),
    )


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    return shipped_labels(DIALOGUES)


@pytest.fixture(scope="module")
def reader(labels: dict[str, np.ndarray]) -> PersuasionReader:
    wanted = {SUCCESS: labels[SUCCESS], STRATEGY: labels[STRATEGY]}
    return fit_reader(planted(labels), wanted, layer=3)


def test_labels_stand_where_their_role_speaks(labels: dict[str, np.ndarray]) -> None:
    for name in (SUCCESS, *TRAITS):
        np.testing.assert_array_equal(labeled(labels[name]), SPOKEN == PERSUADEE)
    np.testing.assert_array_equal(labeled(labels[STRATEGY]), SPOKEN == PERSUADER)
    assert set(labels[STRATEGY][labeled(labels[STRATEGY])]) == set(STRATEGIES)


def test_planted_quantities_are_read_and_other_roles_are_masked(
    reader: PersuasionReader, labels: dict[str, np.ndarray]
) -> None:
    trajectories = reader.score(planted(labels), DIALOGUES)
    success = np.concatenate([t.probabilities[SUCCESS] for t in trajectories])
    np.testing.assert_array_equal(np.isfinite(success), SPOKEN == PERSUADEE)
    truth = labels[SUCCESS][SPOKEN == PERSUADEE].astype(int)
    assert ((success[SPOKEN == PERSUADEE] > 0.5) == truth).mean() > 0.9
    mix = np.stack([[t.probabilities[s] for s in STRATEGIES] for t in trajectories[:1]])[0]
    sums = mix.sum(0)[np.array(DIALOGUES[0].roles) == PERSUADER]
    np.testing.assert_allclose(sums, 1)


def test_nothing_is_read_at_a_layer_without_it(labels: dict[str, np.ndarray]) -> None:
    half = len(SPOKEN) // 2
    known = labeled(labels[SUCCESS]) & (np.arange(len(SPOKEN)) < half)
    column = np.where(known, labels[SUCCESS], None)
    shuffled = fit_reader(planted(labels), {SUCCESS: column}, layer=1)
    rest = np.concatenate(
        [t.probabilities[SUCCESS] for t in shuffled.score(planted(labels), DIALOGUES)]
    )
    test = labeled(labels[SUCCESS]) & (np.arange(len(SPOKEN)) >= half)
    assert abs(((rest[test] > 0.5) == labels[SUCCESS][test].astype(int)).mean() - 0.5) < 0.15


def test_the_figure_shows_the_sentences(
    reader: PersuasionReader, labels: dict[str, np.ndarray]
) -> None:
    trajectory = reader.score(planted(labels), DIALOGUES)[0]
    figure = trajectory.plot(SUCCESS, "logical", marks={"agrees": 4})
    line = next(t for t in figure.data if t.name == SUCCESS and t.hovertext)
    assert len(line.x) == trajectory.dialogue.roles.count(PERSUADEE)
    assert "I thought you were the" in line.hovertext[0]
    assert "agrees" in figure.to_json()


def test_the_frame_has_a_row_for_each_reading(
    reader: PersuasionReader, labels: dict[str, np.ndarray]
) -> None:
    trajectory = reader.score(planted(labels), DIALOGUES)[0]
    roles = trajectory.dialogue.roles
    expected = roles.count(PERSUADEE) + len(STRATEGIES) * roles.count(PERSUADER)
    assert len(trajectory.to_frame()) == expected


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 values, but there are 2 dialogues"):
        piece_labels(DIALOGUES[:2], [1])
    with pytest.raises(ValueError, match="success has 2 values"):
        Trajectory(dialogue=DIALOGUES[0], probabilities={SUCCESS: np.zeros(2)})
