"""The tasks of the persuasion study: which pieces, which labels, and the methods side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression

from interp import Activations
from interp.core.seeds import derive
from probes.evaluation import Estimate, auroc, auroc_difference, auroc_value
from probes.folds import group_folds
from probes.linear import LinearProbe
from probes.multiclass import macro_auroc
from probes.persuasion_for_good import AGREE, STRATEGY_OF_ACT
from probes.sweeps import cross_scores
from probes.text import log_lengths, word_scores
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue

WORDS, LENGTH, SHUFFLED = "words (TF-IDF)", "length only", "shuffled labels"
CHOSEN, FUSION = "probe, layer chosen on other folds", "probe and words together"
C = 1e-3
"""Strength of every probe of the study, not tuned."""
Pieces = Mapping[str, Activations]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Examples of one question."""

    name: str
    """The question."""
    texts: tuple[str, ...]
    """What a reader without context has."""
    labels: np.ndarray
    """Class of each example."""
    groups: np.ndarray
    """Dialogue or user of each example."""
    rows: Int[np.ndarray, " example"]
    """Row of each example among the pieces."""

    def pick(self, index: np.ndarray) -> "Task":
        """The examples at these indices, or where a mask is true."""
        chosen = np.arange(len(self.labels))[index]
        return Task(
            name=self.name,
            texts=tuple(self.texts[k] for k in chosen),
            labels=self.labels[chosen],
            groups=self.groups[chosen],
            rows=self.rows[chosen],
        )

    def folds(self, seed: int) -> Int[np.ndarray, " example"]:
        """The fold in which each example is tested."""
        return group_folds(self.labels, self.groups, seed=seed)


def strategy_task(dialogues: Sequence[Dialogue]) -> Task:
    """Sentences of the persuader that appeal to logic, emotion or credibility."""
    return _task(
        "strategy",
        (
            (row, d.pieces[k], _strategy(d, k), d.name)
            for row, d, k in _walk(dialogues)
            if d.roles[k] == PERSUADER and _strategy(d, k) != "none"
        ),
    )


def any_strategy_task(dialogues: Sequence[Dialogue]) -> Task:
    """All sentences of the persuader, those without an appeal as a class of their own."""
    return _task(
        "strategy or none",
        (
            (row, d.pieces[k], _strategy(d, k), d.name)
            for row, d, k in _walk(dialogues)
            if d.roles[k] == PERSUADER
        ),
    )


def agreement_task(dialogues: Sequence[Dialogue]) -> Task:
    """Turns of the persuadee, by whether one of their sentences agrees to donate."""
    return _task(
        "agreeing turn",
        (
            (row, d.turn_texts()[d.turns[k]], int(agrees(d, d.turns[k])), d.name)
            for row, d, k in _walk(dialogues)
            if d.roles[k] == PERSUADEE and k in d.turn_ends
        ),
    )


def agrees(dialogue: Dialogue, turn: int) -> bool:
    """Whether a sentence of a turn is annotated as agreeing."""
    acts = zip(dialogue.turns, dialogue.meta["acts"], strict=True)
    return any(AGREE in names for at, names in acts if at == turn)


def prefix_task(
    dialogues: Sequence[Dialogue],
    labels: Sequence[int],
    n_turns: int,
    *,
    from_end: bool = False,
    name: str = "success",
) -> Task:
    """Dialogues as they stand after some turns of the persuadee.

    Args:
        dialogues: The dialogues.
        labels: Class of each.
        n_turns: Turns of the persuadee that are read; or that are left out, from the end.
        from_end: Whether turns are left out from the end.
        name: Name of the task.
    """
    found, start = [], 0
    for d, label in zip(dialogues, labels, strict=True):
        ends = [k for k in d.turn_ends if d.roles[k] == PERSUADEE]
        at = len(ends) - 1 - n_turns if from_end else n_turns - 1
        if 0 <= at < len(ends):
            said = [d.pieces[k] for k in range(ends[at] + 1) if d.roles[k] == PERSUADEE]
            found.append((start + ends[at], " ".join(said), label, d.meta["user"]))
        start += len(d.pieces)
    return _task(f"{name} without the last {n_turns}" if from_end else name, found)


def usual_length(dialogues: Sequence[Dialogue]) -> int:
    """Turns of the persuadee that half of the dialogues have."""
    counts = [sum(d.roles[k] == PERSUADEE for k in d.turn_ends) for d in dialogues]
    return int(np.median(counts))


