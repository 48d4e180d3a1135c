"""The persuasion study: PersuasionForGood, read by a model, beside the words on the same folds.

The long part is reading the dialogues; it is kept in a folder and resumed. Everything else works on
what is stored there, so that the study may be stopped, and repeated with more dialogues.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hookscope.persuasion_devices import ablations, context
from hookscope.persuasion_methods import (
    CHOSEN,
    FUSION,
    SO_FAR,
    WORDS,
    Scores,
    agreement_scores,
    fused,
    layer_scores,
    probe_scores,
    table,
    text_scores,
    with_history,
)
from hookscope.persuasion_prompted import costs, prompted
from hookscope.persuasion_reading import read_to_disk
from hookscope.persuasion_tasks import (
    Pieces,
    Task,
    any_strategy_task,
    outcomes,
    prefix_task,
    strategy_task,
    trait_tasks,
    usual_length,
)
from hookscope.persuasion_turns import examples, mixes, personality, positions, turns_found
from interp import HookedModel, concatenate, viz
from interp.core.files import write_atomically
from probes.persuasion_for_good import PersuasionForGood
from probes.transcripts import Dialogue

PREFIXES = (1, 2, 4, 6, 8)
"""Turns of the persuadee after which the outcome is told."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PersuasionConfig:
    """How much of the study to run; the defaults run all of it."""

    n_annotated: int | None = None
    """Annotated dialogues to read; `None` for all."""
    n_others: int | None = None
    """Dialogues without annotation to read, for the outcome and personality; `None` for all."""
    n_devices: int = 24
    """Annotated dialogues that are also read without context, and with words left out."""
    n_prompted: int = 40
    """Turns about which the model itself is asked, half of which agree."""
    layers: tuple[int, ...] | None = None
    """Layers that are read; `None` for every third one, the last among them."""
    seed: int = 0
    """Of folds, shuffles and bootstrap draws."""


@dataclass(frozen=True, kw_only=True)
class PersuasionStudy:
    """What the study found, as tables."""

    facts: dict[str, Any]
    """Model, layers, numbers of dialogues, seconds."""
    tables: dict[str, Rows]
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
    config: PersuasionConfig | None = None,
    progress: bool = False,
) -> PersuasionStudy:
    """Read dialogues (or go on reading) and evaluate every task on those that are read.

    Args:
        data: The data set.
        folder: Where activations are kept, so that a second run goes on where the first one
            stopped, and the result as `results.json`.
        model: A language model with a chat template.
        config: How much to run.
        progress: Show progress bars.
    """
    config, folder, start = config or PersuasionConfig(), Path(folder), time.perf_counter()
    annotated, others = data.annotated[: config.n_annotated], data.others[: config.n_others]
    layers = tuple(range(model.n_layers)[::-3][::-1]) if config.layers is None else config.layers
    options = {"layers": layers, "progress": progress}
    pieces: Pieces = read_to_disk(model, annotated, folder / "annotated", **options)
    everything, every_piece = (*annotated, *others), pieces
    if others:
        more = read_to_disk(model, others, folder / "others", **options)
        every_piece = {at: concatenate([every_piece[at], more[at]]) for at in every_piece}
    history = with_history(everything, every_piece)
    along = {at: history[at] for at in ("mean", SO_FAR)}
    seed, tables = config.seed, {}
    scores = _sentences(annotated, pieces, tables, seed=seed)
    agreement = scores["agreeing turn"]
    tables["success"] = _donation(everything, along, seed=seed)
    tables["turn of persuasion"] = turns_found(annotated, *agreement, seed=seed)
    tables["personality"] = _traits(everything, along, seed=seed)
    tables["positions"] = positions(annotated, *agreement, seed=seed)
    tables["strategy mix"] = mixes(annotated, *scores["strategy or none"])
    tables["personality and strategy"] = personality(annotated, seed=seed)
    if config.n_prompted:
        asked: dict[str, Any] = {"n_asked": config.n_prompted, "seed": seed}
        tables["prompted"] = prompted(model, annotated, agreement, folder, **asked)
        tables["costs"] = costs(model, annotated, agreement, pieces)
    if config.n_devices:
        some = {"n_tested": config.n_devices, "seed": seed, "progress": progress}
        kept = folder / "devices"
        tables["context"] = context(model, annotated, pieces, kept, **some)
        tables["ablations"] = ablations(model, annotated, others, every_piece, kept, **some)
    facts = {
        "data": "PersuasionForGood, Wang et al. 2019, Apache-2.0",
        "model": model.name,
        "config": asdict(config),
        "annotated dialogues": len(annotated),
        "other dialogues": len(others),
        "seconds of this run": round(time.perf_counter() - start, 1),
    }
    study = PersuasionStudy(facts=facts, tables=tables, examples=examples(annotated, scores))
    write_atomically(folder / "results.json", json.dumps(study.to_dict()).encode())
    return study


def _sentences(
    dialogues: Sequence[Dialogue], pieces: Pieces, tables: dict[str, Rows], *, seed: int
) -> dict[str, tuple[Task, Scores]]:
    """Strategies, and sentences and turns that agree; adds a table for each."""
    kinds, any_kind = strategy_task(dialogues), any_strategy_task(dialogues)
    folds, any_folds = kinds.folds(seed), any_kind.folds(seed)
    found = text_scores(kinds, folds) | probe_scores(kinds, pieces, folds, seed=seed)
    mean = {"mean": pieces["mean"]}
    scored = [
        (kinds, found | {FUSION: fused(found[CHOSEN], found[WORDS])}),
        (any_kind, text_scores(any_kind, any_folds) | layer_scores(any_kind, mean, any_folds)),
    ]
    scored += agreement_scores(dialogues, pieces, seed=seed)
    tables |= {task.name: table(task, found, seed=seed) for task, found in scored}
    return {task.name: (task, found) for task, found in scored}


def _donation(dialogues: Sequence[Dialogue], pieces: Pieces, *, seed: int) -> Rows:
    """The donation, told after each prefix, by the probe and by the same words; split by user."""
    given = outcomes(dialogues)
    usual = [k for k in PREFIXES if k <= usual_length(dialogues)]
    tasks = {f"after {k} turns": prefix_task(dialogues, given, k) for k in usual}
    for k in (2, 1, 0):
        tasks[f"last {k} turns removed"] = prefix_task(dialogues, given, k, from_end=True)
    rows = []
    for name, task in tasks.items():
        found = _beside_words(task, pieces, seed=seed)
        rows += [{"prefix": name, **row} for row in table(task, found, seed=seed)]
    return rows


def _traits(dialogues: Sequence[Dialogue], pieces: Pieces, *, seed: int) -> Rows:
    """The persuadee's traits at the last turn, by the probe and by the words, split by user."""
    rows = []
    for task in trait_tasks(dialogues):
        rows += table(task, _beside_words(task, pieces, seed=seed), seed=seed)
    return rows


def _beside_words(task: Task, pieces: Pieces, *, seed: int) -> Scores:
    """Words, length, and the mean over all layers at each place, among which nobody chose."""
    folds = task.folds(seed)
    found = layer_scores(task, pieces, folds)
    return text_scores(task, folds) | {
        f"all layers, {at}": found[f"all layers, {at}"] for at in pieces
    }
