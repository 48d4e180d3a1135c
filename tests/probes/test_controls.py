import numpy as np
import pytest
import torch

from interp import Activations, Records
from probes import LinearProbe, MeanDifferenceProbe, auroc, bootstrap, compare
from probes.controls import random_direction_auroc, shuffled_auroc
from probes.filtering import filter_words
from probes.text import length_matched_auroc, log_lengths


def test_probe_beats_every_control_where_a_direction_was_planted(planted, planted_records) -> None:
    comparison = compare(
        planted.at(8), planted_records, probe=LinearProbe(C=0.1), embeddings=planted.at(0)
    )
    frame = comparison.to_frame().set_index("name")
    assert frame.loc["probe", "auroc"] > 0.9
    assert (frame["auroc"].drop(["probe", "probe, texts of equal length"]) < 0.7).all()
    assert frame.loc["after erasure (LEACE)", "low"] < 0.55
    assert (frame["gain_low"].dropna() > 0).all()
    assert comparison.selectivity > 0.3
    assert {"words (TF-IDF)", "length only", "embedding layer"} <= set(comparison.gain)
    labels = comparison.plot().layout.yaxis.ticktext
    assert list(labels) == list(frame.index)


def test_words_that_tell_the_label_are_found_by_the_text_control(planted) -> None:
    records = Records.from_texts(
        [f"word{i} {'danger' if y else 'calm'}" for i, y in enumerate(planted.labels)],
        labels=planted.labels.tolist(),
        groups=planted.groups.tolist(),
    )
    comparison = compare(planted.at(0), records, probe=MeanDifferenceProbe())
    assert comparison.auroc["words (TF-IDF)"].value > 0.95
    assert comparison.gain["words (TF-IDF)"].high < 0


def test_length_matching_takes_the_score_away_from_length() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    texts = ["w " * int(k) for k in rng.lognormal(3 + 0.5 * y, 0.5)]
    lengths = log_lengths(texts)
    assert auroc(y, lengths).low > 0.6
    assert bootstrap(length_matched_auroc(lengths), y, lengths).value == pytest.approx(
        0.5, abs=0.06
    )
    content = y + rng.normal(size=600)
    assert bootstrap(length_matched_auroc(lengths), y, content).value > 0.7


def test_length_matched_score_is_the_share_of_alike_pairs_won() -> None:
    y, scores = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.2, 0.5, 0.9, 0.1])
    lengths = np.log([10, 20, 10, 10.5, 21])
    pairs = [(0, 2), (0, 3), (1, 4)]
    won = [(np.sign(scores[i] - scores[j]) + 1) / 2 for i, j in pairs]
    values = length_matched_auroc(lengths)(y, scores, np.ones((1, 5)))
    assert values[0] == pytest.approx(np.mean(won))


def test_shuffled_labels_and_random_directions_are_at_chance(planted) -> None:
    shuffled = shuffled_auroc(LinearProbe(C=0.1), planted.at(8), planted.labels)
    assert abs(shuffled.value - 0.5) < 0.08
    random = random_direction_auroc(planted.at(0), planted.labels, np.arange(160) // 2 % 5)
    assert abs(random.value - 0.5) < 0.06


def test_labels_of_whole_groups_are_shuffled_among_groups() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = np.repeat(np.arange(40) % 2, 5)
    X = rng.normal(size=(40, 30))[groups] + 0.01 * rng.normal(size=(200, 30))
    activations = Activations(
        tensors={"resid_post": torch.from_numpy(X)[:, None]}, layers=(0,), groups=groups
    )
    shuffled = shuffled_auroc(LinearProbe(C=0.1), activations, labels, n_shuffles=8)
    assert abs(shuffled.value - 0.5) < 0.15


def test_records_that_do_not_fit_are_refused(planted, planted_records) -> None:
    with pytest.raises(ValueError, match="3 records, but 160 examples"):
        compare(planted.at(8), planted_records[:3])


def test_variants_are_scored_by_probes_of_the_original_wording(planted, planted_records) -> None:
    values = planted.at(8).values.clone()
    values[..., 3] = 0
    blind = Activations(tensors={"resid_post": values}, layers=(8,), groups=planted.groups)
    comparison = compare(
        planted.at(8),
        planted_records,
        probe=LinearProbe(C=0.1),
        variants={"same": planted.at(8), "blind": blind},
    )
    rates = comparison.auroc
    assert rates["same"] == rates["probe"]
    assert rates["blind"].value < rates["probe"].value - 0.2


def test_telling_words_go_first_and_random_ones_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    filler = np.array("river stone cloud paper window garden".split())
    texts = [" ".join([*rng.choice(filler, 6), "danger" if k % 2 else "calm"]) for k in range(80)]
    records = Records.from_texts(texts, labels=[k % 2 for k in range(80)])
    telling = filter_words(records, share=0.15)
    assert all("danger" not in r.content and "calm" not in r.content for r in telling)
    assert all(r.content.count("...") == 2 for r in telling)
    random = filter_words(records, share=0.15, words="random")
    assert 0.6 < np.mean(["danger" in r.content or "calm" in r.content for r in random]) < 0.85
    assert telling.labels.tolist() == records.labels.tolist()
    talk = Records(
        [{"messages": [{"role": "user", "content": "danger here"}], "label": 1}]
        + [{"messages": [{"role": "user", "content": f"calm {w}"}], "label": 0} for w in filler]
        + [{"messages": [{"role": "user", "content": f"danger {w}"}], "label": 1} for w in filler]
    )
    assert all("danger" not in r.content for r in filter_words(talk, share=0.5))
