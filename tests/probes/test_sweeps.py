import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes import LinearProbe, MeanDifferenceProbe, cross_scores, sweep_layers
from probes.folds import group_folds

SKLEARN = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8))


def test_folds_keep_groups_together_and_classes_in_equal_shares() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 300)
    labels = (rng.random(300) < 0.3).astype(int)
    folds = group_folds(labels, groups, n_folds=5)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    assert np.bincount(folds).min() > 40
    single = group_folds(labels, np.arange(300), n_folds=5)
    assert np.ptp([labels[single == fold].sum() for fold in range(5)]) <= 1


def test_cross_validated_scores_are_those_of_a_loop_over_sklearn(planted) -> None:
    folds = group_folds(planted.labels, planted.groups)
    ours = cross_scores(LinearProbe(C=0.1), planted.at(4), planted.labels, folds)
    theirs = cross_scores(SKLEARN, planted.at(4), planted.labels, folds)
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_several_classes_have_a_column_each(planted) -> None:
    y = np.arange(len(planted)) % 3
    folds = group_folds(y, planted.groups)
    for probe in (MeanDifferenceProbe(), SKLEARN):
        assert cross_scores(probe, planted.at(4), y, folds).shape == (len(y), 3)


def test_sweep_finds_the_layer_where_the_direction_was_planted(planted) -> None:
    sweep = sweep_layers(planted, LinearProbe(C=0.1))
    assert sweep.top_layer == sweep.best_layer == 8
    assert sweep.at(0).low < 0.5 < sweep.at(0).high
    assert sweep.at(8).low > 0.9
    assert sweep.to_frame()["best"].tolist() == [False, False, True]


def test_best_layer_is_the_earliest_within_a_standard_error(planted) -> None:
    twice = planted.at([0, 8, 8])
    sweep = sweep_layers(twice, MeanDifferenceProbe())
    assert sweep.layers.index(sweep.best_layer) == 1


def test_figure_shows_every_layer(planted) -> None:
    figure = sweep_layers(planted, MeanDifferenceProbe()).plot(height=300)
    assert figure.layout.height == 300
    assert any(list(trace.x) == [0, 4, 8] for trace in figure.data)


def test_errors_say_what_is_missing(planted) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        sweep_layers(planted, LinearProbe(C=1.0), labels=np.arange(len(planted)) % 3)
    with pytest.raises(ValueError, match="80 groups cannot make 100 folds"):
        sweep_layers(planted, LinearProbe(C=1.0), n_folds=100)
    rare = np.zeros(len(planted), int)
    rare[0] = 1
    with pytest.raises(ValueError, match="lacks a class"):
        sweep_layers(planted, LinearProbe(C=1.0), labels=rare)
