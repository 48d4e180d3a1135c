import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probes.logistic import fit_logistic


def problem(n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 50, size=d) + 3 * rng.normal(size=d)
    y = (X[:, 0] / X[:, 0].std() + rng.normal(size=n) > 0.1).astype(float)
    return X, y, np.arange(n) % 4


@pytest.mark.parametrize(("n", "d"), [(120, 10), (40, 80)])
@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_each_problem_is_that_of_sklearn(n: int, d: int, C: float) -> None:
    X, y, folds = problem(n, d)
    train = folds != np.arange(4)[:, None]
    fit = fit_logistic(
        torch.from_numpy(X),
        torch.from_numpy(y).repeat(4, 1),
        torch.from_numpy(train).double(),
        torch.full((4,), C, dtype=torch.float64),
        tolerance=1e-9,
    )
    assert fit.converged
    for fold in range(4):
        scaler = StandardScaler().fit(X[train[fold]])
        reference = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
        reference.fit(scaler.transform(X[train[fold]]), y[train[fold]])
        expected = reference.decision_function(scaler.transform(X))
        scores = X @ fit.coef[fold].numpy() + fit.intercept[fold].item()
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_weights_act_like_copies_of_examples() -> None:
    X, y, _ = problem(60, 5)
    X = (X - X.mean(0)) / X.std(0)
    values, targets = torch.from_numpy(X), torch.from_numpy(y)
    counts = torch.tensor([2.0, 1.0, 1.0] * 20, dtype=torch.float64)
    weighted = LogisticRegression(tol=1e-10).fit(X, y, sample_weight=counts.numpy())
    one = torch.ones(1, dtype=torch.float64)
    fit = fit_logistic(values, targets[None], counts[None], one, tolerance=1e-9)
    np.testing.assert_allclose(fit.coef.numpy(), weighted.coef_, atol=1e-5)


def test_constant_features_get_no_weight() -> None:
    X, y, _ = problem(60, 5)
    X[:, 2] = 7.0
    one = torch.ones(1, dtype=torch.float64)
    fit = fit_logistic(
        torch.from_numpy(X), torch.from_numpy(y)[None], torch.ones(1, 60, dtype=torch.float64), one
    )
    assert fit.coef[0, 2].abs() < 1e-8
