"""Tokens with their place: role, turn, and whether they are content or template.

A conversation is rendered twice, once with the messages and once with a placeholder for each of
them. The second rendering tells exactly what the template adds around each message, so that the
place of every message in the first is known and checked, whatever the template does: the two must
fit together letter by letter. Nothing is guessed by searching for a message's text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
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
    """Message to which each token belongs; `TEMPLATE_TURN` for none, 0 in a text."""
    content: Bool[np.ndarray, " token"]
    """Whether a token belongs to a text or to the content of a message."""
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
        return _replaced(self, lengths=lengths, **{n: getattr(self, n)[keep] for n in _PER_TOKEN})

    def rows(self, examples: Sequence[int] | np.ndarray) -> "Tokens":
        """The chosen examples, in the order given."""
        offsets = self.offsets
        index = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in examples])
        return _replaced(
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
            last = np.maximum.reduceat(np.where(keep, np.arange(len(keep)), -1), self.offsets[:-1])
            keep = np.isin(np.arange(len(keep)), last[last >= 0]) & keep
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
        if not span.first:
            keep &= self.positions > 0
        if span.turn is not None:
            counts = np.array([max(len(roles), 1) for roles in self.roles])[self.examples]
            keep &= self.turns == (span.turn if span.turn >= 0 else counts + span.turn)
        if span.role is not None:
            names = [(*roles, "system") for roles in self.roles]
            told = np.array([names[e][t] for e, t in zip(self.examples, self.turns, strict=True)])
            keep &= told == span.role
        if span.text is not None:
            starts = np.array([text.find(span.text) for text in self.texts])[self.examples]
            inside = (self.chars[:, 1] > starts) & (self.chars[:, 0] < starts + len(span.text))
            keep &= inside & (starts >= 0)
        return keep

    def batch(
        self, examples: Sequence[int] | np.ndarray, *, side: Literal["left", "right"] = "right"
    ) -> dict[str, Int[Tensor, "batch pos"]]:
        """Padded model inputs: `input_ids`, `attention_mask` and `position_ids`.

        The mask comes from the lengths, never from the ids: padding may be a real token.
        """
        lengths = torch.as_tensor(self.lengths[np.asarray(examples)])
        width, offsets = int(lengths.max()), self.offsets
        columns = torch.arange(width)[None]
        shift = (width - lengths)[:, None] if side == "left" else 0
        mask = (columns >= shift) & (columns < shift + lengths[:, None])
        ids = torch.zeros(len(lengths), width, dtype=torch.long)
        ids[mask] = torch.cat(
            [torch.from_numpy(self.ids[offsets[i] : offsets[i + 1]]) for i in examples]
        ).long()
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


def _replaced(tokens: Tokens, **changes: Any) -> Tokens:
    return Tokens(**{f.name: getattr(tokens, f.name) for f in fields(tokens)} | changes)


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
    parts = []
    for index, record in enumerate(records):
        try:
            parts.append(_tokenize_one(tokenizer, record, add_generation_prompt))
            if not allow_control_tokens:
                _refuse_control_tokens(tokenizer, record)
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
    starts, stops = bounds[turns.clip(0), 1], bounds[turns.clip(0), 2]
    inside = (chars[:, 1] > starts) & (chars[:, 0] < stops) & (turns >= 0)
    return {"turns": turns, "content": inside}


def render(
    tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool = False
) -> tuple[str, Int[np.ndarray, "turn 3"]]:
    """A conversation as the model sees it, and where its messages are.

    Returns:
        The text, and for each message where its turn begins, and where its content begins and
        ends, in letters.

    Raises:
        ValueError: If there is no chat template, or if it changes more of a message than the
            white space around it.
    """
    if tokenizer.chat_template is None:
        raise ValueError("this tokenizer has no chat template: use texts, or set one")

    def apply(turns: Sequence[Message]) -> str:
        return tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )

    marks = [f"\ue000{turn}\ue001" for turn in range(len(messages))]
    frame = apply([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
    text, pieces = apply(messages), []
    for mark in marks:
        before, found, frame = frame.partition(mark)
        if not found:
            raise ValueError("the chat template leaves out messages: their tokens have no place")
        pieces.append(before)
    bounds, at = [], 0
    for turn, (piece, message) in enumerate(zip(pieces, messages, strict=True)):
        start = at + len(piece)
        content = message["content"]
        if not text.startswith(content, start):
            content = content.strip()
        following = pieces[turn + 1] if turn + 1 < len(pieces) else frame
        if text[at:start] != piece or not text.startswith(content + following, start):
            raise ValueError(
                f"the chat template rewrites message {turn} ({message['content'][:40]!r}): "
                "its tokens have no place; render it yourself and pass it as text"
            )
        at = start + len(content)
        bounds.append([at - len(content), start, at])
    return text, _with_turn_starts(text, np.array(bounds), frame)


def _with_turn_starts(
    text: str, bounds: Int[np.ndarray, "turn 3"], ending: str
) -> Int[np.ndarray, "turn 3"]:
    """Bounds whose first column says where the header of each turn begins.

    A turn ends with the letters that close the last one (its first control token and the white
    space after it); what follows them up to the next content is that turn's header. The same
    marker tells a system prompt that the template put in front of the first message.
    """
    stripped = ending.lstrip()
    marker = ending[: len(ending) - len(stripped)] + stripped.split(">")[0] + ">" if stripped else ""
    starts = bounds.copy()
    for turn, (_, start, _) in enumerate(bounds):
        previous = bounds[turn - 1, 2] if turn else 0
        close = text.rfind(marker, previous, start) if marker else -1
        after = previous if close < 0 else close + len(marker)
        while close >= 0 and after < start and text[after].isspace():
            after += 1
        starts[turn, 0] = after
    return starts


def _refuse_control_tokens(tokenizer: Any, record: Record) -> None:
    specials = [token for token in tokenizer.all_special_tokens if token.strip()]
    for turn, message in enumerate(record.messages or ()):
        for token in specials:
            if token in message["content"]:
                raise ValueError(
                    f"message {turn} contains the control token {token!r}, which would act as a "
                    "real one; remove it, or pass allow_control_tokens=True"
                )
