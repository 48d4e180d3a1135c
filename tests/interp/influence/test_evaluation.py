from collections.abc import Callable

import numpy as np
import pytest
import torch

from interp.influence import (
    Problem,
    Queries,
    Retrained,
    Scores,
    Training,
    distributional_lds,
    leave_out,
    leave_out_correlation,
    plot_agreement,
    random_subsets,
    train_ensemble,
    unrolled_reverse,
)
from tests.interp.influence.conftest import value

TRAINING = Training(n_steps=10, batch_size=5, lr=0.05)


def additive(noise: float) -> tuple[Retrained, Scores]:
    """A world where removal is exactly additive, but for noise."""
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 30)) * (1 + random.normal(size=(40, 1, 1)))
    scores = Scores(values=values, measured=values.sum(2))
    removed = random_subsets(25, 6, 30)
    after = scores.predict(removed)
    after = after + noise * random.normal(size=after.shape)
    return Retrained(before=scores.measured, after=after, removed=removed), scores


def test_perfect_predictions_reach_one_and_those_of_other_subsets_do_not() -> None:
    found = distributional_lds(*additive(0.0), n_draws=50)
    np.testing.assert_allclose(found.value, 1)
    assert np.abs(found.control).max() < 0.5
    np.testing.assert_allclose(leave_out_correlation(*additive(0.0), n_draws=5).value, 1)


def test_noise_of_the_truth_lowers_the_ceiling() -> None:
    clean, noisy = (distributional_lds(*additive(s), n_draws=5) for s in (0.0, 5.0))
    assert (noisy.ceiling < clean.ceiling - 0.1).all()
    assert noisy.of("mean") < 1


def test_leave_out_is_training_without(perceptron: Problem, queries: Queries) -> None:
    removed = random_subsets(3, 4, 20)
    found = leave_out(perceptron, TRAINING, queries, removed, seeds=[3, 9])
    alone = train_ensemble(
        perceptron, TRAINING, seeds=[9], keep=~torch.from_numpy(removed[2])
    ).measure(queries)
    np.testing.assert_allclose(found.after[2, 1], alone[0].numpy())
    full = train_ensemble(perceptron, TRAINING, seeds=[3, 9]).measure(queries)
    np.testing.assert_allclose(found.before, full.numpy())


def test_common_random_numbers_have_the_same_law_and_less_noise(
    perceptron: Problem, queries: Queries
) -> None:
    points = Queries(inputs=queries.inputs, targets=queries.targets, measure=value)
    removed, noise, runs = random_subsets(1, 1, 20), [], []
    for common in (True, False):
        found = leave_out(perceptron, TRAINING, points, removed, seeds=range(200), common=common)
        noise.append((found.after[0] - found.before).std())
        runs.append(found.after[0])
    assert noise[0] < 0.6 * noise[1]
    error = (sum(one.var(0) for one in runs) / 200) ** 0.5
    assert (np.abs(runs[0].mean(0) - runs[1].mean(0)) < 4 * error).all()


def test_unrolled_scores_agree_with_retraining(perceptron: Problem, queries: Queries) -> None:
    points = Queries(inputs=queries.inputs[:2], targets=queries.targets[:2], measure=value)
    training = Training(n_steps=25, batch_size=5, lr=0.05)
    removed = random_subsets(12, 3, 20)
    truth = leave_out(perceptron, training, points, removed, seeds=range(16))
    scores = unrolled_reverse(train_ensemble(perceptron, training, seeds=range(8)), points)
    found = distributional_lds(truth, scores, n_draws=20)
    assert found.of("mean") > 0.8
    frame = found.to_frame()
    assert list(frame["change"]) == ["mean", "variance", "W2"]
    assert (frame["low"] <= frame["value"]).all()


def test_figure_has_rows_of_methods_ceiling_and_control() -> None:
    one = distributional_lds(*additive(1.0), n_draws=5)
    methods, controls = plot_agreement(
        [one, one.__class__(**{**vars(one), "method": "b"})], title="T"
    ).data
    assert (len(methods.x), len(controls.x)) == (6, 6)
    assert len(one.plot().data) == 2


def test_bad_input_is_named(perceptron: Problem, queries: Queries) -> None:
    truth, scores = additive(0.0)
    few = Retrained(before=truth.before, after=truth.after[:3], removed=truth.removed[:3])
    with pytest.raises(ValueError, match="3 subsets"):
        distributional_lds(few, scores)
    with pytest.raises(ValueError, match="removed has 7 columns: needed 20"):
        leave_out(perceptron, TRAINING, queries, np.zeros((1, 7), bool), seeds=[0])


def test_classes_fixture_is_a_problem(classes: Callable[..., Problem]) -> None:
    assert classes().n_examples == 60
