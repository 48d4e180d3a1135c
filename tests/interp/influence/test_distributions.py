from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from interp.influence import CHANGES, Scores, distributional_influence, plot_laws, without_each
from interp.influence.distributions import kolmogorov_smirnov, wasserstein2

RANDOM = np.random.default_rng(0)


def test_distances_are_those_of_scipy() -> None:
    a, b = RANDOM.normal(size=(2, 40))
    assert kolmogorov_smirnov(a, b) == pytest.approx(ks_2samp(a, b).statistic)
    tied = np.round(a), np.round(b)
    assert kolmogorov_smirnov(*tied) == pytest.approx(ks_2samp(*tied).statistic)
    assert kolmogorov_smirnov(a, a) == 0
    assert wasserstein2(a, a + 2) == pytest.approx(wasserstein_distance(a, a + 2))
    assert wasserstein2(a, 3 * a) == pytest.approx(np.sqrt((4 * a**2).mean()))


def test_changes_have_the_sign_of_what_removal_does() -> None:
    before = RANDOM.normal(size=(400, 2))
    after = np.stack([before + 1, 2 * before, before])
    found = distributional_influence(before, after, groups=["shift", "spread", "nothing"])
    np.testing.assert_allclose(found.of("mean")[0], 1)
    np.testing.assert_allclose(found.of("variance")[0], 0, atol=1e-12)
    assert (found.of("variance")[1] > 2).all()
    assert (found.of("quantile 0.9")[1] > 1).all()
    assert (found.of("quantile 0.1")[1] < -1).all()
    for name in CHANGES:  # the control: nothing was left out
        np.testing.assert_allclose(found.of(name)[2], 0, atol=1e-12)


def test_intervals_are_those_of_the_normal_approximation() -> None:
    before, step = np.random.default_rng(1).normal(size=(2, 100, 1))
    found = distributional_influence(before, (before + 0.5 + step)[None])
    place = found.names.index("mean")
    width = (found.high - found.low)[place].item()
    assert width == pytest.approx(2 * 1.96 * step.std() / 10, rel=0.2)
    assert found.low[place].item() <= 0.5 + step.mean() <= found.high[place].item()


def test_frame_has_a_row_for_each_number_and_figures_name_groups() -> None:
    before = RANDOM.normal(size=(10, 2))
    after = np.stack([before + 1, 3 * before])
    found = distributional_influence(before, after, groups=["a", "b"], n_draws=20)
    assert len(found.to_frame()) == len(CHANGES) * 2 * 2
    (dots,) = found.plot(query=1, n_named=1).data
    assert len(dots.x) == 2
    assert sum(text != "" for text in dots.text) == 1
    assert len(found.plot_laws("b", query=1).data) == 2
    assert len(plot_laws({"true": before[:, 0], "predicted": before[:, 1]}, title="T").data) == 2


def test_too_few_seeds_and_wrong_names_are_refused() -> None:
    with pytest.raises(ValueError, match="2 seeds"):
        distributional_influence(np.zeros((2, 1)), np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="groups has 2 names, but after has 1"):
        distributional_influence(np.zeros((4, 1)), np.zeros((1, 4, 1)), groups=["a", "b"])


def test_removal_counts_that_the_others_are_drawn_more_often() -> None:
    values = RANDOM.normal(size=(2, 1, 4))
    scores = Scores(values=values, measured=np.zeros((2, 1)))
    found = scores.predict(np.array([[True, False, False, False]]))
    expected = -values[:, 0, 0] + values[:, 0, 1:].sum(1) / 3
    np.testing.assert_allclose(found[0, :, 0], expected)
    np.testing.assert_allclose(scores.predict(np.zeros((1, 4), bool)), 0)


def test_imported_scores_are_saved_and_checked(tmp_path: Path) -> None:
    scores = Scores(values=RANDOM.normal(size=(3, 2, 5)), measured=np.ones((3, 2)))
    again = Scores.load(scores.save(tmp_path / "scores.safetensors"))
    np.testing.assert_array_equal(again.values, scores.values)
    assert again.method == "imported"
    assert len(scores.to_frame()) == 30
    assert scores.at(slice(1, None)).values.shape == (2, 2, 5)
    with pytest.raises(ValueError, match="measured has"):
        Scores(values=np.zeros((3, 2, 5)), measured=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not all finite"):
        Scores(values=np.full((1, 1, 1), np.nan), measured=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="no row that removes all"):
        scores.predict(np.ones((1, 5), bool))
    assert without_each([1], 3).tolist() == [[False, True, False]]
