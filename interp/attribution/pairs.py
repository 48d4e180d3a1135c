"""Clean and corrupted texts that differ in what an answer depends on.

Replace a word by another one of its kind (France by Germany) rather than by noise: activations
then stay those of ordinary text (Zhang and Nanda 2023, arXiv 2309.16042).
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.seeds import derive
from interp.core.tokens import Tokens

_NO_IDS = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of texts, and which of their tokens correspond."""

    clean: Tokens
    """Texts on which the model gives the right answers."""
    corrupted: Tokens
    """As many texts, on which another answer is right."""
    matches: tuple[Int[np.ndarray, "_ 2"], ...]
    """For each pair the positions, in the clean text and in the corrupted one, of tokens that
    correspond. Patching leaves the others alone."""
    answers: Int[np.ndarray, " _"]
    """Token id of the clean text's answer, for each pair; empty if none were given."""
    wrong_answers: Int[np.ndarray, " _"]
    """Token id of the corrupted text's answer."""

    def __post_init__(self) -> None:
        """Check that there are as many of everything."""
        n = len(self.clean)
        counts = {"corrupted": len(self.corrupted), "matches": len(self.matches)}
        if len(self.answers) or len(self.wrong_answers):
            counts |= {"answers": len(self.answers), "wrong_answers": len(self.wrong_answers)}
        for name, count in counts.items():
            if count != n:
                raise ValueError(f"{name} has {count} entries, but clean has {n} texts")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.clean)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Pairs":
        """The chosen pairs, in the order given."""
        chosen = np.asarray(rows)
        some = len(self.answers) > 0
        return Pairs(
            clean=self.clean.rows(chosen),
            corrupted=self.corrupted.rows(chosen),
            matches=tuple(self.matches[row] for row in chosen),
            answers=self.answers[chosen] if some else _NO_IDS,
            wrong_answers=self.wrong_answers[chosen] if some else _NO_IDS,
        )

    def shuffled(self, *, seed: int = 0) -> "Pairs":
        """A control: every pair is judged by the answers of another pair.

        What patching restores of a pair's own answer says nothing about these, so that a sweep
        should find no cell.

        Raises:
            ValueError: If there are fewer than two pairs, or no answers.
        """
        if len(self) < 2 or not len(self.answers):
            raise ValueError(
                f"{len(self)} pairs with {len(self.answers)} answers cannot be shuffled: needed "
                "two pairs with answers"
            )
        order = np.random.default_rng(derive(seed, "shuffled pairs")).permutation(len(self))
        partner = np.empty(len(self), np.int64)
        partner[order] = np.roll(order, 1)  # one cycle through all pairs: none keeps its own
        return replace(
            self, answers=self.answers[partner], wrong_answers=self.wrong_answers[partner]
        )

    def to_frame(self) -> pd.DataFrame:
        """The alignment: one row for each match, with both tokens and whether they differ."""
        sides = [(t.strings, t.ids, t.offsets) for t in (self.clean, self.corrupted)]
        rows = [
            {
                "pair": pair,
                "clean_position": match[0],
                "corrupted_position": match[1],
                **{
                    name: strings[offsets[pair] + position]
                    for name, (strings, _, offsets), position in zip(
                        ("clean", "corrupted"), sides, match, strict=True
                    )
                },
                "differs": bool(
                    sides[0][1][sides[0][2][pair] + match[0]]
                    != sides[1][1][sides[1][2][pair] + match[1]]
                ),
            }
            for pair, matches in enumerate(self.matches)
            for match in matches.tolist()
        ]
        return pd.DataFrame(rows)


