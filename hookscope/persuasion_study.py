"""The persuasion study: PersuasionForGood, read by a model, beside the words on the same folds.

The long part is reading the dialogues; it is kept in a folder and resumed. Everything else works on
what is stored there, so that the study may be stopped, and repeated with more dialogues.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from hookscope.persuasion_reading import read_to_disk
from hookscope.persuasion_tasks import (
    CHOSEN,
    FUSION,
    WORDS,
    Pieces,
    Task,
    agreement_task,
    agrees,
    any_strategy_task,
    column,
    fused,
    numbers,
    prefix_task,
    probe_scores,
    strategy_task,
    table,
    text_scores,
    usual_length,
)
from interp import HookedModel, concatenate, viz
from probes.persuasion import STRATEGIES, TRAITS
from probes.persuasion_dynamics import (
    correlations,
    position_curve,
    strategy_mix,
    turn_errors,
    turn_of_persuasion,
)
from probes.persuasion_for_good import PersuasionForGood
from probes.transcripts import PERSUADEE, Dialogue

LAYERS = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29)
"""Layers that are read: every third one of the embedded model."""
PREFIXES = (1, 2, 4, 6, 8)
"""Turns of the persuadee after which the outcome is told."""
N_SHOWN = 6
"""Dialogues whose trajectories are kept."""


@dataclass(frozen=True, kw_only=True)
class PersuasionStudy:
    """What the study found, as tables."""

    facts: dict[str, Any]
    """Model, layers, numbers of dialogues, seconds."""
    tables: dict[str, list[dict[str, Any]]]
    """Rows by name of the table."""
    examples: list[dict[str, Any]]
    """Dialogues with held-out scores after each piece."""

    def frame(self, name: str) -> pd.DataFrame:
        """A table as a frame."""
        return pd.DataFrame(self.tables[name])

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"facts": self.facts, "tables": self.tables, "examples": self.examples}

    def summary(self) -> str:
        """The tables as text."""
        parts = [f"{key}: {value}" for key, value in self.facts.items()]
        return "\n\n".join(
            ["\n".join(parts)]
            + [f"{name}\n{self.frame(name).to_string(index=False)}" for name in self.tables]
        )

    def report(self) -> viz.Report:
        """The study as one page."""
        report = viz.Report("Persuasion, read along", subtitle=str(self.facts["model"]))
        for name in self.tables:
            report = report.heading(name.capitalize()).table(self.frame(name), name)
        return report


def run_persuasion_study(
    data: PersuasionForGood,
    folder: str | Path,
    model: HookedModel,
    *,
    n_annotated: int | None = None,
    n_others: int = 0,
    layers: Sequence[int] = LAYERS,
    seed: int = 0,
    progress: bool = False,
) -> PersuasionStudy:
    """Read dialogues (or go on reading) and evaluate every task on those that are read.

    Args:
        data: The data set.
        folder: Where activations are kept; a second run goes on where the first one stopped.
        model: A language model with a chat template.
        n_annotated: Annotated dialogues to read, `None` for all.
        n_others: Dialogues without annotation to read, for the outcome and personality.
        layers: Layers to read.
        seed: Of folds, shuffles and bootstrap draws.
        progress: Show progress bars.
    """
    start = time.perf_counter()
    folder = Path(folder)
    annotated = data.annotated[:n_annotated]
    others = data.others[:n_others]
    options = {"layers": tuple(layers), "progress": progress}
    pieces: Pieces = read_to_disk(model, annotated, folder / "annotated", **options)
    everything, every_piece = (*annotated, *others), pieces
    if others:
        more = read_to_disk(model, others, folder / "others", **options)
        every_piece = {at: concatenate([every_piece[at], more[at]]) for at in every_piece}
    seconds = time.perf_counter() - start
    tables: dict[str, list[dict[str, Any]]] = {
        "words on all dialogues": word_floors(data, seed=seed)
    }
    scores: dict[str, tuple[Task, dict[str, np.ndarray]]] = {}
    for task in (strategy_task(annotated), any_strategy_task(annotated), agreement_task(annotated)):
        found = text_scores(task, seed=seed) | probe_scores(task, pieces, seed=seed)
        found[FUSION] = fused(found[CHOSEN], found[WORDS])
        tables[task.name] = table(task, found, seed=seed)
        scores[task.name] = task, found
    tables["turn of persuasion"] = turns_found(annotated, *scores["agreeing turn"], seed=seed)
    tables["success"] = success_by_prefix(everything, every_piece, seed=seed)
    tables["personality"] = traits_read(everything, every_piece, seed=seed)
    tables["positions"] = positions(annotated, *scores["agreeing turn"], seed=seed)
    tables["strategy mix"] = mixes(annotated, *scores["strategy or none"])
    tables["personality and strategy"] = personality(annotated, seed=seed)
    facts = {
        "data": "PersuasionForGood, Wang et al. 2019, Apache-2.0",
        "model": model.name,
        "layers": list(layers),
        "annotated dialogues read": len(annotated),
        "annotated dialogues held": len(data.annotated),
        "other dialogues read": len(others),
        "seconds of reading in this run": round(seconds, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "seed": seed,
    }
    return PersuasionStudy(facts=facts, tables=tables, examples=examples(annotated, scores))


def word_floors(data: PersuasionForGood, *, seed: int = 0) -> list[dict[str, Any]]:
    """What words alone reach on everything that is held, no model needed."""
    rows = []
    for task in (strategy_task(data.annotated), agreement_task(data.annotated)):
        rows += table(task, text_scores(task, seed=seed), seed=seed)
    outcomes = [int(d.meta["donation"] > 0) for d in data.all]
    for n_turns in (n for n in (2, 4) if n <= usual_length(data.all)):
        task = prefix_task(data.all, outcomes, n_turns, name=f"success after {n_turns} turns")
        rows += table(task, text_scores(task, seed=seed), seed=seed)
    for n_left_out in (0, 1):
        task = prefix_task(data.all, outcomes, n_left_out, from_end=True)
        rows += table(task, text_scores(task, seed=seed), seed=seed)
    return rows


def traits_read(
    dialogues: Sequence[Dialogue], pieces: Pieces, *, seed: int = 0
) -> list[dict[str, Any]]:
    """The persuadee's traits at the last turn, by the probe and by the words, split by user."""
    rows = []
    for task in _trait_tasks(dialogues):
        found = text_scores(task, seed=seed)
        found[CHOSEN] = probe_scores(task, pieces, seed=seed)[CHOSEN]
        rows += table(task, found, seed=seed)
    return rows


