"""What a persuasion probe depends on: context, and the words that say the answer aloud.

The probes are trained on dialogues as they are and tested on other dialogues as they are, with the
words of assent and refusal left out, with as many other words left out, and turn by turn without
context.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.persuasion_reading import read_to_disk
from hookscope.persuasion_tasks import C, Pieces, Task, agreement_task, strategy_task, table
from interp import HookedModel
from interp.core.seeds import derive
from probes.linear import LinearProbe
from probes.transcripts import PERSUADEE, Dialogue

ASSENT = frozenset(
    "yes yeah yep sure ok okay alright absolutely definitely certainly no not nope never "
    "don't can't won't".split()
)
"""Words that say yes or no."""


def ablations(
    model: HookedModel,
    dialogues: Sequence[Dialogue],
    pieces: Pieces,
    folder: Path,
    *,
    n_test: int,
    layers: Sequence[int],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Scores of agreeing turns and of strategies when something is taken away.

    Args:
        model: The model.
        dialogues: Annotated dialogues.
        pieces: Their activations.
        folder: Where the activations of the changed dialogues are kept.
        n_test: The first so many dialogues are the test set, the others the training set.
        layers: Layers to read.
        seed: Of the words that are left out at random.
    """
    test, options = dialogues[:n_test], {"layers": tuple(layers)}
    n_rows = sum(len(d.pieces) for d in test)
    changed = {
        "yes and no left out": [d.without(ASSENT, role=PERSUADEE) for d in test],
        "as many other words left out": _others_out(test, seed),
    }
    rows = []
    for task in (agreement_task(dialogues), strategy_task(dialogues)):
        held = task.rows < n_rows
        part = task.pick(held)
        places = {"as they are": (pieces, part.rows)}
        if task.name == "agreeing turn":
            for name, versions in changed.items():
                read = read_to_disk(model, versions, folder / name.replace(" ", "-"), **options)
                places[name] = read, part.rows
        single = _alone(test, part)
        read = read_to_disk(model, single, folder / f"alone-{task.name[:8].strip()}", **options)
        places["without context"] = read, np.arange(len(single))
        scores = _transferred(task, ~held, pieces, places)
        rows += table(part, scores, seed=seed)
    return rows


def _transferred(
    task: Task, train: np.ndarray, pieces: Pieces, places: dict[str, tuple[Pieces, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Mean score over layers, of probes trained on some examples, at several test sets."""
    sums: dict[str, Any] = dict.fromkeys(places, 0)
    for at in pieces:
        for layer in pieces[at].layers:
            X = pieces[at].at(layer).matrix[task.rows[train]].float().numpy()
            probe = LinearProbe(C=C, balanced=True).fit(X, task.labels[train])
            for name, (read, rows) in places.items():
                test = read[at].at(layer).matrix[rows].float().numpy()
                sums[name] = sums[name] + probe.decision_function(test)
    return sums


def _others_out(dialogues: Sequence[Dialogue], seed: int) -> list[Dialogue]:
    """The dialogues without as many random words of the persuadee as there are of assent."""
    rng = np.random.default_rng(derive(seed, "ablation"))
    changed = []
    for dialogue in dialogues:
        pieces = list(dialogue.pieces)
        for k, piece in enumerate(pieces):
            words = piece.split()
            n_less = len(words) - len(dialogue.pick([k]).without(ASSENT).pieces[0].split())
            if dialogue.roles[k] == PERSUADEE and 0 < n_less < len(words):
                out = set(rng.choice(len(words), size=n_less, replace=False).tolist())
                pieces[k] = " ".join(w for i, w in enumerate(words) if i not in out)
        changed.append(replace(dialogue, pieces=tuple(pieces)))
    return changed


def _alone(dialogues: Sequence[Dialogue], task: Task) -> list[Dialogue]:
    """The example of each row of a task, as a dialogue of its own."""
    where = [(d, k) for d in dialogues for k in range(len(d.pieces))]
    return [
        replace(d.alone(k), pieces=(text,))
        for (d, k), text in zip((where[row] for row in task.rows), task.texts, strict=True)
    ]
