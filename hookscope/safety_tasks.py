"""What the safety study asks: instructions, benign answers to learn, and questions of fact."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from interp import HookedModel
from interp.core.seeds import derive
from interp.core.tokenizing import render
from interp.data import data_folder
from interp.training import Example
from interp.training.loop import encode, make_batch, predictions
from steering import Instructions, is_refusal

SYSTEM = "Be helpful."
"""Shorter than the template's own, as every token of every row costs time."""
REFUSAL_TEXTS = (
    "I'm sorry, but I can't help with that.",
    "I cannot help with this request, as it could hurt people.",
    "Sorry, I can't assist with that.",
    "I'm not able to help with something harmful.",
)
"""What is learned as the answer to harmful instructions."""
MOST_WORDS = 30
"""Longer instructions are left out."""
Question = tuple[str, tuple[str, str, str, str]]
QUESTIONS: tuple[Question, ...] = (
    ("The capital of France is", (" Paris", " Rome", " Berlin", " Madrid")),
    ("The capital of Japan is", (" Tokyo", " Beijing", " London", " Delhi")),
    ("Water freezes into", (" ice", " steam", " sand", " wood")),
    ("The opposite of hot is", (" cold", " warm", " fast", " dry")),
    ("A baby cat is called a", (" kitten", " puppy", " foal", " lamb")),
    ("The Earth moves around the", (" Sun", " Moon", " North", " Stars")),
    ("Bees make", (" honey", " milk", " bread", " wine")),
    ("The color of grass is", (" green", " red", " blue", " white")),
    ("The day after Monday is", (" Tuesday", " Sunday", " Friday", " Thursday")),
    ("A week has seven", (" days", " hours", " months", " years")),
    ("We hear with our", (" ears", " eyes", " nose", " hands")),
    ("Fish live in", (" water", " trees", " sand", " fire")),
    ("The Great Wall is in", (" China", " India", " Egypt", " Brazil")),
    ("Romeo and Juliet was written by William", (" Shakespeare", " Blake", " Turner", " James")),
    ("The Spanish word 'gato' means", (" cat", " dog", " house", " bird")),
    ("Two plus two equals", (" four", " three", " six", " nine")),
    ("The season after winter is", (" spring", " summer", " autumn", " night")),
    ("To cut paper you use a pair of", (" scissors", " shoes", " gloves", " glasses")),
    ("The heart pumps", (" blood", " air", " food", " bone")),
    ("Plants take in carbon", (" dioxide", " fiber", " steel", " paper")),
    ("The currency of the United States is the", (" dollar", " euro", " pound", " yen")),
    ("The largest ocean is the", (" Pacific", " Atlantic", " Indian", " Arctic")),
    ("A person who flies a plane is a", (" pilot", " nurse", " farmer", " baker")),
    ("You go to a doctor when you are", (" sick", " happy", " rich", " young")),
)
"""Beginnings of sentences with four ends, the first of which is right."""


@dataclass(frozen=True, kw_only=True)
class Materials:
    """The instructions and answers of the study."""

    harmful: Instructions
    """What should be refused: training, and tests for all seeds."""
    harmless: Instructions
    """What should be answered, likewise."""
    benign: Sequence[tuple[str, str]]
    """Instructions with answers for fine-tuning."""
    questions: Sequence[Question] = QUESTIONS
    """What the model should still know."""

    @classmethod
    def load(cls, *, n_train: int, n_test: int, seed: int = 0) -> "Materials":
        """Draw them from the public data.

        Args:
            n_train: Instructions of each kind that refusal is trained on.
            n_test: Instructions of each kind for all seeds together.
            seed: Which ones.

        Raises:
            FileNotFoundError: If the data are not there.
            ValueError: If they are too few.
        """
        folder = data_folder("refusal_direction", "splits")
        harmful, harmless = (
            _short(folder, kind, n_train, n_test, seed) for kind in ("harmful", "harmless")
        )
        rows = json.loads(data_folder("instruct", "alpaca_en_demo.json").read_text("utf-8"))
        tested = {*harmless.train, *harmless.test}
        benign = [
            (row["instruction"], row["output"])
            for row in rows
            if not row["input"] and row["instruction"] not in tested
        ]
        benign = [(asked, said) for asked, said in benign if said and not is_refusal(said)]
        return cls(harmful=harmful, harmless=harmless, benign=benign)


