"""Tokens with their place: role, turn, and whether they are content or template.

A conversation is rendered twice, once with the messages and once with a placeholder for each of
them. The second rendering tells exactly what the template adds around each message, so that the
place of every message in the first is known and checked, whatever the template does: the two must
fit together letter by letter. Nothing is guessed by searching for a message's text.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from jinja2 import TemplateError
from torch import Tensor

from interp.core.records import Message, Record, Records

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
        return replace(self, lengths=lengths, **{n: getattr(self, n)[keep] for n in _PER_TOKEN})

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
            **{name: getattr(self, name)[index] for name in _PER_TOKEN},
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


_PER_TOKEN = ("ids", "positions", "turns", "content", "chars")


def join_tokens(tables: Sequence[Tokens]) -> Tokens:
    """The examples of several tables, one table behind the other."""
    names = ("lengths", *_PER_TOKEN)
    return Tokens(
        texts=tuple(text for table in tables for text in table.texts),
        roles=tuple(roles for table in tables for roles in table.roles),
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in names},
    )


def token_tensors(tokens: Tokens) -> dict[str, Tensor]:
    """A table as tensors, for a file; texts and roles are the bytes of JSON."""
    names = ("lengths", *_PER_TOKEN)
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


def tokenize(
    tokenizer: Any,
    records: Records | Sequence[str],
    *,
    add_generation_prompt: bool = False,
    allow_control_tokens: bool = False,
) -> Tokens:
    """Tokenize texts as they are and conversations through the chat template.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        records: Records or plain texts.
        add_generation_prompt: End conversations with the header of the assistant's next turn.
        allow_control_tokens: Accept messages whose text contains control tokens such as
            `<|im_end|>`, which then act as the real ones.

    Raises:
        ValueError: If a message contains a control token, or if the tokenizer has no chat template
            and a record is a conversation, or if the template rewrites messages.
        TypeError: If the tokenizer is not a fast one, which alone knows the letters of a token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(f"{type(tokenizer).__name__} is not a fast tokenizer: token spans need one")
    if not isinstance(records, Records):
        records = Records.from_texts(list(records))
    control = {} if allow_control_tokens else _control_tokens(tokenizer)
    parts = []
    for index, record in enumerate(records):
        try:
            part = _tokenize_one(tokenizer, record, add_generation_prompt)
            if record.messages is not None:
                _refuse_control_tokens(part[2], control)
            parts.append(part)
        except ValueError as error:
            raise ValueError(f"record {index}: {error}") from error
    texts, roles, columns = zip(*parts, strict=True)
    joined = {name: np.concatenate([column[name] for column in columns]) for name in _PER_TOKEN}
    lengths = np.array([len(column["ids"]) for column in columns])
    return Tokens(texts=texts, roles=roles, lengths=lengths, **joined)


def _tokenize_one(
    tokenizer: Any, record: Record, add_generation_prompt: bool
) -> tuple[str, tuple[str, ...], dict[str, np.ndarray]]:
    """Text, roles, and the columns of one record's tokens."""
    if record.messages is None:
        text, bounds = record.text or "", None
        encoded = tokenizer(text, return_offsets_mapping=True)
        ids, chars = encoded["input_ids"], encoded["offset_mapping"]
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:  # the text brought its own
            ids, chars = ids[1:], chars[1:]
    else:
        text, bounds = render(tokenizer, record.messages, add_generation_prompt)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, chars = encoded["input_ids"], encoded["offset_mapping"]
    if not ids:
        raise ValueError(f"the tokenizer makes no token of {text!r}: drop this record")
    spans = np.array(chars, dtype=np.int64).reshape(-1, 2)
    columns = {"ids": np.array(ids, dtype=np.int64), "positions": np.arange(len(ids))}
    columns |= {"chars": spans, **_place(spans, bounds)}
    return text, tuple(m["role"] for m in record.messages or ()), columns


