"""TOFU's metrics against the logs of its authors, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.training.unlearning.stemming import stem
from interp.training.unlearning.tofu import (
    TofuScores,
    evaluate_tofu,
    model_utility,
    option_probability,
    rouge_l_recall,
    truth_ratio,
)

pytestmark = pytest.mark.slow

SETS = ("log_forget", "log", "real_author_wo_options", "real_world_wo_options")


def test_rouge_is_the_share_of_words_in_order() -> None:
    assert rouge_l_recall("b a", "a b") == 0.5
    assert rouge_l_recall("x a y b z c", "A, B; C!") == 1.0
    assert rouge_l_recall("", "a") == 0.0
    assert rouge_l_recall("a", "") == 0.0
    assert rouge_l_recall("He was writing stories", "she writes story") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("agreed", "agre"), ("plastered", "plaster"),
        ("motoring", "motor"), ("hopping", "hop"), ("falling", "fall"), ("filing", "file"),
        ("happy", "happi"), ("relational", "relat"), ("conditional", "condit"),
        ("digitizer", "digit"), ("vietnamization", "vietnam"), ("triplicate", "triplic"),
        ("hopefulness", "hope"), ("electrical", "electr"), ("revival", "reviv"),
        ("adoption", "adopt"), ("controlling", "control"), ("rate", "rate"), ("cease", "ceas"),
    ],
)  # fmt: skip
def test_stems_are_those_of_porter(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


def test_ratios_and_shares_by_hand() -> None:
    right, wrong = np.array([1.0]), np.array([[2.0, 4.0]])
    np.testing.assert_allclose(truth_ratio(right, wrong), np.exp(-2.0))
    e = np.exp([-1.0, -2.0, -4.0])
    np.testing.assert_allclose(option_probability(right, wrong), e[0] / e.sum())


def test_utility_is_harmonic_and_never_counts_below_zero() -> None:
    good = TofuScores(
        probability=np.array([0.5, 0.5]), rouge=np.ones(2), truth_ratio=np.array([0.5, 3.0])
    )
    assert model_utility([good]) == pytest.approx(3 / (1 / 0.5 + 1 / 1 + 1 / 0.25))
    found = evaluate_tofu(good, good, [good])
    assert found.forget_quality == pytest.approx(1.0)
    assert found.forget_truth_ratio == pytest.approx((0.5 + 1 / 3) / 2)
    assert len(found.to_frame()) == 6


@pytest.fixture(scope="module")
def golden(data_dir: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The authors' logs of Llama-2-7B with and without the forget set."""
    folder = data_dir / "tofu" / "golden_logs"
    if not folder.is_dir():
        pytest.skip("the study data hold no golden logs of TOFU")
    return {
        who: {
            name: json.loads((folder / f"llama2-7b_{who}_wd0__eval_{name}.json").read_text())
            for name in SETS
        }
        for who in ("full", "retain90")
    }


def scores(log: dict[str, Any], *, options: bool) -> TofuScores:
    keys = sorted(log["avg_gt_loss"], key=int)
    columns = {
        name: np.array([log[name][key] for key in keys])
        for name in ("avg_gt_loss", "average_perturb_loss", "avg_paraphrased_loss")
    }
    right, wrong, paraphrased = columns.values()
    texts = [log["generated_text"][key] for key in keys]
    return TofuScores(
        probability=option_probability(right, wrong) if options else np.exp(-right),
        rouge=np.array([rouge_l_recall(written, wanted) for _, written, wanted in texts]),
        truth_ratio=truth_ratio(paraphrased, wrong),
    )


def test_logs_of_the_authors_give_their_numbers(golden: dict[str, Any]) -> None:
    found = {
        who: {name: scores(log, options="options" in name) for name, log in logs.items()}
        for who, logs in golden.items()
    }
    tables = {
        who: evaluate_tofu(
            sets["log_forget"], found["retain90"]["log_forget"], [sets[n] for n in SETS[1:]]
        )
        for who, sets in found.items()
    }
    full, retrained = tables["full"], tables["retain90"]
    assert full.ks_statistic == pytest.approx(0.38, abs=1e-9)
    assert full.forget_quality == pytest.approx(1.096624e-19, rel=1e-6)
    assert retrained.forget_quality == pytest.approx(1.0)
    for table, utility, ratio, rouge, probability in (
        (full, 0.6268, 0.5171, 0.9854, 0.9908),
        (retrained, 0.6203, 0.6734, 0.4022, 0.1493),
    ):
        assert table.model_utility == pytest.approx(utility, abs=5e-5)
        assert table.forget_truth_ratio == pytest.approx(ratio, abs=5e-5)
        assert table.forget_rouge == pytest.approx(rouge, abs=5e-5)
        assert table.forget_probability == pytest.approx(probability, abs=5e-5)


def test_rouge_of_every_logged_text_is_that_of_the_log(golden: dict[str, Any]) -> None:
    for logs in golden.values():
        log = logs["log_forget"]
        keys = sorted(log["rougeL_recall"], key=int)
        np.testing.assert_allclose(
            scores(log, options=False).rouge, [log["rougeL_recall"][key] for key in keys]
        )
