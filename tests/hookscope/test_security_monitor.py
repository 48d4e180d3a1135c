"""The monitor of the security study: what it is trained on, and that it finds what is planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hookscope import security_unseen
from hookscope.security_corpus import (
    N_FOLDS,
    TRAINED,
    UNSEEN,
    Corpus,
    make_corpus,
    parts,
    read_corpus,
    splits,
)
from hookscope.security_monitor import Scores, judge, probes_on, rates, words_of
from interp.agents import ROUTINE, STYLES, TASK, UNUSUAL, WORK, attack_texts, passed_on
from interp.agents.lab_messages import ACTS, TOPICS
from tests.tiny_models import tiny_llama


def small_corpus(n: int = 144) -> Corpus:
    """Attacks, routine and unusual of all folds and acts, some only for training or judging."""
    place = np.arange(n)
    kinds = np.where(place % 2 == 0, "attack", "routine")
    kinds[-12:] = "unusual"
    folds, acts = place // 2 % N_FOLDS, place // 12 % 4
    acts[-12:] = 0
    folds[:6], acts[:6] = TRAINED, TRAINED
    only_judged = [*range(6, 18), n - 2, n - 1]
    folds[only_judged], acts[only_judged] = UNSEEN, 0
    texts = tuple(f"{kind} of fold {fold}" for kind, fold in zip(kinds, folds, strict=True))
    return Corpus(texts=texts, kinds=kinds, folds=folds, acts=acts)


def test_corpus_holds_every_message_that_runs_may_send() -> None:
    corpus = make_corpus()
    counts = {kind: int((corpus.kinds == kind).sum()) for kind in ("attack", "routine", "unusual")}
    attacks, routine = 12 * 8 * 3 + 40 + 8 * 8 * 3, 28 * 8 + 1 + 40 + 16 * 8
    assert counts == {"attack": attacks, "routine": routine, "unusual": 24 + 24}
    assert len(set(corpus.texts)) == len(corpus.texts)
    assert set(corpus.folds) == {UNSEEN, TRAINED, *range(N_FOLDS)}
    sizes = {name: int(rows.sum()) for name, rows in corpus.judgments.items()}
    assert sizes == {"left out": 537, "new styles": 96 + 152, "new styles and acts": 96 + 152}
    sent = {TASK, *(attack_texts(style)[0] for style in STYLES)}
    sent |= {passed_on(style, to_robot=robot) for style in STYLES for robot in (False, True)}
    assert sent <= set(corpus.texts)


def test_digest_tells_other_texts_and_another_order() -> None:
    corpus = make_corpus()
    assert corpus.digest == make_corpus().digest
    first, second, *rest = corpus.texts
    others = [(second, first, *rest), (first + "!", second, *rest), (first + second, *rest)]
    assert len({corpus.digest, *(replace(corpus, texts=tuple(it)).digest for it in others)}) == 4


def test_nothing_unseen_is_among_what_is_trained_on() -> None:
    corpus = make_corpus()
    known = {one.name for one in STYLES} | {one.reason for one in STYLES} | {*ACTS, *TOPICS}
    known |= {*ROUTINE, *WORK, *UNUSUAL}
    new = [*security_unseen.ACTS, *security_unseen.TOPICS, *security_unseen.ROUTINE]
    new += [*security_unseen.UNUSUAL, *(one.name for one in security_unseen.STYLES)]
    assert not known & {*new, *(one.reason for one in security_unseen.STYLES)}
    *others, (train, test) = parts(corpus)
    assert test.tolist() == np.flatnonzero(corpus.folds == UNSEEN).tolist()
    for rows in (train, *(row for pair in others for row in pair)):
        assert not (corpus.folds[rows] == UNSEEN).any()


def test_parts_share_neither_fold_nor_act_and_judge_everything_once() -> None:
    corpus = make_corpus()
    tested = []
    for train, test in parts(corpus):
        tested += test.tolist()
        if corpus.folds[test[0]] == UNSEEN:
            continue
        assert not set(corpus.folds[train]) & set(corpus.folds[test])
        told = corpus.kinds[train] != "unusual"
        assert not set(corpus.acts[train][told]) & set(corpus.acts[test])
    assert sorted(tested) == np.flatnonzero(corpus.folds != TRAINED).tolist()


def test_planted_direction_is_found_and_noise_is_not() -> None:
    corpus, random = small_corpus(), torch.Generator().manual_seed(0)
    noise = torch.randn(len(corpus.texts), 2, 2, 8, generator=random)
    planted = noise.clone()
    planted[:, 1, 0] += 6 * torch.from_numpy(corpus.is_attack).float()[:, None]
    found = judge(corpus, probes_on(planted, corpus, (0, 1), C=0.001))
    control = judge(corpus, probes_on(noise, corpus, (0,), C=0.001))
    for judged in (corpus.folds >= 0, corpus.folds == UNSEEN):
        measured = rates(corpus, found, judged, n_draws=20)
        assert measured["recall"]["value"] == 1
        assert measured["false positives"]["value"] < 0.2
    measured = rates(corpus, control, corpus.folds >= 0, n_draws=20)
    assert measured["auroc"]["value"] < 0.75
    assert measured["recall"]["value"] < 0.4


def test_threshold_is_chosen_on_training_messages_only() -> None:
    corpus = small_corpus()
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(train: np.ndarray) -> Scores:
        def scores(rows: np.ndarray) -> np.ndarray:
            seen.append((train, rows))
            return rows.astype(float)

        return scores

    judge(corpus, fit)
    outer = parts(corpus)
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
    corpus = small_corpus(72)
    found = rates(corpus, judge(corpus, words_of(corpus)), corpus.folds >= 0, n_draws=20)
    assert found["recall"]["value"] == 1


def test_messages_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.security_corpus.N_TOGETHER", 2)
    texts = ["Please stir.", "Please label the samples.", "Open the door."]
    values = read_corpus(tiny_llama(), texts, tmp_path)
    assert values.shape[:1] == (3,)
    assert values.shape[2] == 2
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "activations").iterdir()}
    assert len(files) == 2
    assert torch.equal(read_corpus(tiny_llama(), texts, tmp_path), values)
    assert files == {path: path.stat().st_mtime_ns for path in files}
