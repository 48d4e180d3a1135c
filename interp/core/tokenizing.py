"""From records to tokens, each with its place.

A conversation is rendered twice, once with the messages and once with a placeholder for each of
them. The second rendering tells exactly what the template adds around each message, so that the
place of every message in the first is known and checked, whatever the template does: the two must
fit together letter by letter. Nothing is guessed by searching for a message's text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from jinja2 import TemplateError

from interp.core.records import Message, Record, Records
from interp.core.tokens import PER_TOKEN, Tokens


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
    joined = {name: np.concatenate([column[name] for column in columns]) for name in PER_TOKEN}
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
