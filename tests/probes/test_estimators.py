"""Mass-mean, PCA and ridge probes, and erasure."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp import Activations
from probes import LinearProbe
from probes.erasure import erased_auroc, fit_eraser
from probes.evaluation import auroc_value
from probes.folds import group_folds
from probes.mass_mean import MassMeanProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.pca import PCAProbe, pairs
from probes.ridge import RidgeProbe
from probes.sweeps import cross_scores


@parametrize_with_checks([MassMeanProbe(), PCAProbe(), PCAProbe(standardize=False), RidgeProbe()])
def test_sklearn_checks(estimator, check) -> None:
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("needs SCIPY_ARRAY_API in the environment")
    check(estimator)


def test_mass_mean_is_linear_discriminant_analysis(planted) -> None:
    X = StandardScaler().fit_transform(np.asarray(planted.at(4), np.float64))
    y = planted.labels
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[0.5, 0.5]).fit(X, y)
    probe = MassMeanProbe(shrinkage=0.3).fit(X, y)
    np.testing.assert_allclose(probe.decision_function(X), lda.decision_function(X), atol=1e-6)


@pytest.mark.parametrize("probe", [MassMeanProbe(), PCAProbe()])
def test_planted_direction_is_found_and_its_shuffled_twin_is_not(planted, probe) -> None:
    y = planted.labels
    folds = group_folds(y, planted.groups)
    assert auroc_value(y, cross_scores(probe, planted.at(8), y, folds)) > 0.85
    assert probe.fit(planted.at(8)).direction_.vector[3] > 0
    shuffled = np.random.default_rng(0).permutation(y)
    folds = group_folds(shuffled, planted.groups)
    rate = auroc_value(shuffled, cross_scores(probe, planted.at(8), shuffled, folds))
    assert abs(rate - 0.5) < 0.15


def test_mass_mean_uses_the_covariance() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    noise = rng.normal(size=400)
    X = np.stack([noise + 0.5 * y, noise + 0.1 * rng.normal(size=400)], axis=1)
    mass = MassMeanProbe().fit(X, y).score(X, y)
    assert mass > MeanDifferenceProbe().fit(X, y).score(X, y) + 0.2


def test_axis_is_the_main_component_of_the_differences(planted) -> None:
    X, y = planted.at(8).matrix.double(), planted.labels
    difference = X[y == 1] - X[y == 0]
    axis = torch.linalg.eigh(difference.T @ difference).eigenvectors[:, -1]
    found = PCAProbe(standardize=False).fit(planted.at(8)).direction_
    assert abs(found.cosine(axis.float())) == pytest.approx(1, abs=1e-4)


def test_pairs_are_made_within_groups_first() -> None:
    positive = np.array([1, 0, 1, 1, 0, 0], bool)
    groups = np.array([0, 1, 1, 2, 0, 3])
    high, low = pairs(positive, np.ones(6, bool), groups)
    assert list(zip(high.tolist(), low.tolist(), strict=True)) == [(0, 4), (2, 1), (3, 5)]


def test_ridge_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 80)) * rng.uniform(0.1, 9, 80)
    y = X[:, 0] + rng.normal(size=50)
    scaler = StandardScaler().fit(X)
    reference = Ridge(alpha=7.0).fit(scaler.transform(X), y)
    probe = RidgeProbe(alpha=7.0).fit(X, y)
    np.testing.assert_allclose(probe.predict(X), reference.predict(scaler.transform(X)))


def test_ridge_finds_a_number_and_where_it_grows(planted) -> None:
    y = 2.0 * planted.at(0).matrix[:, 3].numpy() + 1
    numbers = Activations(
        tensors=planted.at(0).tensors, layers=(0,), labels=y, groups=planted.groups
    )
    probe = RidgeProbe().fit(numbers)
    assert probe.score(numbers, y) > 0.95
    assert probe.direction_.vector.abs().argmax() == 3
    shuffled = RidgeProbe().fit(numbers, np.random.default_rng(0).permutation(y))
    assert shuffled.alpha_ > probe.alpha_


def test_nothing_linear_is_left_after_erasure(planted) -> None:
    X, y = np.asarray(planted.at(8), np.float64), planted.labels
    erased = fit_eraser(X, y)(X)
    gap = erased[y == 1].mean(0) - erased[y == 0].mean(0)
    np.testing.assert_allclose(gap / X.std(0), 0, atol=1e-8)
    assert (
        abs(auroc_value(y, LinearProbe(C=1.0).fit(erased, y).decision_function(erased)) - 0.5)
        < 0.05
    )
    folds = group_folds(y, planted.groups)
    after = erased_auroc(LinearProbe(C=0.1), planted.at(8), y, folds)
    assert abs(after.value - 0.5) < 0.15


def test_erasure_is_the_formula_and_the_smallest_edit(planted) -> None:
    X, y = np.asarray(planted.at(8), np.float64), planted.labels
    X = X / X.std(0)
    eraser = fit_eraser(X, y)
    sigma = np.cov(X.T, bias=True)
    values, vectors = np.linalg.eigh(sigma)
    W = vectors / np.sqrt(values) @ vectors.T
    cross = (X - X.mean(0)).T @ (y - y.mean()) / len(X)
    u = W @ cross / np.linalg.norm(W @ cross)
    expected = X - (X - X.mean(0)) @ (np.linalg.inv(W) @ np.outer(u, u) @ W).T
    np.testing.assert_allclose(eraser(X), expected, atol=1e-8)
    gap = X[y == 1].mean(0) - X[y == 0].mean(0)
    unit = gap / np.linalg.norm(gap)
    crude = X - np.outer((X - X.mean(0)) @ unit, unit)
    assert np.square(eraser(X) - X).sum() <= np.square(crude - X).sum()
