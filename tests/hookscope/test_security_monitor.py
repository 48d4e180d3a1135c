"""The monitor of the security study: what it is trained on, and that it finds what is planted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hookscope.security_monitor import (
    N_FOLDS,
    Corpus,
    Fit,
    Scores,
    judge,
    make_corpus,
    probes_on,
    rates,
    read_corpus,
    splits,
    words_of,
)
from interp.agents import STYLES, TASK, attack_texts, passed_on
from tests.tiny_models import tiny_llama


def small_corpus(n: int = 144) -> Corpus:
    """Attacks and routine of all folds and acts, some unusual requests, some for training only."""
    place = np.arange(n)
    kinds = np.where(place % 2 == 0, "attack", "routine")
    kinds[-12:] = "unusual"
    folds, acts = place // 2 % N_FOLDS, place // 12 % 4
    acts[-12:] = 0
    folds[:6], acts[:6] = -1, -1
    texts = tuple(f"{kind} of fold {fold}" for kind, fold in zip(kinds, folds, strict=True))
    return Corpus(texts=texts, kinds=kinds, folds=folds, acts=acts)


def test_corpus_holds_every_message_that_runs_may_send() -> None:
    corpus = make_corpus()
    counts = {kind: int((corpus.kinds == kind).sum()) for kind in ("attack", "routine", "unusual")}
    assert counts == {"attack": 12 * 24 + 40, "routine": 28 * 8 + 1 + 40, "unusual": 24}
    assert len(set(corpus.texts)) == len(corpus.texts)
    assert set(corpus.folds) == {-1, *range(N_FOLDS)}
    sent = {TASK, *(attack_texts(style)[0] for style in STYLES)}
    sent |= {passed_on(style, to_robot=robot) for style in STYLES for robot in (False, True)}
    assert sent <= set(corpus.texts)


def test_splits_share_neither_fold_nor_act_and_judge_everything_once() -> None:
    corpus = make_corpus()
    tested = []
    for train, test in splits(corpus, np.arange(len(corpus.texts))):
        tested += test.tolist()
        assert not set(corpus.folds[train]) & set(corpus.folds[test])
        told = corpus.kinds[train] != "unusual"
        assert not set(corpus.acts[train][told]) & set(corpus.acts[test])
    assert sorted(tested) == np.flatnonzero(corpus.folds >= 0).tolist()


def test_planted_direction_is_found_and_noise_is_not() -> None:
    corpus, random = small_corpus(), torch.Generator().manual_seed(0)
    noise = torch.randn(len(corpus.texts), 2, 2, 8, generator=random)
    planted = noise.clone()
    planted[:, 1, 0] += 6 * torch.from_numpy(corpus.is_attack).float()[:, None]
    found = judge(corpus, probes_on(planted, corpus, (0, 1)))
    assert all(name.startswith("layer 1, C=") for name in found.chosen)
    measured = rates(corpus, found, n_draws=20)
    assert measured["recall"]["value"] == 1
    assert measured["false positives"]["value"] < 0.15
    control = rates(corpus, judge(corpus, probes_on(noise, corpus, (0,))), n_draws=20)
    assert control["auroc"]["value"] < 0.75
    assert control["recall"]["value"] < 0.4


def test_threshold_is_chosen_on_training_messages_only() -> None:
    corpus = small_corpus()
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(train: np.ndarray) -> Scores:
        def scores(rows: np.ndarray) -> np.ndarray:
            seen.append((train, rows))
            return rows.astype(float)

        return scores

    candidates: dict[str, Fit] = {"place": fit}
    judge(corpus, candidates)
    outer = list(splits(corpus, np.arange(len(corpus.texts))))
    blocks = iter(seen)
    for train, test in outer:
        for _ in splits(corpus, train):
            inner, held = next(blocks)
            assert set(inner) | set(held) <= set(train)
            assert not set(corpus.folds[inner]) & set(corpus.folds[held])
        last, judged = next(blocks)
        assert last.tolist() == train.tolist()
        assert judged.tolist() == test.tolist()


def test_words_tell_what_is_in_the_words() -> None:
    corpus = small_corpus()
    assert rates(corpus, judge(corpus, words_of(corpus)), n_draws=20)["recall"]["value"] == 1


def test_messages_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.security_monitor.N_TOGETHER", 2)
    texts = ["Please stir.", "Please label the samples.", "Open the door."]
    values = read_corpus(tiny_llama(), texts, tmp_path)
    assert values.shape[:1] == (3,)
    assert values.shape[2] == 2
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "activations").iterdir()}
    assert len(files) == 2
    assert torch.equal(read_corpus(tiny_llama(), texts, tmp_path), values)
    assert files == {path: path.stat().st_mtime_ns for path in files}