def _place(
    chars: Int[np.ndarray, "token 2"], bounds: Int[np.ndarray, "turn 3"] | None
) -> dict[str, np.ndarray]:
    """Turn of each token, and whether it is content."""
    if bounds is None:
        return {"turns": np.zeros(len(chars), np.int64), "content": chars[:, 1] > chars[:, 0]}
    turns = np.searchsorted(bounds[:, 0], chars[:, 0], side="right") - 1
    _, starts, stops = bounds[turns.clip(0)].T
    shared = np.minimum(chars[:, 1], stops) - np.maximum(chars[:, 0], starts)
    return {"turns": turns, "content": (shared > 0) & (turns >= 0)}


def render(
    tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool = False
) -> tuple[str, Int[np.ndarray, "turn 3"]]:
    """A conversation as the model sees it, and where its messages are.

    Returns:
        The text, and for each message where its turn begins, and where its content begins and
        ends, in letters. With a generation prompt there is one more turn, which has no content.

    Raises:
        ValueError: If there is no chat template, if it refuses the messages, or if it changes more
            of a message than the white space around it.
    """
    if tokenizer.chat_template is None:
        raise ValueError("this tokenizer has no chat template: use texts, or set one")

    def apply(turns: Sequence[Message]) -> str:
        try:
            return tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error

    marks = [f"\ue000{turn}\ue001" for turn in range(len(messages))]
    frame = apply([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
    pieces = _pieces(frame, marks)
    text, at, bounds = apply(messages), 0, []
    for turn, message in enumerate(messages):
        start = at + len(pieces[turn])
        content = _as_rendered(message["content"], text, start, pieces[turn + 1])
        if content is None or text[at:start] != pieces[turn]:
            raise ValueError(
                f"the chat template rewrites message {turn} ({message['content'][:40]!r}): "
                "its tokens have no place; render it yourself and pass it as text"
            )
        at = start + len(content)
        bounds.append([start, at])
    starts = _turn_starts(text, bounds, pieces[-1])
    if add_generation_prompt:
        bounds.append([len(text), len(text)])
    else:
        starts = starts[:-1]
    return text, np.column_stack([starts, bounds])


def _pieces(frame: str, marks: Sequence[str]) -> list[str]:
    """What a template puts before each message, and behind the last one."""
    pieces = []
    for turn, mark in enumerate(marks):
        before, found, frame = frame.partition(mark)
        if not found:
            raise ValueError(
                f"the chat template leaves message {turn} out or puts it elsewhere: its tokens "
                "have no place; render it yourself and pass it as text"
            )
        pieces.append(before)
    return [*pieces, frame]


def _as_rendered(content: str, text: str, start: int, following: str) -> str | None:
    """The content as the template wrote it at a place, with or without white space around it."""
    forms = (content, content.strip(), content.lstrip(), content.rstrip())
    return next((form for form in forms if text.startswith(form + following, start)), None)


def _turn_starts(text: str, bounds: Sequence[Sequence[int]], ending: str) -> list[int]:
    """Where the header of each turn begins, and behind them where the last turn is over.

    A turn ends with the letters that close the last one (its first control token and the white
    space after it); what follows them up to the next content is that turn's header. The same
    marker tells a system prompt that the template put in front of the first message.
    """
    stripped = ending.lstrip()
    marker = ending[: len(ending) - len(stripped)] + stripped.partition(">")[0] + ">"
    ends = [0, *(stop for _, stop in bounds)]
    begins = [*(start for start, _ in bounds), len(text)]
    starts = []
    for previous, begin in zip(ends, begins, strict=True):
        close, after = text.rfind(marker, previous, begin) if stripped else -1, previous
        if close >= 0:
            header = text[close + len(marker) : begin]
            after = begin - len(header.lstrip())
        starts.append(after)
    return starts


def _control_tokens(tokenizer: Any) -> dict[int, str]:
    """Tokens that steer the model and are never text, by id."""
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    return {i: token for i, token in special.items() if i != tokenizer.unk_token_id}


def _refuse_control_tokens(columns: Mapping[str, np.ndarray], control: Mapping[int, str]) -> None:
    found = np.flatnonzero(columns["content"] & np.isin(columns["ids"], list(control)))
    if len(found):
        turn, token = columns["turns"][found[0]], control[int(columns["ids"][found[0]])]
        raise ValueError(
            f"message {turn} contains the control token {token!r}, which would act as a "
            "real one; remove it, or pass allow_control_tokens=True"
        )
