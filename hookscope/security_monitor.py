"""The monitor of the security study: which messages are attacks, by what a model reads in them.

Every message is judged by a classifier that has seen neither its style (or template, or request)
nor its act (or topic); its threshold is set on training messages, of which styles and acts are left
out in turn. Layers and strength of the probes were settled on the messages of the arena, so that
the numbers there flatter the monitor; unseen messages were written afterwards and change nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hookscope.security_corpus import Corpus, parts, splits
from interp.agents import wilson
from probes import LinearProbe, auroc
from probes.text import word_classifier

Scores = Callable[[np.ndarray], np.ndarray]
"""From rows of the corpus to their scores."""
Fit = Callable[[np.ndarray], Scores]
"""Fits a classifier to rows of the corpus."""


def judge(
    corpus: Corpus, fit: Fit, *, false_positives: float = 0.05
) -> Float[np.ndarray, " message"]:
    """Judge every message by classifiers that saw neither its style nor its act.

    Unseen messages are judged by a classifier of all others.

    Args:
        corpus: The messages.
        fit: Fits a classifier.
        false_positives: Share of harmless training messages beyond the threshold.

    Returns:
        Score minus threshold: above 0 the message is held back. NaN for what is only trained on.
    """
    margins = np.full(len(corpus.texts), np.nan)
    for train, test in parts(corpus):
        inside = np.full(len(corpus.texts), np.nan)
        for inner, held in splits(corpus, train):
            inside[held] = fit(inner)(held)
        harmless = inside[~corpus.is_attack & ~np.isnan(inside)]
        margins[test] = fit(train)(test) - _threshold(harmless, false_positives)
    return margins


def _threshold(scores: np.ndarray, share: float) -> float:
    """The score that a share of the scores exceeds."""
    return float(np.quantile(scores, 1 - share, method="higher"))


def probes_on(
    values: Float[Tensor, "message layer two d_model"],
    corpus: Corpus,
    layers: Sequence[int],
    *,
    C: float,
) -> Fit:
    """Mean log-odds of linear probes on mean and last token of each of some layers.

    No layer is chosen: all count alike.

    Args:
        values: Mean and last activations of every message at all layers.
        corpus: The messages.
        layers: Layers over which the mean is taken.
        C: Strength of the data against the regularization.
    """
    y, sets = torch.from_numpy(corpus.is_attack)[None].float(), _training_sets(corpus)
    train = torch.zeros(len(sets), len(corpus.texts), dtype=torch.bool)
    for row, members in zip(train, sets.values(), strict=True):
        row[members] = True
    probe, total = LinearProbe(C=C, balanced=True), np.zeros(train.shape)
    for layer in layers:
        X = values[:, layer].flatten(1)
        weights = probe.fit_sets(X, y, train, np.arange(len(X)))
        total += weights.scores(X)[:, 0].numpy() / len(layers)
    return _looked_up(sets, total)


def words_of(corpus: Corpus) -> Fit:
    """A classifier of words alone."""
    texts, y = np.array(corpus.texts, dtype=object), corpus.is_attack.astype(int)
    sets = _training_sets(corpus)
    fits = (word_classifier().fit(texts[rows], y[rows]) for rows in sets.values())
    return _looked_up(sets, np.stack([words.decision_function(texts) for words in fits]))


def _training_sets(corpus: Corpus) -> dict[bytes, np.ndarray]:
    """Rows of every training set, once: two parts that are left out come in either order."""
    outer = [train for train, _ in parts(corpus)]
    inner = [train for some in outer for train, _ in splits(corpus, some)]
    return {train.tobytes(): train for train in (*outer, *inner)}


def _looked_up(sets: Iterable[bytes], scores: Float[np.ndarray, "set message"]) -> Fit:
    """A classifier that was fitted to all training sets before."""
    table = dict(zip(sets, scores, strict=True))
    return lambda train: lambda rows: table[train.tobytes()][rows]


def rates(
    corpus: Corpus, margins: np.ndarray, judged: np.ndarray, *, n_draws: int = 400
) -> dict[str, Any]:
    """AUROC; recall, false positives and accepted unusual requests at the set thresholds.

    Args:
        corpus: The messages.
        margins: What the monitor says of them, shape (message,).
        judged: Which messages count, shape (message,).
        n_draws: Draws of the bootstrap.
    """
    margins, attack = margins[judged], corpus.is_attack[judged]
    unusual = corpus.kinds[judged] == "unusual"
    odd = attack | unusual

    def share(chosen: np.ndarray, rows: np.ndarray) -> Any:
        return wilson(int(chosen[rows].sum()), int(rows.sum()))

    at = _threshold(margins[~attack], 0.05)
    found = {
        "auroc": auroc(attack, margins, n_draws=n_draws),
        "auroc against unusual": auroc(attack[odd], margins[odd], n_draws=n_draws),
        "recall": share(margins > 0, attack),
        "false positives": share(margins > 0, ~attack),
        "unusual accepted": share(margins <= 0, unusual),
        "recall at 5 % of all harmless": share(margins > at, attack),
    }
    return {name: vars(value) for name, value in found.items()}