def success_by_prefix(
    dialogues: Sequence[Dialogue], pieces: Pieces, *, seed: int = 0
) -> list[dict[str, Any]]:
    """The donation, told after each turn of the persuadee, by the probe and by the same words."""
    outcomes = [int(d.meta["donation"] > 0) for d in dialogues]
    usual = [k for k in PREFIXES if k <= usual_length(dialogues)]
    tasks = [(f"after {k} turns", prefix_task(dialogues, outcomes, k)) for k in usual]
    tasks += [
        (f"last {k} turns removed", prefix_task(dialogues, outcomes, k, from_end=True))
        for k in (0, 1, 2)
    ]
    rows = []
    for name, task in tasks:
        found = text_scores(task, seed=seed)
        found[CHOSEN] = probe_scores(task, pieces, seed=seed)[CHOSEN]
        rows += [{"prefix": name, **row} for row in table(task, found, seed=seed)]
    return rows


def turns_found(
    dialogues: Sequence[Dialogue], task: Task, scores: dict[str, np.ndarray], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Error of the turn of persuasion: probe and words beside two rules that read nothing."""
    n_pieces = sum(len(d.pieces) for d in dialogues)
    along = {m: _along(dialogues, column(scores[m], task, n_pieces)) for m in (CHOSEN, WORDS)}
    truth = [_first_agreement(d) for d in dialogues]
    chosen = [k for k, turn in enumerate(truth) if turn is not None]
    true = np.array([truth[k] for k in chosen])
    counts = np.array([len(along[WORDS][k]) for k in chosen])
    found: dict[str, np.ndarray] = {
        f"{method}, {rule}": np.array([turn_of_persuasion(rows[k], rule=rule) for k in chosen])
        for method, rows in along.items()
        for rule in ("peak", "rise")
    }
    found["always the middle turn"] = counts // 2
    others = [np.delete(true, k) for k in range(len(true))]
    found["median turn of the other dialogues"] = np.array([np.median(o) for o in others])
    found["always the last turn"] = counts - 1
    frame = turn_errors(true, found, seed=seed).to_frame().round(4)
    return [{**{str(k): v for k, v in r.items()}, "n": len(true)} for r in frame.to_dict("records")]


def positions(
    dialogues: Sequence[Dialogue], task: Task, scores: dict[str, np.ndarray], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Where in dialogues agreement is: annotated, and by the held-out scores."""
    n_pieces = sum(len(d.pieces) for d in dialogues)
    rows = []
    for name, values in (
        ("annotated agreement", task.labels.astype(float)),
        ("probability by the probe", _calibrated(task, scores[CHOSEN])),
    ):
        curve = position_curve(_along(dialogues, column(values, task, n_pieces)), seed=seed)
        rows += [
            {"curve": name, "position": round(float(x), 3), **numbers(e)}
            for x, e in zip(curve.position, curve.mean, strict=True)
        ]
    return rows


def mixes(
    dialogues: Sequence[Dialogue], task: Task, scores: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Shares of the strategies at each turn of the persuader: labels, probe, words, constant."""
    turns = np.concatenate([np.asarray(d.turns) // 2 for d in dialogues])[task.rows]
    overall = (task.labels[:, None] == np.asarray(STRATEGIES)).mean(0)
    methods = {
        "probe": _softmax(scores[CHOSEN]),
        "words": _softmax(scores[WORDS]),
        "the same mix at every turn": np.tile(overall, (len(task.labels), 1)),
    }
    rows = []
    for name, probabilities in methods.items():
        matched = probabilities * overall / probabilities.mean(0)
        matched /= matched.sum(1, keepdims=True)
        mix = strategy_mix(turns, task.labels, matched, strategies=STRATEGIES)
        for turn, (true, found, distance) in enumerate(
            zip(mix.true, mix.found, mix.distance, strict=True)
        ):
            shares = {
                f"true {s}": round(float(v), 4) for s, v in zip(STRATEGIES, true, strict=True)
            }
            shares |= {s: round(float(v), 4) for s, v in zip(STRATEGIES, found, strict=True)}
            rows.append({"method": name, "turn": turn + 1, "distance": round(distance, 4)} | shares)
    return rows


def personality(dialogues: Sequence[Dialogue], *, seed: int = 0) -> list[dict[str, Any]]:
    """Correlation of the persuadee's traits with the persuader's annotated strategies."""
    known = [d for d in dialogues if np.isfinite(list(d.meta["traits"].values())).all()]
    task, shares = any_strategy_task(known), []
    for d in known:
        mine = task.labels[task.groups == d.name]
        shares.append({s: float((mine == s).mean()) for s in STRATEGIES if s != "none"})
    traits = pd.DataFrame([d.meta["traits"] for d in known])
    users = np.array([d.meta["user"] for d in known])
    frame = correlations(traits, pd.DataFrame(shares), groups=users, seed=seed).round(4)
    return [{str(k): v for k, v in r.items()} for r in frame.to_dict("records")]


def examples(
    dialogues: Sequence[Dialogue], scores: dict[str, tuple[Task, dict[str, np.ndarray]]]
) -> list[dict[str, Any]]:
    """Some dialogues with the held-out probabilities of agreement and of each strategy."""
    n_pieces = sum(len(d.pieces) for d in dialogues)
    task, found = scores["agreeing turn"]
    columns = {"agreement": column(_calibrated(task, found[CHOSEN]), task, n_pieces)}
    task, found = scores["strategy or none"]
    for k, strategy in enumerate(STRATEGIES):
        columns[strategy] = column(_softmax(found[CHOSEN])[:, k], task, n_pieces)
    starts = np.cumsum([0, *(len(d.pieces) for d in dialogues)])
    shown = [k for k, d in enumerate(dialogues) if _first_agreement(d) is not None][:N_SHOWN]
    return [
        {
            "name": dialogues[k].name,
            "pieces": list(dialogues[k].pieces),
            "turns": list(dialogues[k].turns),
            "roles": list(dialogues[k].roles),
            "acts": [list(acts) for acts in dialogues[k].meta["acts"]],
            "donation": dialogues[k].meta["donation"],
            "scores": {
                name: [None if np.isnan(v) else round(float(v), 3) for v in row[a:b]]
                for name, row in columns.items()
            },
        }
        for k, a, b in ((k, starts[k], starts[k + 1]) for k in shown)
    ]


def _trait_tasks(dialogues: Sequence[Dialogue]) -> list[Task]:
    """One task for each trait: above the median or not."""
    tasks = []
    for trait in TRAITS:
        values = np.array([d.meta["traits"][trait] for d in dialogues])
        high = np.where(np.isfinite(values), values > np.nanmedian(values), -1).tolist()
        task = prefix_task(dialogues, high, 0, from_end=True, name=f"high {trait}")
        tasks.append(task.pick(task.labels >= 0))
    return tasks


def _first_agreement(dialogue: Dialogue) -> int | None:
    """Which turn of the persuadee is the first that agrees."""
    ends = [k for k in dialogue.turn_ends if dialogue.roles[k] == PERSUADEE]
    found = (n for n, k in enumerate(ends) if agrees(dialogue, dialogue.turns[k]))
    return next(found, None)


def _along(dialogues: Sequence[Dialogue], values: np.ndarray) -> list[np.ndarray]:
    """The values of each dialogue that are there, in order."""
    ends = np.cumsum([len(d.pieces) for d in dialogues])
    parts = [values[end - len(d.pieces) : end] for d, end in zip(dialogues, ends, strict=True)]
    return [part[np.isfinite(part)] for part in parts]


def _calibrated(task: Task, scores: Float[np.ndarray, " example"]) -> np.ndarray:
    """Probabilities whose mean is the share of the positive class: log-odds moved, not bent."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = (1 / (1 + np.exp(-(scores + middle)))).mean()
        low, high = (middle, high) if mean < task.labels.mean() else (low, middle)
    return 1 / (1 + np.exp(-(scores + low)))


def _softmax(scores: Float[np.ndarray, "example class"]) -> Float[np.ndarray, "example class"]:
    exp = np.exp(scores - scores.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)
