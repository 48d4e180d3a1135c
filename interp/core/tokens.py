"""Tokens with their place: role, turn, and whether they are content or template."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

TEMPLATE_TURN = -1
"""The turn of tokens that belong to no message, such as a system prompt that a template adds."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which tokens of an example: those that meet every condition that is given."""

    role: str | None = None
    """Only turns of this role."""
    turn: int | None = None
    """Only this message, from 0; negative numbers count from the end."""
    text: str | None = None
    """Only the first occurrence of this substring."""
    template: bool = False
    """Also what the chat template puts around the messages."""
    first: bool = False
    """Also the first token of the text, whose activations are unlike all others."""


Selection = Literal["all", "content", "last"] | Span
"""All tokens; those of `Span()`: content without the first token; or the last of these."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokenized examples one behind the other, each token with its place."""

    ids: Int[np.ndarray, " token"]
    """Token ids."""
    lengths: Int[np.ndarray, " example"]
    """Number of tokens of each example."""
    positions: Int[np.ndarray, " token"]
    """Index of each token in its example, from 0."""
    turns: Int[np.ndarray, " token"]
    """Message to which each token belongs; `TEMPLATE_TURN` for none, 0 in a text. The header of a
    turn that is still to be written counts as the message behind the last one."""
    content: Bool[np.ndarray, " token"]
    """Whether a token holds letters of a text or of a message's content. A token that holds letters
    of the template too counts as content."""
    chars: Int[np.ndarray, "token 2"]
    """First letter of each token in `texts`, and the one behind it."""
    texts: tuple[str, ...]
    """Each example as it was tokenized, the chat template included."""
    roles: tuple[tuple[str, ...], ...]
    """Role of each message of each example; empty for a text."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.lengths)

    @property
    def offsets(self) -> Int[np.ndarray, " example_plus_1"]:
        """Where each example begins among the tokens, and where the last one ends."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def examples(self) -> Int[np.ndarray, " token"]:
        """The example to which each token belongs."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def whole(self) -> bool:
        """Whether every example has its tokens from the first on, with no gap."""
        starts = np.repeat(self.offsets[:-1], self.lengths)
        return bool((self.positions == np.arange(len(self.ids)) - starts).all())

    @property
    def token_roles(self) -> np.ndarray:
        """Role of the turn of each token, shape (token,); '' in a text.

        The header of a turn that is still to be written is the assistant's, and a system prompt
        that the template adds is the system's.
        """
        names = [(*roles, "assistant", "system") if roles else ("",) for roles in self.roles]
        return np.array([names[e][t] for e, t in zip(self.examples, self.turns, strict=True)])

    @property
    def strings(self) -> tuple[str, ...]:
        """The text of each token; its id in angle brackets where it has none."""
        return tuple(
            self.texts[example][start:stop] or f"<{token}>"
            for example, (start, stop), token in zip(
                self.examples, self.chars, self.ids, strict=True
            )
        )

    def take(self, keep: Bool[np.ndarray, " token"]) -> "Tokens":
        """The chosen tokens of every example."""
        lengths = np.bincount(self.examples[keep], minlength=len(self))
        return replace(self, lengths=lengths, **{n: getattr(self, n)[keep] for n in PER_TOKEN})

    def rows_of(self, examples: Sequence[int] | np.ndarray) -> Int[np.ndarray, " token"]:
        """Which tokens are those of the chosen examples, in the order given."""
        offsets = self.offsets.tolist()
        runs = [np.arange(offsets[i], offsets[i + 1]) for i in examples]
        return np.concatenate([np.zeros(0, np.int64), *runs])

    def rows(self, examples: Sequence[int] | np.ndarray) -> "Tokens":
        """The chosen examples, in the order given."""
        index = self.rows_of(examples)
        return replace(
            self,
            lengths=self.lengths[np.asarray(examples)],
            texts=tuple(self.texts[i] for i in examples),
            roles=tuple(self.roles[i] for i in examples),
            **{name: getattr(self, name)[index] for name in PER_TOKEN},
        )

    def mask(self, selection: Selection) -> Bool[np.ndarray, " token"]:
        """Which tokens a selection picks.

        Raises:
            ValueError: If it picks no token of some example (the first such example is named).
        """
        span = selection if isinstance(selection, Span) else Span()
        keep = np.ones(len(self.ids), bool) if selection == "all" else self._span_mask(span)
        if selection == "last":
            chosen = np.flatnonzero(keep)
            is_last = np.diff(self.examples[chosen], append=len(self)) > 0
            keep = np.isin(np.arange(len(keep)), chosen[is_last])
        found = np.bincount(self.examples[keep], minlength=len(self))
        if not found.all():
            empty = int(np.argmin(found))
            raise ValueError(
                f"positions={selection!r} picks no token of example {empty} "
                f"({self.texts[empty][:60]!r}); positions='all' takes every token, and "
                "Span(first=True) also the first one of a text"
            )
        return keep

    def _span_mask(self, span: Span) -> Bool[np.ndarray, " token"]:
        keep = np.ones(len(self.ids), bool) if span.template else self.content.copy()
        if span.turn is not None:
            counts = np.array([max(len(roles), 1) for roles in self.roles])[self.examples]
            keep &= self.turns == (span.turn if span.turn >= 0 else counts + span.turn)
        if span.role is not None:
            keep &= self.token_roles == span.role
        if span.text is not None:
            keep &= self._first_occurrence(span.text, keep)
        return keep if span.first else keep & (self.positions > 0)

    def _first_occurrence(
        self, text: str, allowed: Bool[np.ndarray, " token"]
    ) -> Bool[np.ndarray, " token"]:
        """Tokens of the first occurrence of a text that lies in allowed tokens of each example."""
        keep, offsets = np.zeros(len(self.ids), bool), self.offsets
        for example, whole in enumerate(self.texts):
            rows = slice(offsets[example], offsets[example + 1])
            for match in re.finditer(f"(?={re.escape(text)})", whole):
                start, stop = match.start(), match.start() + len(text)
                inside = (self.chars[rows, 1] > start) & (self.chars[rows, 0] < stop)
                if inside.any() and allowed[rows][inside].all():
                    keep[rows] = inside
                    break
        return keep

    def batch(
        self, examples: Sequence[int] | np.ndarray, *, side: Literal["left", "right"] = "right"
    ) -> dict[str, Int[Tensor, "batch pos"]]:
        """Padded model inputs: `input_ids`, `attention_mask` and `position_ids`.

        The mask comes from the lengths, never from the ids: padding may be a real token.
        """
        lengths = torch.as_tensor(self.lengths[np.asarray(examples)])
        width = int(lengths.max())
        columns = torch.arange(width)[None]
        shift = (width - lengths)[:, None] if side == "left" else 0
        mask = (columns >= shift) & (columns < shift + lengths[:, None])
        ids = torch.zeros(len(lengths), width, dtype=torch.long)
        ids[mask] = torch.from_numpy(self.ids[self.rows_of(examples)]).long()
        return {
            "input_ids": ids,
            "attention_mask": mask.long(),
            "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0),
        }

    def digest(self) -> str:
        """A hash of the token ids and of how they are cut into examples."""
        content = self.ids.astype(np.int64).tobytes() + self.lengths.astype(np.int64).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


PER_TOKEN = ("ids", "positions", "turns", "content", "chars")
"""Columns of a table with one row for each token."""


def join_tokens(tables: Sequence[Tokens]) -> Tokens:
    """The examples of several tables, one table behind the other."""
    names = ("lengths", *PER_TOKEN)
    return Tokens(
        texts=tuple(text for table in tables for text in table.texts),
        roles=tuple(roles for table in tables for roles in table.roles),
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in names},
    )


def token_tensors(tokens: Tokens) -> dict[str, Tensor]:
    """A table as tensors, for a file; texts and roles are the bytes of JSON."""
    names = ("lengths", *PER_TOKEN)
    strings = json.dumps({"texts": tokens.texts, "roles": tokens.roles}).encode()
    return {name: torch.from_numpy(getattr(tokens, name)) for name in names} | {
        "strings": torch.frombuffer(bytearray(strings), dtype=torch.uint8)
    }


def tokens_from_tensors(tensors: Mapping[str, Tensor]) -> Tokens:
    """The table that `token_tensors` turned into these tensors."""
    columns = {name: tensor.numpy() for name, tensor in tensors.items()}
    strings = json.loads(columns.pop("strings").tobytes())
    return Tokens(
        texts=tuple(strings["texts"]), roles=tuple(map(tuple, strings["roles"])), **columns
    )
