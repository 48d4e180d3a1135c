from collections.abc import Callable

import numpy as np
import pytest
import torch

from interp.influence import (
    PerExample,
    Problem,
    Queries,
    Scores,
    Sgd,
    Training,
    brittleness,
    detect_mislabeled,
    influence_functions,
    prune,
    self_influence,
    train_ensemble,
)
from tests.interp.influence.conftest import entropy

TRAINING = Training(n_steps=30, batch_size=10, lr=0.5, optimizer=Sgd(weight_decay=0.01))


def margin(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    right = outputs.gather(1, targets[:, None])[:, 0]
    others = outputs.scatter(1, targets[:, None], -torch.inf)
    return right - others.amax(1)


def queries(problem: Problem, rows: slice, measure: PerExample) -> Queries:
    return Queries(inputs=problem.inputs[rows], targets=problem.targets[rows], measure=measure)


def test_wrong_labels_have_high_self_influence(classes: Callable[..., Problem]) -> None:
    problem, wrong = classes(n_wrong=6), np.arange(60) < 6
    ensemble = train_ensemble(problem, TRAINING, seeds=[0, 1], trajectory="end")
    scores = influence_functions(ensemble, queries(problem, slice(None), entropy), damping=0.01)
    values = self_influence(scores)
    found = detect_mislabeled(values, wrong, n_draws=50)
    assert found.low > 0.5
    assert found.auroc > 0.85
    shuffled = np.random.default_rng(0).permutation(values)
    assert detect_mislabeled(shuffled, wrong, n_draws=10).auroc < 0.8


def test_supporting_examples_flip_queries_sooner(classes: Callable[..., Problem]) -> None:
    problem = classes(n=30)
    points = queries(classes(n=60), slice(30, 36), margin)
    ensemble = train_ensemble(problem, TRAINING, seeds=[0, 1], trajectory="end")
    scores = influence_functions(ensemble, points, damping=0.01)
    found = brittleness(problem, TRAINING, points, scores, counts=[8], seeds=[0, 1])
    by_scores, at_random = found.value[:, 0]
    assert by_scores > at_random
    assert len(found.to_frame()) == 2
    assert found.plot().data[0].name is not None


def test_pruning_by_scores_beats_random(classes: Callable[..., Problem]) -> None:
    problem = classes(n_wrong=15)
    test = classes(n=90)
    held, chosen = (queries(test, part, entropy) for part in (slice(60, 75), slice(75, 90)))
    ensemble = train_ensemble(problem, TRAINING, seeds=[0, 1], trajectory="end")
    scores = influence_functions(ensemble, chosen, damping=0.01)
    found = prune(problem, TRAINING, held, scores, counts=[12], seeds=range(4))
    harmful, helpful, at_random = found.value[:, 0]
    assert harmful < at_random < helpful


def test_bad_input_is_named(classes: Callable[..., Problem]) -> None:
    problem = classes()
    with pytest.raises(ValueError, match="2 queries and 3 examples"):
        self_influence(Scores(values=np.zeros((1, 2, 3)), measured=np.zeros((1, 2))))
    with pytest.raises(ValueError, match="0 of 3 labels are wrong"):
        detect_mislabeled(np.zeros(3), np.zeros(3, bool))
    lost = Scores(values=np.zeros((1, 2, 60)), measured=-np.ones((1, 2)))
    points = queries(problem, slice(0, 2), margin)
    with pytest.raises(ValueError, match="measure a margin"):
        brittleness(problem, TRAINING, points, lost, counts=[1], seeds=[0])
