"""Probes on boards that they were not fitted to, beside the reading and scikit-learn's scores."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from interp.planning.concepts import label_concept
from interp.planning.drc import Drc
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.rollouts import Episodes, optimal_episodes, read_activations
from interp.planning.variants import resized
from probes.planning import (
    ReadingConfig,
    measure_unseen,
    plot_unseen,
    read_plans,
)

CONFIG = ReadingConfig(kernels=(1,), observation_kernels=(1,), n_untrained=0)


def test_optimal_episodes_are_solved_at_their_last_move(optimal: Episodes) -> None:
    assert optimal.solved.all()


def test_the_usual_boards_score_as_in_the_reading(untrained: Drc, optimal: Episodes) -> None:
    reading = read_plans(untrained, optimal[:12], optimal[12:], config=CONFIG)
    found = measure_unseen({"usual": (untrained, optimal[12:])}, reading)
    for row in found.to_dict("records"):
        layer = None if row["subject"] == "observation" else int(row["subject"][-1])
        score = reading.at(row["concept"], layer=layer).score
        assert row["macro_f1"] == pytest.approx(score.macro_f1.value)
    assert len(found) == 2 * (1 + untrained.config.depth)


def test_larger_boards_are_read_by_the_same_probes(untrained: Drc, optimal: Episodes) -> None:
    reading = read_plans(untrained, optimal[:12], optimal[12:], config=CONFIG)
    shape = GenerationConfig(size=(6, 6), distance=(3, 16))
    larger = optimal_episodes(generate_levels(6, config=shape, seed=4))
    cases = {"usual": (untrained, optimal), "larger": (resized(untrained, (6, 6)), larger)}
    found = measure_unseen(cases, reading)
    assert set(found["case"]) == {"usual", "larger"}
    values = read_activations(cases["larger"][0], larger, sites="cell_1", layers=[1])
    probe = reading.at("box_push", layer=1).probe
    truth = label_concept(larger, "box_push").classes.ravel()
    read = probe.predict(values.tensors["cell_1"][:, 0]).ravel()
    score = f1_score(truth, read, labels=range(5), average="macro", zero_division=1.0)
    place = {"case": "larger", "concept": "box_push", "subject": "layer 1"}
    own = found[(found[list(place)] == pd.Series(place)).all(axis=1)]
    assert own["macro_f1"].item() == pytest.approx(score)
    assert np.isfinite(found[["macro_f1", "low", "high"]].to_numpy()).all()
    figure: Any = plot_unseen(found)
    shown = " ".join(str(label) for label in figure.layout.yaxis.ticktext)
    assert all(name in shown for name in ("usual, layer", "larger, layer", "larger, observation"))
