"""What happens along the dialogues of the persuasion study: turns, positions, mixes, examples.

All of it works on held-out scores of sentences and turns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from hookscope.persuasion_methods import AVERAGE, CHOSEN, WORDS, Scores, numbers
from hookscope.persuasion_tasks import Task, agrees, any_strategy_task
from probes.persuasion import STRATEGIES
from probes.persuasion_dynamics import (
    correlations,
    position_curve,
    strategy_mix,
    turn_errors,
    turn_of_persuasion,
)
from probes.transcripts import PERSUADEE, Dialogue

N_SHOWN = 6
"""Dialogues whose trajectories are kept."""


def turns_found(
    dialogues: Sequence[Dialogue], task: Task, scores: Scores, *, seed: int = 0
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
    dialogues: Sequence[Dialogue], task: Task, scores: Scores, *, seed: int = 0
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


def mixes(dialogues: Sequence[Dialogue], task: Task, scores: Scores) -> list[dict[str, Any]]:
    """Shares of the strategies at each turn of the persuader: labels, probe, words, constant."""
    turns = np.concatenate([np.asarray(d.turns) // 2 for d in dialogues])[task.rows]
    overall = (task.labels[:, None] == np.asarray(STRATEGIES)).mean(0)
    methods = {
        "probe": _softmax(scores[AVERAGE]),
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
    dialogues: Sequence[Dialogue], scores: dict[str, tuple[Task, Scores]]
) -> list[dict[str, Any]]:
    """Some dialogues with the held-out probabilities of agreement and of each strategy."""
    n_pieces = sum(len(d.pieces) for d in dialogues)
    task, found = scores["agreeing turn"]
    columns = {"agreement": column(_calibrated(task, found[CHOSEN]), task, n_pieces)}
    task, found = scores["strategy or none"]
    for k, strategy in enumerate(STRATEGIES):
        columns[strategy] = column(_softmax(found[AVERAGE])[:, k], task, n_pieces)
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


def column(scores: Float[np.ndarray, " example"], task: Task, n_pieces: int) -> np.ndarray:
    """Scores of a task's examples at their rows among all pieces, NaN elsewhere."""
    out = np.full(n_pieces, np.nan)
    out[task.rows] = scores
    return out


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
