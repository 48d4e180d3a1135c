"""The methods of the persuasion study side by side on the same folds: words, length, and probes.

Everything that is chosen for a fold is chosen by probes that never saw that fold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression

from hookscope.persuasion_tasks import (
    Pieces,
    Task,
    agreeing_sentence_task,
    agreement_task,
    turn_of_sentence,
)
from interp import Activations
from interp.core.seeds import derive
from probes.evaluation import Estimate, auroc, auroc_difference, auroc_value
from probes.linear import LinearProbe
from probes.multiclass import macro_auroc
from probes.sweeps import cross_scores
from probes.text import log_lengths, word_scores
from probes.transcripts import Dialogue

WORDS, LENGTH, SHUFFLED = "words (TF-IDF)", "length only", "shuffled labels"
TURN_WORDS = "words of the whole turn (TF-IDF)"
CHOSEN, FUSION = "probe, layer chosen on other folds", "probe and words together"
SO_FAR, AVERAGE = "mean so far", "all layers, mean"
C = 1e-3
"""Strength of every probe of the study, not tuned."""
PROBE = LinearProbe(C=C, balanced=True)
Scores = dict[str, np.ndarray]
"""Held-out scores of the examples of a task, by method."""


def with_history(dialogues: Sequence[Dialogue], pieces: Pieces) -> Pieces:
    """The pieces read in one more way: the mean over all that the same speaker has said so far."""
    mean, parts, start = pieces["mean"], [], 0
    for dialogue in dialogues:
        values = mean.values[start : start + len(dialogue.pieces)].float()
        so_far = torch.empty_like(values)
        for role in set(dialogue.roles):
            mine = torch.tensor([spoken == role for spoken in dialogue.roles])
            counts = torch.arange(1, int(mine.sum()) + 1)
            so_far[mine] = values[mine].cumsum(0) / counts.view(-1, *[1] * (values.ndim - 1))
        parts.append(so_far.to(mean.values.dtype))
        start += len(dialogue.pieces)
    history = Activations(
        tensors={mean.site: torch.cat(parts)},
        layers=mean.layers,
        groups=mean.groups,
        pooling="mean of the speaker's pieces so far",
        origin=mean.origin,
    )
    return {**pieces, SO_FAR: history}


def text_scores(task: Task, folds: Int[np.ndarray, " example"]) -> Scores:
    """Held-out scores of the methods that see no model."""
    lengths = log_lengths(task.texts)[:, None]
    return {
        WORDS: word_scores(task.texts, task.labels, folds),
        LENGTH: cross_scores(LogisticRegression(), lengths, task.labels, folds),
    }


def layer_scores(task: Task, pieces: Pieces, folds: Int[np.ndarray, " example"]) -> Scores:
    """Held-out scores of probes: each layer and place, and the mean over layers at each place."""
    return _by_layer(task, pieces, lambda X: cross_scores(PROBE, X, task.labels, folds))


def probe_scores(
    task: Task, pieces: Pieces, folds: Int[np.ndarray, " example"], *, seed: int = 0
) -> Scores:
    """Those of `layer_scores`, the one that other folds choose, and a probe of shuffled labels."""
    held = layer_scores(task, pieces, folds)
    inner = _by_layer(task, pieces, lambda X: _inner_scores(X, task.labels, folds))
    held[CHOSEN] = _chosen(task.labels, held, inner, folds)
    last = pieces["last"]
    shuffled = np.random.default_rng(derive(seed, "shuffle")).permutation(task.labels)
    X = features(last, last.layers[-1], task.rows)
    held[SHUFFLED] = cross_scores(PROBE, X, shuffled, folds)
    return held


def _by_layer(task: Task, pieces: Pieces, function: Callable[[np.ndarray], np.ndarray]) -> Scores:
    """Scores by layer and place, and their means over layers."""
    scores: Scores = {}
    for at, activations in pieces.items():
        found = {
            f"layer {layer}, {at}": function(features(activations, layer, task.rows))
            for layer in activations.layers
        }
        scores |= found | {f"all layers, {at}": np.mean(list(found.values()), axis=0)}
    return scores


def features(
    activations: Activations, layer: int, rows: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "example feature"]:
    """Activations of one layer at some rows."""
    return activations.at(layer).matrix[rows].float().numpy()


def _inner_scores(
    X: Float[np.ndarray, "example feature"], labels: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """For each fold, scores of the other ones by probes that saw neither; NaN in the fold."""
    rows = []
    for fold in np.unique(folds):
        train = folds != fold
        inner = np.unique(folds[train], return_inverse=True)[1]
        scores = cross_scores(PROBE, X[train], labels[train], inner)
        row = np.full((len(labels), *scores.shape[1:]), np.nan)
        row[train] = scores
        rows.append(row)
    return np.stack(rows)


def _chosen(labels: np.ndarray, held: Scores, inner: Scores, folds: np.ndarray) -> np.ndarray:
    """In each fold the score of the method that was best without it."""
    out = np.empty_like(next(iter(held.values())))
    for k, fold in enumerate(np.unique(folds)):
        train, test = folds != fold, folds == fold
        rates = {name: _rate(labels[train], rows[k][train]) for name, rows in inner.items()}
        out[test] = held[max(rates, key=lambda name: rates[name])][test]
    return out


def agreement_scores(
    dialogues: Sequence[Dialogue], pieces: Pieces, *, seed: int = 0
) -> tuple[tuple[Task, Scores], tuple[Task, Scores]]:
    """Sentences that agree, and turns, whose score is the highest one of their sentences.

    Turns are what is asked about, and sentences are what people marked: a probe of sentences is
    trained on exactly what agrees. The words are read in the same way, and also turn by turn.
    """
    turns, sentences = agreement_task(dialogues), agreeing_sentence_task(dialogues)
    at, folds = turn_of_sentence(turns, sentences), turns.folds(seed)
    by_sentence = text_scores(sentences, folds[at])
    by_sentence |= probe_scores(sentences, pieces, folds[at], seed=seed)
    found = text_scores(turns, folds)
    found[TURN_WORDS] = found[WORDS]
    found |= {
        name: highest(row, at, len(folds)) for name, row in by_sentence.items() if name != LENGTH
    }
    for scores in (by_sentence, found):
        scores[FUSION] = fused(scores[CHOSEN], scores[WORDS])
    return (sentences, by_sentence), (turns, found)


def highest(
    scores: Float[np.ndarray, " sentence"], at: Int[np.ndarray, " sentence"], n_turns: int
) -> Float[np.ndarray, " turn"]:
    """The highest score of the sentences of each turn."""
    out = np.full(n_turns, -np.inf)
    np.maximum.at(out, at, scores)
    return out


def fused(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sum of two scores, each on a scale of its own."""
    return standardized(first) + standardized(second)