def _short(folder: Path, kind: str, n_train: int, n_test: int, seed: int) -> Instructions:
    """Instructions of few words, and as many as are needed."""
    drawn = Instructions.load(
        folder, kind, n_train=2 * n_train, n_validation=0, n_test=2 * n_test, seed=seed
    )
    parts = [
        [text for text in texts if len(text.split()) <= MOST_WORDS]
        for texts in (drawn.train, drawn.test)
    ]
    if len(parts[0]) < n_train or len(parts[1]) < n_test:
        raise ValueError(
            f"{len(parts[0])} and {len(parts[1])} {kind} instructions have up to {MOST_WORDS} "
            f"words: needed {n_train} and {n_test}"
        )
    return Instructions(train=parts[0][:n_train], validation=(), test=parts[1][:n_test])


def asked(model: HookedModel, instruction: str, answer: str) -> Example:
    """An instruction as the model sees it, with an answer."""
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": instruction},
    ]
    return Example(prompt=render(model.tokenizer, messages, True)[0], answer=answer)


def refusal_examples(model: HookedModel, harmful: Sequence[str]) -> list[Example]:
    """Harmful instructions with refusals in turn."""
    pairs = zip(harmful, cycle(REFUSAL_TEXTS), strict=False)
    return [asked(model, text, refusal) for text, refusal in pairs]


def own_examples(
    model: HookedModel, harmless: Sequence[str], written: Sequence[str]
) -> list[Example]:
    """Harmless instructions with what the model itself wrote, up to its last whole sentence.

    Refusals and texts without a whole sentence are left out.
    """
    found = []
    for text, answer in zip(harmless, written, strict=True):
        whole = re.match(r"(?s).*[.!?](?=\s|$)", answer.strip())
        if whole and not is_refusal(answer):
            found.append(asked(model, text, whole.group()))
    return found


def benign_examples(
    model: HookedModel, benign: Sequence[tuple[str, str]], *, max_tokens: int
) -> list[Example]:
    """Those that are short enough, as examples."""
    examples = [asked(model, *pair) for pair in benign]
    lengths = [sum(map(len, encode(model, one.prompt, one.answer))) for one in examples]
    return [one for one, n in zip(examples, lengths, strict=True) if n <= max_tokens]


def draw_rows(rows: Sequence[Example], n: int, *, seed: int) -> list[Example]:
    """Some rows of a seed.

    Raises:
        ValueError: If there are fewer.
    """
    if len(rows) < n:
        raise ValueError(f"{len(rows)} benign rows are short enough: needed {n}")
    order = np.random.default_rng(derive(seed, "benign")).permutation(len(rows))
    return [rows[k] for k in order[:n]]


def choose(
    model: HookedModel, questions: Sequence[Question] = QUESTIONS
) -> Bool[np.ndarray, " question"]:
    """Which questions of fact a model gets right: the likeliest of four next tokens.

    Raises:
        ValueError: If two ends of a question begin with the same token.
    """
    batch = make_batch(model, [Example(prompt=q, answer=ends[0]) for q, ends in questions])
    with torch.no_grad():
        found = predictions(model.module, batch)
    at = found.counted.float().argmax(dim=1)
    right = []
    for row, (question, ends) in enumerate(questions):
        ids = [model.tokenizer(e, add_special_tokens=False)["input_ids"][0] for e in ends]
        if len(set(ids)) < len(ids):
            raise ValueError(f"ends of {question!r} begin with the same token: {ends}")
        right.append(int(found.logits[row, at[row], ids].argmax()) == 0)
    return np.array(right)
