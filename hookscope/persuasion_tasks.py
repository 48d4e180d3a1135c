"""The tasks of the persuasion study: which pieces of which dialogues, and their labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from interp import Activations
from probes.folds import group_folds
from probes.persuasion import TRAITS
from probes.persuasion_for_good import AGREE, STRATEGY_OF_ACT
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue

Pieces = Mapping[str, Activations]
"""Activations with a row for each piece of all dialogues, by the place where they were read."""


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


def agreeing_sentence_task(dialogues: Sequence[Dialogue]) -> Task:
    """Sentences of the persuadee, by whether they agree to donate."""
    return _task(
        "agreeing sentence",
        (
            (row, d.pieces[k], int(AGREE in d.meta["acts"][k]), d.name)
            for row, d, k in _walk(dialogues)
            if d.roles[k] == PERSUADEE
        ),
    )


def turn_of_sentence(turns: Task, sentences: Task) -> Int[np.ndarray, " sentence"]:
    """The turn (an example of the one task) to which each sentence (of the other) belongs."""
    return np.searchsorted(turns.rows, sentences.rows)


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


def outcomes(dialogues: Sequence[Dialogue]) -> list[int]:
    """Whether each persuadee donated."""
    return [int(d.meta["donation"] > 0) for d in dialogues]


def usual_length(dialogues: Sequence[Dialogue]) -> int:
    """Turns of the persuadee that half of the dialogues have."""
    counts = [sum(d.roles[k] == PERSUADEE for k in d.turn_ends) for d in dialogues]
    return int(np.median(counts))


def trait_tasks(dialogues: Sequence[Dialogue]) -> list[Task]:
    """Whether the persuadee is above the median in each trait, at the last turn."""
    tasks = []
    for trait in TRAITS:
        values = np.array([d.meta["traits"][trait] for d in dialogues])
        high = np.where(np.isfinite(values), values > np.nanmedian(values), -1).tolist()
        task = prefix_task(dialogues, high, 0, from_end=True, name=f"high {trait}")
        tasks.append(task.pick(task.labels >= 0))
    return tasks


def _strategy(dialogue: Dialogue, piece: int) -> str:
    """The strategy of the most salient act of a sentence."""
    acts = dialogue.meta["acts"][piece]
    return STRATEGY_OF_ACT.get(acts[0], "none") if acts else "none"


def _walk(dialogues: Sequence[Dialogue]) -> Iterator[tuple[int, Dialogue, int]]:
    """Row, dialogue and index of every piece."""
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
