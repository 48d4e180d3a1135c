"""Texts without the words that give the label away.

A probe that reads words loses its score when the telling words are removed, and keeps it when as
many random words are (Boxo et al. 2025, 2509.21344). Extract the filtered records again and pass
their activations to `compare(variants=...)`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from interp import Record, Records
from interp.core.seeds import derive
from probes.evaluation import binary_labels
from probes.folds import group_folds

_WORD = re.compile(r"\b\w\w+\b")


def filter_words(
    records: Records,
    *,
    share: float = 0.2,
    words: Literal["telling", "random"] = "telling",
    labels: np.ndarray | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> Records:
    """Records with a share of their words replaced by "...".

    The telling words of a text are those with the largest weights, of either sign, in a classifier
    of words that was trained on other groups.

    Args:
        records: Texts or conversations with labels of two classes.
        share: Share of the words of each text, between 0 and 1.
        words: `"random"` removes as many words at random, as a control.
        labels: Label of each record; its own by default.
        n_folds: Folds by group of the classifier of words.
        seed: Which folds, and which random words.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r}: needed a number between 0 and 1")
    if words == "random":
        rng = np.random.default_rng(derive(seed, "filter"))
        return Records(_without(r, rng.random(len(_words(r))), share) for r in records)
    y = binary_labels(records.labels if labels is None else labels)
    folds = group_folds(y, records.groups, n_folds=n_folds, seed=seed)
    filtered: dict[int, Record] = {}
    for fold, weights in _fold_weights(records, y, folds):
        for k in np.flatnonzero(folds == fold):
            telling = np.array([weights.get(word, 0.0) for word in _words(records[int(k)])])
            filtered[int(k)] = _without(records[int(k)], np.abs(telling), share)
    return Records(filtered[k] for k in range(len(records)))


def _fold_weights(
    records: Records, labels: np.ndarray, folds: np.ndarray
) -> Iterator[tuple[int, dict[str, float]]]:
    """Weight of each word in a classifier of the texts of other folds."""
    texts = np.array([record.content for record in records], dtype=object)
    for fold in np.unique(folds):
        counts = TfidfVectorizer(token_pattern=_WORD.pattern, sublinear_tf=True)
        X = counts.fit_transform(texts[folds != fold])
        fit = LogisticRegression(C=10.0, max_iter=1000).fit(X, labels[folds != fold])
        names = counts.get_feature_names_out()
        yield int(fold), dict(zip(names, fit.coef_[0], strict=True))


def _parts(record: Record) -> list[str]:
    return (
        [record.text or ""] if record.messages is None else [m["content"] for m in record.messages]
    )


def _words(record: Record) -> list[str]:
    return [word.lower() for part in _parts(record) for word in _WORD.findall(part)]


def _without(record: Record, weights: np.ndarray, share: float) -> Record:
    """The record without the words of the largest weights."""
    n = int(np.ceil(share * len(weights)))
    gone = set(np.argsort(-weights, kind="stable")[:n].tolist())
    at = iter(range(len(weights)))
    parts = [
        _WORD.sub(lambda found: "..." if next(at) in gone else found.group(), part)
        for part in _parts(record)
    ]
    if record.messages is None:
        return replace(record, text=parts[0])
    messages = ({**m, "content": part} for m, part in zip(record.messages, parts, strict=True))
    return replace(record, messages=tuple(messages))
