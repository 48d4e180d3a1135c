"""Turns of persuasion, curves, mixes and correlations against numbers by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from probes.multiclass import macro_auroc
from probes.persuasion_dynamics import (
    correlations,
    jensen_shannon,
    position_curve,
    strategy_mix,
    turn_errors,
    turn_of_persuasion,
)


def test_rules_for_the_turn_of_persuasion() -> None:
    scores = np.array([-2.0, 0.5, 0.2, 3.0, 3.1])
    assert turn_of_persuasion(scores, rule="first") == 1
    assert turn_of_persuasion(scores, rule="peak") == 4
    assert turn_of_persuasion(scores, rule="rise") == 3
    assert turn_of_persuasion(scores - 9, rule="first") == 4
    with pytest.raises(ValueError, match="needed a number for each turn"):
        turn_of_persuasion(np.array([0.0, np.nan]))


def test_errors_of_turns_by_hand() -> None:
    true = np.array([3, 5, 1, 0])
    errors = turn_errors(true, {"exact": true, "late": true + 1})
    assert errors.mean["exact"].value == 0
    assert (errors.mean["late"].value, errors.exact["late"].value) == (1, 0)
    assert list(errors.to_frame()["method"]) == ["exact", "late"]


def test_a_position_curve_finds_the_planted_middle() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        row = rng.normal(scale=0.1, size=int(rng.integers(5, 15)))
        row[len(row) // 2] += 1
        rows.append(row)
    curve = position_curve(rows, n_bins=5)
    values = [e.value for e in curve.mean]
    assert curve.position[int(np.argmax(values))] == 0.5
    assert curve.mean[2].low > max(e.high for e in curve.mean[:2])


def test_jensen_shannon_of_equal_and_of_disjoint_mixes() -> None:
    assert jensen_shannon(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)
    p, q = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    m = (p + q) / 2
    divergence = (p * np.log2(p / m) + q * np.log2(q / m)).sum() / 2
    assert jensen_shannon(p, q) == pytest.approx(np.sqrt(divergence))


def test_the_mix_of_a_perfect_method_is_the_true_one() -> None:
    names, labels = ("a", "b"), np.array(["a", "b", "b", "a", "a"])
    turns = np.array([0, 0, 1, 2, 9])
    mix = strategy_mix(
        turns,
        labels,
        (labels[:, None] == np.array(names)).astype(float),
        strategies=names,
        n_turns=3,
    )
    np.testing.assert_allclose(mix.true, [[0.5, 0.5], [0, 1], [1, 0]])
    np.testing.assert_allclose(mix.distance, 0)


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    traits = pd.DataFrame({"open": x, "noise": rng.normal(size=80)})
    shares = pd.DataFrame({"logical": x + rng.normal(size=80)})
    frame = correlations(traits, shares).set_index("trait")
    for trait in traits:
        expected = pearsonr(traits[trait], shares["logical"]).statistic
        assert frame.loc[trait, "correlation"] == pytest.approx(expected)
    assert frame.loc["open", "low"] > 0
    assert frame.loc["noise", "low"] < 0 < frame.loc["noise", "high"]


def test_macro_auroc_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], size=120)
    scores = rng.normal(size=(120, 3)) + (labels[:, None] == np.array(["a", "b", "c"]))
    rates = [roc_auc_score(labels == n, scores[:, k]) for k, n in enumerate("abc")]
    found = macro_auroc(labels, scores)
    assert found.value == pytest.approx(np.mean(rates))
    assert found.low < found.value < found.high
    assert macro_auroc(labels, scores, others=scores).value == 0
    with pytest.raises(ValueError, match="a column for each class"):
        macro_auroc(labels, scores[:, :2])