def standardized(scores: np.ndarray) -> np.ndarray:
    """Scores of mean 0 and spread 1; those that are all the same become 0."""
    spread = scores.std(0)
    return (scores - scores.mean(0)) / np.where(spread > 0, spread, 1)


def table(
    task: Task, scores: Mapping[str, np.ndarray], *, against: str = WORDS, seed: int = 0
) -> list[dict[str, Any]]:
    """AUROC of each method, and its gain over one of them, as rows of a table."""
    rows, y = [], task.labels
    options = {"groups": task.groups, "seed": seed}
    for name, score in scores.items():
        value = macro_auroc(y, score, **options) if score.ndim == 2 else auroc(y, score, **options)
        row = {"task": task.name, "method": name, "n": len(y), **numbers(value)}
        if against in scores and name != against:
            gain = (
                macro_auroc(y, score, others=scores[against], **options)
                if score.ndim == 2
                else auroc_difference(y, score, scores[against], **options)
            )
            row |= {f"gain_{key}": number for key, number in numbers(gain).items()}
        rows.append(row)
    return rows


def numbers(estimate: Estimate) -> dict[str, float]:
    """Value and interval, rounded for a file."""
    found = asdict(estimate)
    return {name: round(found[name], 4) for name in ("value", "low", "high")}


def _rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUROC without an interval."""
    if scores.ndim == 1:
        return auroc_value(labels, scores)
    columns = zip(np.unique(labels), scores.T, strict=True)
    return float(np.mean([auroc_value(labels == name, column) for name, column in columns]))