def text_scores(task: Task, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Held-out scores of the methods that see no model."""
    folds = task.folds(seed)
    lengths = log_lengths(task.texts)[:, None]
    return {
        WORDS: word_scores(task.texts, task.labels, folds),
        LENGTH: cross_scores(LogisticRegression(), lengths, task.labels, folds),
    }


def probe_scores(task: Task, pieces: Pieces, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Held-out scores of a probe at every layer and place, and of the one others choose."""
    folds, probe = task.folds(seed), LinearProbe(C=C, balanced=True)
    scores = {}
    for at, activations in pieces.items():
        for layer in activations.layers:
            X = activations.at(layer).matrix[task.rows].float().numpy()
            scores[f"layer {layer}, {at}"] = cross_scores(probe, X, task.labels, folds)
    scores[CHOSEN] = chosen_on_other_folds(task, scores, folds)
    rng = np.random.default_rng(derive(seed, "shuffle"))
    shuffled = rng.permutation(task.labels)
    last = pieces["last"]
    values = last.at(last.layers[-1]).matrix[task.rows].float().numpy()
    scores[SHUFFLED] = cross_scores(probe, values, shuffled, folds)
    return scores


def chosen_on_other_folds(
    task: Task, scores: Mapping[str, np.ndarray], folds: Int[np.ndarray, " example"]
) -> np.ndarray:
    """In each fold the score that is best on the other folds, each on a scale of its own.

    So the labels of a fold have no say in the choice that is tested on it.
    """
    out = np.empty_like(next(iter(scores.values())))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        rates = {name: _quick_rate(task.labels[train], row[train]) for name, row in scores.items()}
        best = scores[max(rates, key=lambda name: rates[name])]
        out[test] = _standardized(best)[test]
    return out


def _quick_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUROC without an interval."""
    if scores.ndim == 1:
        return auroc_value(labels, scores)
    columns = zip(np.unique(labels), scores.T, strict=True)
    return float(np.mean([auroc_value(labels == name, column) for name, column in columns]))


def fused(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The mean of two scores, each on a scale of its own."""
    return _standardized(first) + _standardized(second)


def _standardized(scores: np.ndarray) -> np.ndarray:
    """Scores of mean 0 and spread 1; those that are all the same become 0."""
    spread = scores.std(0)
    return (scores - scores.mean(0)) / np.where(spread > 0, spread, 1)


def table(task: Task, scores: Mapping[str, np.ndarray], *, seed: int = 0) -> list[dict[str, Any]]:
    """AUROC of each method, and how much better than the words it is, as rows of a table."""
    rows, y = [], task.labels
    options = {"groups": task.groups, "seed": seed}
    for name, score in scores.items():
        value = rate(task, score, seed=seed)
        row = {"task": task.name, "method": name, "n": len(y), **numbers(value)}
        if WORDS in scores and name != WORDS:
            words = scores[WORDS]
            gain = (
                macro_auroc(y, score, others=words, **options)
                if score.ndim == 2
                else auroc_difference(y, score, words, **options)
            )
            row |= {f"gain_{key}": number for key, number in numbers(gain).items()}
        rows.append(row)
    return rows


def rate(task: Task, scores: np.ndarray, *, seed: int = 0) -> Estimate:
    """AUROC of a score, macro-averaged beyond two classes."""
    options = {"groups": task.groups, "seed": seed}
    if scores.ndim == 2:
        return macro_auroc(task.labels, scores, **options)
    return auroc(task.labels, scores, **options)


def numbers(estimate: Estimate) -> dict[str, float]:
    """Value and interval, rounded for a file."""
    found = asdict(estimate)
    return {name: round(found[name], 4) for name in ("value", "low", "high")}


def column(scores: Float[np.ndarray, " example"], task: Task, n_pieces: int) -> np.ndarray:
    """Scores of a task's examples at their rows among all pieces, NaN elsewhere."""
    out = np.full(n_pieces, np.nan)
    out[task.rows] = scores
    return out


def _strategy(dialogue: Dialogue, piece: int) -> str:
    """The strategy of the most salient act of a sentence."""
    acts = dialogue.meta["acts"][piece]
    return STRATEGY_OF_ACT.get(acts[0], "none") if acts else "none"


def _walk(dialogues: Sequence[Dialogue]):
    row = 0
    for dialogue in dialogues:
        for k in range(len(dialogue.pieces)):
            yield row, dialogue, k
            row += 1


def _task(name: str, examples: Any) -> Task:
    rows, texts, labels, groups = zip(*examples, strict=True)
    return Task(
        name=name,
        texts=texts,
        labels=np.array(labels),
        groups=np.array(groups),
        rows=np.array(rows),
    )
