import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from interp import Activations
from probes import LinearProbe, MeanDifferenceProbe, auroc
from probes.logistic import fit_logistic
from probes.transfer import adapt, balanced_draw, data_efficiency, few_shot, generalization


def shifted(axis: int, n: int = 120, seed: int = 0, strength: float = 2.5) -> Activations:
    """A set whose concept lies along one axis, and a little along axis 0."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 12))
    X[:, axis] += strength * y
    X[:, 0] += 0.7 * y
    return Activations(
        tensors={"resid_post": torch.from_numpy(X).float()[:, None]},
        layers=(3,),
        labels=y,
        groups=np.array([f"{seed}-{i // 2}" for i in range(n)]),
        pooling="mean",
    )


def test_matrix_is_high_on_the_diagonal_and_at_chance_between_unrelated_sets() -> None:
    sets = {"one": shifted(1), "two": shifted(2, seed=1)}
    matrix = generalization(sets, sets, probe=LinearProbe(C=0.1))
    rates = matrix.to_frame().set_index(["train", "test"])["auroc"]
    assert rates["one", "one"] > 0.9
    assert rates["two", "two"] > 0.9
    assert rates["one", "two"] < 0.8
    assert np.shape(matrix.plot().data[0].z) == (2, 2)


def test_more_data_help_and_shuffled_data_do_not() -> None:
    train, test = shifted(1), shifted(1, seed=1)
    probes = {"logistic": LinearProbe(C=0.1), "means": MeanDifferenceProbe()}
    curve = data_efficiency(train, test, probes, sizes=(4, 64, 10_000), n_repeats=3)
    assert curve.sizes == (4, 64)
    first, last = curve.auroc["logistic"]
    assert last.value > first.value
    assert len(curve.to_frame()) == 4
    labels = np.random.default_rng(0).permutation(train.labels)
    broken = Activations(tensors=train.tensors, layers=(3,), labels=labels, groups=train.groups)
    rates = data_efficiency(broken, test, probes, sizes=(64,), n_repeats=3).auroc["means"]
    assert abs(rates[0].value - 0.5) < 0.3
    assert len(curve.plot().data) >= 2


def test_a_few_examples_of_the_new_data_adapt_a_probe() -> None:
    probe = LinearProbe(C=0.1).fit(shifted(1))
    curve = few_shot(probe, shifted(2, seed=1), shifted(2, seed=2), sizes=(2, 64), n_repeats=3)
    assert curve.auroc["adapted"][1].value > curve.references["not adapted"] + 0.1
    assert curve.auroc["adapted"][0].value > curve.references["not adapted"] - 0.1


def test_adaptation_leaves_the_probe_and_weak_data_change_little() -> None:
    probe = LinearProbe(C=0.1).fit(shifted(1))
    before = probe.coef_.copy()
    near = adapt(probe, shifted(2, seed=1), C=1e-8)
    np.testing.assert_array_equal(probe.coef_, before)
    np.testing.assert_allclose(near.coef_, before, atol=1e-5)
    far = adapt(probe, shifted(2, seed=1), C=1.0)
    new = shifted(2, seed=2)
    assert auroc(new.labels, far.decision_function(new)).value > 0.9


def test_offsets_are_known_parts_of_the_score() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    X = (X - X.mean(0)) / X.std(0)
    y = (X[:, 0] + rng.normal(size=80) > 0).astype(float)
    known = torch.from_numpy(50 * X[:, :1].T)
    one = torch.ones(1, 80, dtype=torch.float64)
    C = torch.ones(1, dtype=torch.float64)
    fit = fit_logistic(
        torch.from_numpy(X), torch.from_numpy(y)[None], one, C, offset=0 * known, tolerance=1e-9
    )
    reference = LogisticRegression(tol=1e-10).fit(X, y)
    np.testing.assert_allclose(fit.coef.numpy(), reference.coef_, atol=1e-5)
    part = torch.from_numpy(X @ reference.coef_.T).T + float(reference.intercept_[0])
    rest = fit_logistic(
        torch.from_numpy(X), torch.from_numpy(y)[None], one, 1e-6 * C, offset=part, tolerance=1e-9
    )
    assert rest.coef.abs().max() < 1e-3


def test_draws_are_balanced_and_refused_when_too_large() -> None:
    draw = balanced_draw(shifted(1), 20)
    assert shifted(1).labels[draw].mean() == 0.5
    assert len(np.unique(draw)) == 20
    with pytest.raises(ValueError, match="more than there are"):
        balanced_draw(shifted(1), 200)
