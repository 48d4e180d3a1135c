import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.planning.scores import class_f1, compare_plans, score_plan
from probes.planning.spatial import SpatialProbe, neighborhoods


def boards(n_rows: int = 60, n_channels: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n_rows, n_channels, 4, 5, generator=generator) + 1


def planted(X: torch.Tensor, seed: int = 1, noise: float = 0.0) -> np.ndarray:
    """Classes that are linear in the channels of the square itself."""
    random = np.random.default_rng(seed)
    weight = torch.from_numpy(random.normal(size=(5, X.shape[1]))).float()
    scores = torch.einsum("kc,rcyx->rkyx", weight, X)
    scores += noise * torch.from_numpy(random.gumbel(size=scores.shape)).float()
    return scores.argmax(1).numpy()


@pytest.mark.parametrize("kernel", [1, 3])
def test_probe_agrees_with_sklearn_on_unfolded_neighborhoods(kernel: int) -> None:
    X = boards(40)
    y = planted(X, noise=2.0)
    probe = SpatialProbe(kernel, C=0.3).fit(X, y)
    patches = torch.nn.functional.unfold(X, kernel, padding=kernel // 2)
    rows = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double().numpy()
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-8, max_iter=2000))
    oracle.fit(rows, y.ravel())
    expected = oracle.predict_proba(rows).reshape(40, 4, 5, 5).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=2e-4)
    coef = oracle[-1].coef_ / oracle[0].scale_
    np.testing.assert_allclose(probe.coef_.flatten(1).numpy(), coef, atol=1e-3)


def test_planted_classes_are_found_and_shuffled_ones_are_not() -> None:
    X, unseen = boards(200), boards(100, seed=5)
    y, truth = planted(X), planted(unseen)
    episodes = np.arange(100) // 4
    found = score_plan(truth, SpatialProbe().fit(X, y).predict(unseen), episodes)
    assert found.macro_f1.low > 0.9
    shuffled = np.random.default_rng(0).permutation(y.ravel()).reshape(y.shape)
    control = score_plan(truth, SpatialProbe().fit(X, shuffled).predict(unseen), episodes)
    assert control.macro_f1.high < 0.35


def test_a_neighbor_is_seen_by_the_wide_kernel_only() -> None:
    X, unseen = boards(150), boards(80, seed=5)
    y, truth = (np.roll(planted(boards_), 1, axis=2) for boards_ in (X, unseen))
    y[:, :, 0], truth[:, :, 0] = 0, 0
    scores = {kernel: SpatialProbe(kernel).fit(X, y).score(unseen, truth) for kernel in (1, 3)}
    assert scores[3] > scores[1] + 0.3


def test_neighborhoods_end_at_the_edge_with_zeros() -> None:
    X = torch.ones(1, 1, 3, 3)
    assert neighborhoods(X, 3).sum(1).view(3, 3).tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_directions_of_the_classes_sum_to_nothing() -> None:
    X = boards()
    probe = SpatialProbe().fit(X, planted(X))
    total = sum(probe.direction(k) for k in range(5))
    torch.testing.assert_close(total, torch.zeros(4), atol=1e-3, rtol=0)


def test_macro_f1_is_that_of_sklearn() -> None:
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 5, (2, 30, 3, 3))
    score = score_plan(labels, predictions, np.arange(30) // 5)
    expected = f1_score(labels.ravel(), predictions.ravel(), average="macro")
    assert score.macro_f1.value == pytest.approx(expected)
    assert score.macro_f1.low < score.macro_f1.value < score.macro_f1.high
    frame = score.to_frame()
    expected = f1_score(labels.ravel(), predictions.ravel(), average=None)
    np.testing.assert_allclose(frame["f1"], expected)
    assert frame["support"].sum() == labels.size


def test_intervals_are_those_of_whole_episodes() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (8, 3, 3)).repeat(25, axis=0)
    predictions = random.integers(0, 5, (8, 3, 3)).repeat(25, axis=0)
    whole = score_plan(labels, predictions, np.arange(200) // 25).macro_f1
    rows = score_plan(labels, predictions, np.arange(200)).macro_f1
    assert whole.standard_error > 3 * rows.standard_error


def test_a_class_that_never_occurs_counts_as_found() -> None:
    assert class_f1(np.diag([5, 0, 3])).tolist() == [1, 1, 1]


def test_a_plan_does_not_differ_from_itself_and_does_from_a_worse_one() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (60, 3, 3))
    worse = np.where(random.random(labels.shape) < 0.3, 0, labels)
    episodes = np.arange(60) // 3
    assert compare_plans(labels, worse, worse, episodes).high == 0
    assert compare_plans(labels, labels, worse, episodes).low > 0.1


def test_bad_input_is_named() -> None:
    X = boards()
    with pytest.raises(ValueError, match="kernel is 2"):
        SpatialProbe(2).fit(X, planted(X))
    with pytest.raises(ValueError, match="classes 0 to 4: needed 0 to 2"):
        SpatialProbe(n_classes=3).fit(X, planted(X))
