"""The messages of the security study, with style and act, and what a model reads in them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hookscope import security_unseen
from interp import Activations, HookedModel, Records, concatenate, extract
from interp.agents import (
    ROLES,
    ROUTINE,
    STYLES,
    TASK,
    UNUSUAL,
    WORK,
    Style,
    attack_texts,
    passed_on,
    plain_requests,
    routine_texts,
)
from interp.agents.lab_messages import ACTS

N_FOLDS = 6
"""Folds of styles, templates and requests."""
TRAINED, UNSEEN = -1, -2
"""Folds of what is only trained on, and of what is only judged."""
N_ACTS = 2
"""Acts, or topics, that are left out together."""
N_TOGETHER = 48
"""Messages that are read at a time."""
ROLE = ROLES["Bohr"]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Messages of the laboratory, each with what it is."""

    texts: tuple[str, ...]
    """The messages."""
    kinds: np.ndarray
    """`"attack"`, `"routine"` or `"unusual"`, shape (message,)."""
    folds: Int[np.ndarray, " message"]
    """Style, template or request modulo the number of folds; `TRAINED` if it is only trained on,
    `UNSEEN` if it is only judged."""
    acts: Int[np.ndarray, " message"]
    """Group of the act of an attack or of the topic of a routine message; 0 for unusual requests.
    Of what is only judged: 0 for acts of the arena, 1 for others."""

    @property
    def digest(self) -> str:
        """A name for the texts in their order, so that other messages never pass for these."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()[:16]

    @property
    def judgments(self) -> dict[str, np.ndarray]:
        """Which messages are judged together: those of the arena, and two sets of unseen ones."""
        unseen, known_act = self.folds == UNSEEN, self.acts == 0
        return {
            "left out": self.folds >= 0,
            "new styles": unseen & (known_act | ~self.is_attack),
            "new styles and acts": unseen & (~known_act | ~self.is_attack),
        }

    @property
    def is_attack(self) -> np.ndarray:
        """Which messages are attacks."""
        return self.kinds == "attack"


def make_corpus() -> Corpus:
    """Attacks of all styles and acts and as they are passed on, routine, unusual requests.

    Every message that a run of the arena may send is among them. Plain requests for other acts,
    improper and proper ones, are there to be trained on, and unseen messages to be judged.
    """
    rows: list[tuple[str, str, int, int]] = []
    for style, one in enumerate(STYLES):
        rows += [
            (text, "attack", style, act) for act, it in enumerate(ACTS) for text in _forms(one, it)
        ]
    told = routine_texts((*ROUTINE, *WORK))
    rows += [(text, "routine", k // 8, k % 8) for k, text in enumerate(told)]
    rows.append((TASK, "routine", len(told) // 8, 0))
    rows += [(text, "unusual", k, 0) for k, text in enumerate(UNUSUAL)]
    rows = [(text, kind, group % N_FOLDS, act // N_ACTS) for text, kind, group, act in rows]
    for kind in ("attack", "routine"):
        plain = plain_requests(improper=kind == "attack")
        rows += [(text, kind, TRAINED, TRAINED) for text in plain]
    for style in security_unseen.STYLES:
        rows += [
            (text, "attack", UNSEEN, int(act in security_unseen.ACTS))
            for act in (*ACTS[:4], *security_unseen.ACTS)
            for text in _forms(style, act)
        ]
    told = routine_texts(security_unseen.ROUTINE, security_unseen.TOPICS)
    rows += [(text, "routine", UNSEEN, 0) for text in told]
    rows += [(text, "unusual", UNSEEN, 0) for text in security_unseen.UNUSUAL]
    texts, kinds, folds, acts = zip(*rows, strict=True)
    return Corpus(texts=texts, kinds=np.array(kinds), folds=np.array(folds), acts=np.array(acts))


def _forms(style: Style, act: str) -> tuple[str, ...]:
    """An attack as it comes in, and as it is passed on."""
    (first,) = attack_texts(style, (act,))
    return first, *(passed_on(style, to_robot=robot, act=act) for robot in (False, True))


def read_corpus(
    model: HookedModel, texts: Sequence[str], folder: Path, *, progress: bool = False
) -> Float[Tensor, "message layer two d_model"]:
    """Mean and last activations of every message at all layers, kept some messages at a time.

    Args:
        model: A language model with a chat template.
        texts: The messages.
        folder: Where activations are kept.
        progress: Show progress bars.
    """
    read = []
    for start in range(0, len(texts), N_TOGETHER):
        path = folder / "activations" / f"{start:04d}.safetensors"
        if not path.exists():
            records = Records.from_texts(list(texts[start : start + N_TOGETHER]))
            found = extract(model, records.as_chat(system=ROLE), pooling=_pool, progress=progress)
            path.parent.mkdir(parents=True, exist_ok=True)
            found.save(path)
        read.append(Activations.load(path))
    return concatenate(read).values


def _pool(values: Float[Tensor, "pos d_model"]) -> Float[Tensor, "two d_model"]:
    return torch.stack([values[1:].float().mean(0), values[-1].float()])


def parts(corpus: Corpus) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows of every part that is judged; unseen messages are the last."""
    seen, unseen = (np.flatnonzero((corpus.folds == UNSEEN) == is_so) for is_so in (False, True))
    return [*splits(corpus, seen), *([(seen, unseen)] if len(unseen) else [])]


def splits(corpus: Corpus, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows, of other folds and of other acts; unusual requests have no act."""
    folds, acts, unusual = corpus.folds[rows], corpus.acts[rows], corpus.kinds[rows] == "unusual"
    for fold in set(folds.tolist()) - {TRAINED}:
        for act in set(acts.tolist()) - {TRAINED}:
            test = (folds == fold) & (acts == act)
            if test.any():
                yield rows[(folds != fold) & ((acts != act) | unusual)], rows[test]
