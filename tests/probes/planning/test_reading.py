import numpy as np
import pytest
import torch

from interp.planning.concepts import label_concept
from interp.planning.rollouts import play_episodes, read_activations
from probes.planning.formation import measure_formation, thinking_plans
from probes.planning.published import (
    published_emergence,
    published_formation,
    published_probes,
    published_solve_rates,
)
from probes.planning.reading import PlanReading, ReadingConfig, make_untrained, read_plans
from probes.planning.scores import score_plan
from probes.planning.spatial import SpatialProbe

CONFIG = ReadingConfig(
    concepts=("box_push",), observation_kernels=(1, 3), n_untrained=1, max_rows=60
)


@pytest.fixture(scope="module")
def reading(untrained, optimal) -> PlanReading:
    return read_plans(untrained, optimal[:16], optimal[16:], config=CONFIG)


def test_every_layer_stands_beside_its_controls(reading) -> None:
    frame = reading.to_frame()
    assert len(frame) == 2 + 2 * 2 + 2 + 2  # observation, layers, untrained, shuffled
    own = frame[frame["subject"].str.startswith("layer")]
    assert set(zip(own["layer"], own["kernel"], strict=True)) == {(0, 1), (0, 3), (1, 1), (1, 3)}
    assert frame[frame["subject"] == "observation"]["above_observation"].isna().all()
    assert own["above_observation"].notna().all()
    assert (frame["low"] <= frame["macro_f1"]).all()


def test_a_score_is_that_of_the_steps_taken_by_hand(reading, untrained, optimal) -> None:
    labels = label_concept(optimal[16:], "box_push")
    cells = read_activations(untrained, optimal[16:], sites="cell_1", layers=[1]).matrix
    state = reading.at("box_push", layer=1)
    again = score_plan(labels.classes, state.probe.predict(cells), labels.episodes)
    assert again.macro_f1 == state.score.macro_f1
    observed = reading.at("box_push", layer=None)
    difference = state.score.macro_f1.value - observed.score.macro_f1.value
    assert state.above_observation is not None
    assert state.above_observation.value == pytest.approx(difference)


def test_shuffled_labels_are_not_found(reading) -> None:
    control = reading.at("box_push", layer=0, subject="shuffled labels")
    assert control.score.macro_f1.value < 0.3


def test_the_best_layer_is_the_one_with_the_highest_score(reading) -> None:
    values = [reading.at("box_push", layer=k).score.macro_f1.value for k in (0, 1)]
    assert reading.best_layer("box_push") == int(np.argmax(values))
    assert set(reading.probes("box_push")) == {0, 1}
    with pytest.raises(KeyError, match="kernel 7"):
        reading.at("box_push", layer=0, kernel=7)


def test_results_are_plain_values_and_a_figure(reading) -> None:
    result = reading.to_dict()
    assert result["n_test_episodes"] == 8
    assert result["probes"][0]["above_observation"] is None
    n_dots = sum(len(trace.x) for trace in reading.plot("box_push").data)
    assert n_dots == len(reading.states)


def test_untrained_networks_differ_by_seed(untrained) -> None:
    first, second = make_untrained(untrained, 0), make_untrained(untrained, 1)
    assert not torch.equal(first.encoder.weight, second.encoder.weight)
    assert torch.equal(make_untrained(untrained, 0).encoder.weight, first.encoder.weight)


def test_the_last_tick_of_thinking_is_what_the_next_step_starts_from(untrained, thinking) -> None:
    labels = label_concept(thinking, "agent_approach")
    cells = read_activations(untrained, thinking, sites="cell_1")
    probe = SpatialProbe().fit(cells.values[:, 1], labels.classes)
    plans = thinking_plans(untrained, thinking, {1: probe})[1]
    assert plans.shape == (12, 4, 4, 4, 5)
    rows = thinking.row_steps == 1
    np.testing.assert_allclose(
        plans[:, -1].argmax(-1), probe.predict(cells.values[:, 1][torch.from_numpy(rows)])
    )
    formation = measure_formation(untrained, thinking, {1: probe}, concept="agent_approach")
    assert len(formation.to_frame()) == 4
    scores = formation.to_frame()["macro_f1"]
    assert formation.gain[1].value == pytest.approx(scores.iloc[-1] - scores.iloc[0])
    assert len(formation.plot().data) == 2


def test_formation_needs_thinking(untrained, small_levels) -> None:
    episodes = play_episodes(untrained, small_levels[:2], limit=2)
    with pytest.raises(ValueError, match="no thinking steps"):
        measure_formation(untrained, episodes, {}, concept="box_push")


def test_published_values_have_a_source_and_lie_in_range() -> None:
    for frame in (
        published_probes(),
        published_emergence(),
        published_formation(),
        published_solve_rates(),
    ):
        assert frame["source"].notna().all()
        assert frame.iloc[:, -1].between(0, 1).all()
    assert published_formation().groupby("concept")["tick"].max().tolist() == [15, 15]