def make_pairs(
    model: HookedModel,
    clean: Records | Sequence[str],
    corrupted: Records | Sequence[str],
    *,
    answers: Sequence[str] = (),
    wrong_answers: Sequence[str] = (),
    align: bool = False,
) -> Pairs:
    """Tokenize pairs and match their tokens.

    Args:
        model: The language model whose tokenizer is used.
        clean: Texts, or conversations, which get the header of the assistant's next turn.
        corrupted: As many of them.
        answers: What follows each clean text, as it would be written there: usually with a space
            in front. Each has to be one token.
        wrong_answers: What follows each corrupted text.
        align: Match tokens of texts of unequal length: what both share, and replaced passages of
            equal length; the rest has no match. Otherwise the first token matches the first, and
            so on, and lengths must be equal.

    Raises:
        ValueError: If numbers or lengths do not fit, or an answer is not one token.
    """
    sides = [model.tokenize(side, add_generation_prompt=True) for side in (clean, corrupted)]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{len(sides[0])} clean texts, but {len(sides[1])} corrupted ones")
    if not align:
        _check_lengths(sides[0].lengths, sides[1].lengths)
    rows = [
        [side.ids[side.offsets[i] : side.offsets[i + 1]] for side in sides]
        for i in range(len(sides[0]))
    ]
    return Pairs(
        clean=sides[0],
        corrupted=sides[1],
        matches=tuple(_matches(*row) if align else _diagonal(len(row[0])) for row in rows),
        answers=answer_ids(model, answers),
        wrong_answers=answer_ids(model, wrong_answers),
    )


def paired_ids(pairs: Pairs) -> tuple[Int[Tensor, "pair pos"], Int[Tensor, "pair pos"]]:
    """Token ids of clean and corrupted texts, for methods that need all texts of one length.

    Raises:
        ValueError: If a text has another length.
    """
    lengths = {*pairs.clean.lengths.tolist(), *pairs.corrupted.lengths.tolist()}
    if len(lengths) > 1:
        raise ValueError(f"texts have {min(lengths)} to {max(lengths)} tokens: needed one length")
    clean, corrupted = (
        torch.from_numpy(side.ids).reshape(len(pairs), -1)
        for side in (pairs.clean, pairs.corrupted)
    )
    return clean, corrupted


def same_texts(model: HookedModel, texts: Records | Sequence[str]) -> Pairs:
    """Each text paired with itself: to compare two models on it (`source_model=`)."""
    return make_pairs(model, texts, texts)


def answer_ids(model: HookedModel, answers: Sequence[str]) -> Int[np.ndarray, " n_answers"]:
    """The token id of each answer.

    Raises:
        ValueError: If an answer is not exactly one token; the first such one is shown.
    """
    ids = [model.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    for index, (answer, found) in enumerate(zip(answers, ids, strict=True)):
        if len(found) != 1:
            parts = model.tokenizer.convert_ids_to_tokens(found)
            raise ValueError(
                f"answer {index} ({answer!r}) is {len(found)} tokens ({parts}): needed one; take "
                "other answers, or append them to the texts and use continuation_logprob"
            )
    return np.array([found[0] for found in ids], dtype=np.int64)


def _check_lengths(clean: Int[np.ndarray, " pair"], corrupted: Int[np.ndarray, " pair"]) -> None:
    wrong = np.flatnonzero(clean != corrupted)
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"texts of {len(wrong)} pairs differ in length; the first, pair {first}, has "
            f"{clean[first]} tokens and {corrupted[first]}: needed equal lengths; drop these "
            "pairs, or match their tokens with make_pairs(..., align=True)"
        )


def _diagonal(n: int) -> Int[np.ndarray, "match 2"]:
    return np.repeat(np.arange(n)[:, None], 2, axis=1)


def _matches(
    clean: Int[np.ndarray, " n_clean"], corrupted: Int[np.ndarray, " n_corrupted"]
) -> Int[np.ndarray, "match 2"]:
    """Positions of shared tokens, and of those in replaced passages of one length."""
    matcher = difflib.SequenceMatcher(a=clean.tolist(), b=corrupted.tolist(), autojunk=False)
    found = [
        _diagonal(stop - start) + np.array([start, other])
        for kind, start, stop, other, other_stop in matcher.get_opcodes()
        if kind in ("equal", "replace") and stop - start == other_stop - other
    ]
    return np.concatenate([np.zeros((0, 2), np.int64), *found])
