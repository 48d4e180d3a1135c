"""Cascades: who is asked next, what it costs, and that bands and curves mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.cascade import (
    CALIBRATED,
    EMPTY,
    MEDIAN,
    ORACLE,
    RANDOM,
    Band,
    Stage,
    budget_curve,
    calibrated,
    cascade,
    fitted_band,
    forward_flops,
    median_band,
    merged,
    probe_flops,
)
from probes.evaluation import auroc_value


def _stages(n: int = 240, seed: int = 0) -> tuple[Stage, Stage, np.ndarray]:
    """A weak and a strong scorer with errors of their own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    weak, strong = (y * shift + rng.normal(size=n) for shift in (1.0, 3.0))
    return (
        Stage(name="probe", scores=weak, flops=np.full(n, 1.0)),
        Stage(name="model", scores=strong, flops=np.full(n, 1e6)),
        y,
    )


def test_only_texts_in_the_band_go_on() -> None:
    first = Stage(name="a", scores=np.array([-2.0, 0.0, 2.0]), flops=np.ones(3))
    second = Stage(name="b", scores=np.array([9.0, 4.0, 9.0]), flops=np.full(3, 10.0))
    result = cascade([first, second], [Band(-1.0, 1.0)])
    assert result.scores.tolist() == [-2, 2, 2]
    assert result.flops.tolist() == [1, 11, 1]
    assert result.depth.tolist() == [1, 2, 1]


def test_a_third_stage_sees_only_what_the_second_saw() -> None:
    stages = [
        Stage(name=str(k), scores=np.array(s), flops=np.ones(3))
        for k, s in enumerate([[0.0, 0.0, 5.0], [0.0, 6.0, 0.0], [9.0, 9.0, 9.0]])
    ]
    result = cascade(stages, [Band(-1.0, 1.0), Band(-1.0, 1.0)])
    assert result.scores.tolist() == [3.0, 3.0, 5.0]  # the mean of three; of two; one
    assert result.depth.tolist() == [3, 2, 1]


@pytest.mark.parametrize(("rule", "expected"), [("mean", 2.0), ("second", 3.0), ("max", 3.0)])
def test_merge_rules(rule: str, expected: float) -> None:
    assert merged(np.array([1.0]), np.array([3.0]), rule)[0] == expected  # pyright: ignore[reportArgumentType]


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 1), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_the_median_band_holds_its_share(share: float, n: int, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(n).astype(float)
    assert median_band(scores, share).holds(scores).sum() == round(share * n)


def test_no_share_is_the_first_stage_and_the_whole_is_the_merge() -> None:
    first, second, y = _stages()
    assert median_band(first.scores, 0.0) == EMPTY
    whole = fitted_band(first.scores, second.scores, y, 1.0)
    assert whole == Band(-np.inf, np.inf)
    result = cascade([first, second], [whole])
    np.testing.assert_allclose(result.scores, (first.scores + second.scores) / 2)


def test_the_fitted_band_is_at_least_as_good_as_the_median_on_its_calibration_set() -> None:
    first, second, y = _stages()
    both = merged(first.scores, second.scores, "mean")

    def value(band: Band) -> float:
        return auroc_value(y, np.where(band.holds(first.scores), both, first.scores))

    fitted = fitted_band(first.scores, second.scores, y, 0.3)
    assert value(fitted) >= value(median_band(first.scores, 0.3))
    assert fitted.holds(first.scores).mean() == pytest.approx(0.3, abs=0.01)


def test_the_budget_curve_ends_where_its_stages_are() -> None:
    first, second, y = _stages()
    other, better, labels = _stages(seed=1)
    curve = budget_curve(
        first, second, y, calibration=(other.scores, better.scores, labels), shares=(0.0, 0.3, 1.0)
    )
    frame = curve.to_frame().set_index(["curve", "share"])["auroc"]
    whole = auroc_value(y, merged(first.scores, second.scores, "mean"))
    for name in (CALIBRATED, MEDIAN, ORACLE, RANDOM):
        assert frame[name].iloc[0] == pytest.approx(auroc_value(y, first.scores))
        assert frame[name].iloc[-1] == pytest.approx(whole)
    assert frame[ORACLE].iloc[1] > frame[CALIBRATED].iloc[1] > frame[RANDOM].iloc[1]
    assert len(curve.plot().data) >= 4


def test_a_useless_second_stage_is_no_better_than_chance_would_have_it() -> None:
    first, second, y = _stages()
    noise = np.random.default_rng(3).normal(size=len(y))
    blind = Stage(name="noise", scores=noise, flops=second.flops)
    curve = budget_curve(first, blind, y, calibration=(first.scores, noise, y), shares=(0.0, 1.0))
    frame = curve.to_frame().set_index(["curve", "share"])["auroc"]
    assert frame[CALIBRATED].iloc[-1] < frame[CALIBRATED].iloc[0]


def test_calibrated_scores_are_log_odds() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(4000) % 2
    scores = 3 * (y - 0.5 + rng.normal(size=len(y)))  # true log-odds: scores / 3
    np.testing.assert_allclose(calibrated(scores, y)(np.array([3.0]))[0], 1.0, atol=0.15)


def test_operations_are_those_of_the_formula() -> None:
    assert forward_flops(100, n_parameters=1e6)[0] == 2e8
    deep = forward_flops(100, n_parameters=1e6, n_layers=2, d_model=8)[0]
    assert deep == 100 * (2e6 + 2 * 2 * 8 * 100)
    assert probe_flops([10, 20], d_model=8).tolist() == [80, 160]
    assert probe_flops(10, d_model=8, has_queries=True)[0] == 160


def test_a_probe_is_six_orders_of_magnitude_cheaper_than_a_large_monitor() -> None:
    monitor = forward_flops(300, n_parameters=70e9)[0]
    probe = 2 * probe_flops(300, d_model=8192, has_queries=True)[0]
    assert 1e6 < monitor / probe < 1e7


def test_stages_and_bands_must_fit() -> None:
    first, second, _ = _stages(4)
    with pytest.raises(ValueError, match="2 stages and 0 bands"):
        cascade([first, second], [])
    with pytest.raises(ValueError, match="between 0 and 1"):
        median_band(np.zeros(3), 1.5)
