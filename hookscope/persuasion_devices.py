"""What a persuasion probe depends on: its context, and the words that say no aloud.

After the checks of Jaipersaud et al. 2025 (2508.05625): sentences are read alone, and "no" and
"not" are taken away or turned around, beside as many other words as a control.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import clone

from hookscope.persuasion_methods import (
    PROBE,
    WORDS,
    features,
    highest,
    numbers,
    table,
)
from hookscope.persuasion_reading import read_to_disk
from hookscope.persuasion_tasks import (
    Pieces,
    agreeing_sentence_task,
    agreement_task,
    outcomes,
    prefix_task,
    strategy_task,
    turn_of_sentence,
)
from interp import Activations, HookedModel
from interp.core.seeds import derive
from probes.linear import LinearProbe
from probes.persuasion_dynamics import mean_estimate
from probes.text import word_classifier
from probes.transcripts import PERSUADEE, Dialogue, bare

AT = "mean"
"""The place that is read: the mean over a sentence, at the middle one of the layers."""
TURNED = (
    {"no": "yes", "nope": "yes", "not": "really", "never": "always"}
    | {f"{verb}n't": verb for verb in ("do", "does", "did", "would", "could", "is", "are")}
    | {"can't": "can", "cannot": "can", "won't": "will", "dont": "do", "cant": "can"}
)
"""Words that say no, and what turns each of them around."""
IN_CONTEXT, ALONE, AS_THEY_ARE = "probe, in the dialogue", "probe, alone", "as they are"


def context(
    model: HookedModel,
    dialogues: Sequence[Dialogue],
    pieces: Pieces,
    folder: Path,
    *,
    n_tested: int,
    seed: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """The same sentences read in their dialogue and alone, by probes of sentences in dialogues.

    Args:
        model: The model.
        dialogues: Annotated dialogues; the first ones are tested, the others trained on.
        pieces: Activations of the dialogues.
        folder: Where the activations of the single sentences are kept.
        n_tested: How many dialogues are tested.
        seed: Of the draws.
        progress: Show a progress bar.
    """
    owners = [(d, k) for d in dialogues for k in range(len(d.pieces))]
    rows, whole = [], _middle(pieces)
    options = {"layers": whole.layers, "block": 50, "progress": progress}
    names = [d.name for d in dialogues[:n_tested]]
    for task in (strategy_task(dialogues), agreeing_sentence_task(dialogues)):
        held = np.isin(task.groups, names)
        train, tested = task.pick(~held), task.pick(held)
        single = [d.alone(k) for d, k in (owners[row] for row in tested.rows)]
        alone = read_to_disk(model, single, folder / f"alone-{task.name.split()[0]}", **options)
        fit, words = _fitted(_rows(whole, train.rows), train.labels), word_classifier()
        scores = {
            IN_CONTEXT: fit.decision_function(_rows(whole, tested.rows)),
            ALONE: fit.decision_function(_rows(alone[AT], np.arange(len(single)))),
            WORDS: words.fit(train.texts, train.labels).decision_function(tested.texts),
        }
        rows += table(tested, scores, against=IN_CONTEXT, seed=seed)
    return rows


def ablations(
    model: HookedModel,
    annotated: Sequence[Dialogue],
    others: Sequence[Dialogue],
    pieces: Pieces,
    folder: Path,
    *,
    n_tested: int,
    seed: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """How scores change when the persuadee no longer says no, in units of their spread.

    The probes of agreeing sentences and of the donation are trained on dialogues of other users;
    the turns that contain such a word are scored before and after.

    Args:
        model: The model.
        annotated: Annotated dialogues; the first ones with such a word are changed.
        others: More dialogues, to train the probe of the donation.
        pieces: Activations of both, in this order.
        folder: Where the activations of the changed dialogues are kept.
        n_tested: How many dialogues are changed.
        seed: Of the control words and the draws.
        progress: Show a progress bar.
    """
    tested = [d for d in annotated if any(map(_says_no, d.pieces, d.roles))][:n_tested]
    versions = {
        "left out": [d.without(TURNED, role=PERSUADEE) for d in tested],
        "turned around": [d.replacing(TURNED, role=PERSUADEE) for d in tested],
        "kept, as many other words left out": [others_out(d, seed=seed) for d in tested],
    }
    whole = _middle(pieces)
    options = {"layers": whole.layers, "progress": progress}
    mine = np.isin(np.asarray(whole.groups), [d.name for d in tested])
    read = {AS_THEY_ARE: whole[mine]}
    for name, changed in versions.items():
        read[name] = read_to_disk(model, changed, folder / name.replace(" ", "-"), **options)[AT]
    turns, sentences = agreement_task(tested), agreeing_sentence_task(tested)
    at = turn_of_sentence(turns, sentences)
    said = np.zeros(len(turns.rows), bool)
    said[at[[_says_no(text) for text in sentences.texts]]] = True
    users = {d.meta["user"] for d in tested}
    free = [d.name for d in annotated if d.meta["user"] not in users]
    agreeing, everything = agreeing_sentence_task(annotated), (*annotated, *others)
    donation = prefix_task(everything, outcomes(everything), 0, from_end=True)
    training = {
        "agreement": agreeing.pick(np.isin(agreeing.groups, free)),
        "donation": donation.pick(~np.isin(donation.groups, list(users))),
    }
    rows = []
    for probe, task in training.items():
        fit = _fitted(_rows(whole, task.rows), task.labels)
        by_turn = {
            name: highest(fit.decision_function(_rows(values, sentences.rows)), at, len(said))
            for name, values in read.items()
        }
        before = by_turn.pop(AS_THEY_ARE)
        spread = before.std() or 1.0
        for name, after in by_turn.items():
            change = (after - before)[said] / spread
            value = numbers(mean_estimate(change, groups=turns.groups[said], seed=seed))
            n = {"n": int(said.sum()), "dialogues": len(tested)}
            rows.append({"probe": probe, "words that say no": name} | value | n)
    return rows


def others_out(dialogue: Dialogue, *, seed: int = 0) -> Dialogue:
    """The dialogue without as many other words of the persuadee as there are that say no."""
    rng = np.random.default_rng(derive(seed, f"ablation {dialogue.name}"))
    pieces = list(dialogue.pieces)
    for k, piece in enumerate(pieces):
        words = piece.split()
        others = [i for i, word in enumerate(words) if bare(word) not in TURNED]
        n_out = min(len(words) - len(others), len(others))
        if dialogue.roles[k] == PERSUADEE and n_out:
            out = set(rng.choice(others, size=n_out, replace=False).tolist())
            pieces[k] = " ".join(word for i, word in enumerate(words) if i not in out)
    return replace(dialogue, pieces=tuple(pieces))


def _says_no(text: str, role: str = PERSUADEE) -> bool:
    return role == PERSUADEE and any(bare(word) in TURNED for word in text.split())


def _fitted(X: Float[np.ndarray, "example feature"], labels: np.ndarray) -> LinearProbe:
    fresh: Any = clone(PROBE)
    return fresh.fit(X, labels)


def _middle(pieces: Pieces) -> Activations:
    """The place that is read, at the middle one of the layers."""
    layers = pieces[AT].layers
    return pieces[AT].at(layers[len(layers) // 2])


def _rows(
    activations: Activations, rows: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "example feature"]:
    """Some rows of the activations of one layer."""
    return features(activations, activations.layer, rows)
