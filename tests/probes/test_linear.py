import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp import Activations, ModelMismatchError, Origin
from probes import LinearProbe, MeanDifferenceProbe, Probe, auroc

PROBES = [LinearProbe(C=0.1), LinearProbe(), LinearProbe(C=0.1, balanced=True)]
PROBES += [MeanDifferenceProbe(), MeanDifferenceProbe(standardize=False)]


@parametrize_with_checks(PROBES)
def test_sklearn_checks(estimator, check) -> None:
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("needs SCIPY_ARRAY_API in the environment")
    check(estimator)


@pytest.mark.parametrize("probe", [LinearProbe(C=0.1), MeanDifferenceProbe()])
def test_planted_direction_is_found_despite_a_huge_dimension(planted, probe: Probe) -> None:
    direction = probe.fit(planted.at(8)).direction_
    standardized = direction.vector * planted.at(8).matrix.std(0)
    assert standardized.abs().argmax() == 3
    assert direction.vector[3] > 0
    assert (direction.site, direction.layer, direction.origin) == ("resid_post", 8, planted.origin)


@pytest.mark.parametrize("probe", [LinearProbe(C=0.1), MeanDifferenceProbe()])
def test_shuffled_labels_are_not_found(planted, probe: Probe) -> None:
    y = np.random.default_rng(0).permutation(planted.labels)
    train, test = planted.at(8)[:80], planted.at(8)[80:]
    score = auroc(y[80:], probe.fit(train, y[:80]).decision_function(test))
    assert score.low < 0.5 < score.high


def test_probabilities_are_those_of_sklearn(planted) -> None:
    X, y = np.asarray(planted.at(4), np.float64), planted.labels
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8)).fit(X, y)
    probe = LinearProbe(C=0.1).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), reference.predict_proba(X), atol=1e-3)
    assert (probe.predict(X) == reference.predict(X)).all()


def test_balanced_classes_are_those_of_sklearn(planted) -> None:
    X, y = np.asarray(planted.at(4), np.float64), np.r_[np.zeros(120, int), np.ones(40, int)]
    scaled = StandardScaler().fit_transform(X)
    reference = LogisticRegression(C=0.1, tol=1e-8, class_weight="balanced").fit(scaled, y)
    probe = LinearProbe(C=0.1, balanced=True).fit(X, y)
    expected = reference.decision_function(scaled)
    np.testing.assert_allclose(probe.decision_function(X), expected, atol=1e-3)


def test_many_classes_are_one_against_the_rest(planted) -> None:
    X = StandardScaler().fit_transform(np.asarray(planted.at(4), np.float64))
    y = np.array(["red", "green", "blue"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    reference = OneVsRestClassifier(LogisticRegression(C=0.1, tol=1e-8)).fit(X, y)
    probe = LinearProbe(C=0.1).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), reference.predict_proba(X), atol=1e-3)
    assert probe.classes_.tolist() == ["blue", "green", "red"]


def test_several_labels_at_once_are_separate_probes(planted) -> None:
    X = np.asarray(planted.at(4))
    Y = (X[:, :2] > X[:, :2].mean(0)).astype(int)
    probe = LinearProbe(C=0.1).fit(X, Y)
    single = LinearProbe(C=0.1).fit(X, Y[:, 1])
    assert probe.predict(X).shape == Y.shape
    np.testing.assert_allclose(
        probe.decision_function(X)[:, 1], single.decision_function(X), atol=1e-4
    )


def test_works_in_a_pipeline_and_a_grid_search(planted) -> None:
    X, y = np.asarray(planted.at(8)), planted.labels
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LinearProbe()), {"linearprobe__C": [1e-3, 1e-1]}, cv=3
    )
    assert search.fit(X, y).best_score_ > 0.8
    assert clone(LinearProbe(C=2.0)).C == 2.0


def test_C_is_chosen_by_group(planted) -> None:
    doubled = np.repeat(np.arange(80), 2)
    X = np.repeat(np.random.default_rng(0).normal(size=(80, 60)), 2, axis=0)
    y = np.repeat(np.random.default_rng(1).integers(0, 2, 80), 2)
    leaking = LinearProbe().fit(X, y).C_
    grouped = LinearProbe().fit(X, y, groups=doubled).C_
    assert grouped < leaking


def test_raw_mean_difference_is_the_difference_of_means(planted) -> None:
    X, y = planted.at(8).matrix, planted.labels == 1
    probe = MeanDifferenceProbe(standardize=False).fit(planted.at(8))
    assert probe.direction_.cosine(X[y].mean(0) - X[~y].mean(0)) == pytest.approx(1, abs=1e-5)
    middle = (X[y].mean(0) + X[~y].mean(0)).numpy() / 2
    assert probe.decision_function(middle[None])[0] == pytest.approx(0, abs=1e-3)


def test_log_odds_of_normal_classes_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    X = rng.normal(size=(4000, 1)) + 2 * y[:, None]
    probe = MeanDifferenceProbe().fit(X, y)
    assert probe.coef_[0, 0] == pytest.approx(2, rel=0.05)
    assert probe.intercept_[0] == pytest.approx(-2, rel=0.08)


def test_labels_and_groups_come_with_the_activations(planted) -> None:
    same = LinearProbe().fit(planted.at(8), planted.labels, groups=planted.groups)
    np.testing.assert_array_equal(LinearProbe().fit(planted.at(8)).coef_, same.coef_)


def test_activations_of_another_place_are_refused(planted) -> None:
    probe = LinearProbe(C=1.0).fit(planted.at(8))
    with pytest.raises(ValueError, match=r"fitted to resid_post of layer 8, and these .* layer 4"):
        probe.predict(planted.at(4))
    other = Activations(
        tensors=planted.at(8).tensors,
        layers=(8,),
        origin=Origin(model="other", fingerprint="1", d_model=24),
    )
    with pytest.raises(ModelMismatchError, match="made with 'planted', and this model is 'other'"):
        probe.predict(other)


def test_an_array_has_no_direction(planted) -> None:
    probe = LinearProbe(C=1.0).fit(np.asarray(planted.at(8)), planted.labels)
    with pytest.raises(AttributeError, match="needs a place in a model"):
        _ = probe.direction_


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((4, 2)), np.ones(4, int), "one class"),
        (np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), "NaN"),
        (np.ones((4, 2)), np.array([0.1, 0.2, 0.3, 0.7]), "Unknown label type"),
    ],
)
def test_bad_input_is_refused(X: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearProbe(C=1.0).fit(X, y)


def test_another_width_is_refused(planted) -> None:
    probe = LinearProbe(C=1.0).fit(planted.at(8))
    with pytest.raises(ValueError, match="features"):
        probe.predict(torch.ones(2, 5).numpy())
