"""Asking the model instead of probing it, and what that costs.

Asked after each turn, the model reads the dialogue so far again and again; a probe needs one pass
for all turns, and then a product with its weights. Costs are seconds of the processor, which do not
depend on what else it does; an accelerator's own time is not among them.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from sklearn.base import clone

from hookscope.persuasion_methods import CHOSEN, PROBE, WORDS, Scores, features, table
from hookscope.persuasion_tasks import Pieces, Task
from interp import HookedModel, Record, Records
from interp.core.files import write_atomically
from interp.core.seeds import derive
from probes.persuasion import PERSUASION_PROMPTS
from probes.prompted import Prompt, prompted_scores
from probes.transcripts import Dialogue, read_pieces, transcribe

N_TIMED = 2
"""Dialogues whose reading is timed."""
_PARTS = ("reading", "scoring")


def prompted(
    model: HookedModel,
    dialogues: Sequence[Dialogue],
    scored: tuple[Task, Scores],
    folder: Path,
    *,
    n_asked: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Ask the model whether some turns agree, half of which do, beside the held-out scores.

    Args:
        model: The model.
        dialogues: The dialogues.
        scored: The task of agreeing turns and the scores of its examples.
        folder: Where answers are kept.
        n_asked: Number of turns.
        seed: Which turns.
    """
    task, scores = scored
    rng = np.random.default_rng(derive(seed, "asked"))
    shuffled = [rng.permutation(np.flatnonzero(task.labels == k)) for k in (1, 0)]
    chosen = np.sort(np.concatenate([rows[: n_asked // 2] for rows in shuffled]))
    texts = prefixes(dialogues, task.rows[chosen])
    answers = _asked(model, texts, PERSUASION_PROMPTS["agreement"], folder)
    found = {name: scores[name][chosen] for name in (WORDS, CHOSEN)}
    found["prompted"] = np.array(answers["scores"])
    rows = table(task.pick(chosen), found, seed=seed)
    rows[-1]["processor seconds for each turn"] = round(answers["seconds"] / len(texts), 4)
    return rows


def costs(
    model: HookedModel, dialogues: Sequence[Dialogue], scored: tuple[Task, Scores], pieces: Pieces
) -> list[dict[str, Any]]:
    """Processor seconds of a probe for each turn: reading, one pass for a dialogue, and scoring.

    Args:
        model: The model.
        dialogues: The dialogues.
        scored: A task of the first of them, and its scores.
        pieces: Activations of the dialogues.
    """
    timed, task = dialogues[:N_TIMED], scored[0]
    layer = pieces["mean"].layers[-1]
    start = time.process_time()
    read_pieces(model, timed, layers=layer)
    reading = time.process_time() - start
    X = features(pieces["mean"], layer, task.rows)
    probe: Any = clone(PROBE)
    probe.fit(X, task.labels)
    start = time.process_time()
    probe.decision_function(X)
    scoring = time.process_time() - start
    n_read = int(np.isin(task.groups, [d.name for d in timed]).sum())
    seconds = (reading / n_read, scoring / len(X))
    return [
        {"part": part, "turns": n, "processor seconds for each turn": round(value, 7)}
        for part, n, value in zip(_PARTS, (n_read, len(X)), seconds, strict=True)
    ]


def prefixes(dialogues: Sequence[Dialogue], rows: Int[np.ndarray, " example"]) -> list[str]:
    """Transcripts up to and including the pieces at these rows."""
    starts = np.cumsum([0, *(len(d.pieces) for d in dialogues)])
    owners = np.searchsorted(starts, rows, side="right") - 1
    return [
        transcribe(dialogues[o].pick(range(row - starts[o] + 1))).text
        for o, row in zip(owners.tolist(), rows.tolist(), strict=True)
    ]


def _asked(
    model: HookedModel, texts: Sequence[str], prompt: Prompt, folder: Path
) -> dict[str, Any]:
    """Answers and the seconds they took, kept in a file so that nothing is asked twice."""
    said = "\n\n".join((repr(prompt), repr(model.origin), *texts))
    path = folder / "prompted" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        start = time.process_time()
        scores = prompted_scores(model, Records(Record(text=text) for text in texts), prompt)
        found = {"scores": scores.tolist(), "seconds": time.process_time() - start}
        write_atomically(path, json.dumps(found).encode())
    return json.loads(path.read_text())
