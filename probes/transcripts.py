"""Reading a dialogue as a third party: one text, and where in it every turn and sentence stands.

The dialogue is written out as a transcript inside a single user message. The model is neither of
the speakers then, the roles of its chat template do not interfere, and since attention is causal
one pass gives its state after every piece of the dialogue, the same as if the rest were unwritten.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int

from interp import Activations, HookedModel, Record, Records, Tokens, extract

PERSUADER, PERSUADEE = "persuader", "persuadee"
ROLES = {"assistant": PERSUADER, "user": PERSUADEE}
"""Who speaks in conversations whose roles are those of a chat template."""
INSTRUCTION = "Read this conversation between a persuader and a persuadee.\n\n"
"""What stands before a transcript."""
_PUNCTUATION = ".,;:!?\"'()"
At = Literal["last", "mean"]
"""The last content token of a piece, or the mean of its tokens."""


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A dialogue cut into pieces: sentences, or whole turns."""

    name: str
    """Which dialogue; the group of its pieces."""
    pieces: tuple[str, ...]
    """What was said, in order."""
    turns: tuple[int, ...]
    """The turn to which each piece belongs, from 0."""
    roles: tuple[str, ...]
    """Who said each piece."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else, such as the outcome."""

    def __post_init__(self) -> None:
        """Check that the columns fit and no piece is empty."""
        if not len(self.pieces) == len(self.turns) == len(self.roles) > 0:
            raise ValueError(
                f"dialogue {self.name!r} has {len(self.pieces)} pieces, {len(self.turns)} turns "
                f"and {len(self.roles)} roles: needed one of each, and at least one piece"
            )
        empty = [k for k, piece in enumerate(self.pieces) if not piece.strip()]
        if empty:
            raise ValueError(f"piece {empty[0]} of dialogue {self.name!r} is empty: drop it")

    @classmethod
    def from_record(cls, record: Record, *, roles: Mapping[str, str] = ROLES) -> "Dialogue":
        """The dialogue of a conversation, one piece for each message.

        Args:
            record: A conversation without a system message.
            roles: Who speaks, by role of the messages.

        Raises:
            ValueError: If the record is a text, or has another role.
        """
        messages = record.messages or ()
        unknown = {message["role"] for message in messages} - set(roles)
        if unknown or not messages:
            raise ValueError(f"roles {sorted(unknown)}: needed messages of {sorted(roles)}")
        return cls(
            name=str(record.group or record.meta.get("id", "")),
            pieces=tuple(message["content"].strip() for message in messages),
            turns=tuple(range(len(messages))),
            roles=tuple(roles[message["role"]] for message in messages),
            meta={"label": record.label, **record.meta},
        )

    @property
    def turn_ends(self) -> Int[np.ndarray, " turn"]:
        """Index of the last piece of each turn."""
        return np.flatnonzero(np.diff(self.turns, append=self.turns[-1] + 1))

    def pick(self, pieces: Sequence[int] | np.ndarray) -> "Dialogue":
        """The dialogue with these pieces only, in the order given."""
        columns = {
            name: tuple(getattr(self, name)[k] for k in pieces)
            for name in ("pieces", "turns", "roles")
        }
        return Dialogue(name=self.name, meta=self.meta, **columns)

    def without(self, words: Collection[str], *, role: str | None = None) -> "Dialogue":
        """The dialogue with some words left out; a piece of nothing else becomes an ellipsis.

        Args:
            words: Words in lower case, compared without the punctuation around them.
            role: Only in the pieces of this role; `None` for all.

        Examples:
            >>> no = Dialogue(name="a", pieces=("No, not me.",), turns=(0,), roles=("x",))
            >>> no.without({"no", "not"}).pieces
            ('me.',)
        """
        return self.replacing(dict.fromkeys(words, ""), role=role)

    def replacing(self, words: Mapping[str, str], *, role: str | None = None) -> "Dialogue":
        """The dialogue with some words replaced; a piece of which nothing is left is an ellipsis.

        Args:
            words: Other words by the word in lower case, compared without the punctuation around
                it, which is replaced too.
            role: Only in the pieces of this role; `None` for all.
        """

        def changed(piece: str) -> str:
            new = (words.get(bare(w), w) for w in piece.split())
            return " ".join(word for word in new if word) or "..."

        pieces = tuple(
            changed(piece) if role in (None, speaker) else piece
            for piece, speaker in zip(self.pieces, self.roles, strict=True)
        )
        return replace(self, pieces=pieces)

    def alone(self, piece: int) -> "Dialogue":
        """One piece as a dialogue of its own, without its context."""
        return replace(self.pick([piece]), turns=(0,))

    def turn_texts(self) -> tuple[str, ...]:
        """What was said in each turn."""
        return tuple(
            " ".join(self.pieces[k] for k, turn in enumerate(self.turns) if turn == wanted)
            for wanted in dict.fromkeys(self.turns)
        )


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A dialogue as one text."""

    text: str
    """The instruction and the turns, one on a line, each behind the name of its speaker."""
    bounds: Int[np.ndarray, "piece 2"]
    """First letter of each piece in the text, and the one behind it."""


def bare(word: str) -> str:
    """A word in lower case, without the punctuation around it."""
    return word.strip(_PUNCTUATION).lower()


def transcribe(dialogue: Dialogue, *, instruction: str = INSTRUCTION) -> Transcript:
    """Write a dialogue out.

    Examples:
        >>> hello = Dialogue(name="a", pieces=("Hi.", "Yes?"), turns=(0, 1), roles=("x", "y"))
        >>> transcribe(hello, instruction="").text.splitlines()
        ['X: Hi.', 'Y: Yes?']
    """
    text, bounds = instruction, []
    for k, (piece, turn, role) in enumerate(
        zip(dialogue.pieces, dialogue.turns, dialogue.roles, strict=True)
    ):
        if k > 0 and turn == dialogue.turns[k - 1]:
            text += " "
        else:
            text += f"{chr(10) if k else ''}{role.capitalize()}: "
        bounds.append((len(text), len(text) + len(piece)))
        text += piece
    return Transcript(text=text, bounds=np.array(bounds))


def read_pieces(
    model: HookedModel,
    dialogues: Sequence[Dialogue],
    *,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    dtype: torch.dtype = torch.float32,
    instruction: str = INSTRUCTION,
) -> dict[str, Activations]:
    """Activations at every piece of every dialogue, in one causal pass for each dialogue.

    Args:
        model: A language model with a chat template.
        dialogues: What to read; keep the list short, as every token is held until it is pooled.
        layers: Layers, `None` for all.
        site: The site.
        dtype: Type of the result.
        instruction: What stands before the transcripts.

    Returns:
        Activations with a row for each piece, grouped by dialogue: at its last content token, and
        the mean over its tokens.

    Raises:
        ValueError: If a transcript is longer than the context.
    """
    transcripts = [transcribe(dialogue, instruction=instruction) for dialogue in dialogues]
    tokens = model.tokenize(Records.from_texts([t.text for t in transcripts]).as_chat())
    options = {"layers": layers, "sites": site, "positions": "content", "dtype": dtype}
    found = extract(model, tokens, **options)
    rows = piece_rows(found.tokens, transcripts)
    values = found.values
    pooled = {
        "last": torch.stack([values[stop - 1] for _, stop in rows]),
        "mean": torch.stack([values[start:stop].float().mean(0).to(dtype) for start, stop in rows]),
    }
    groups = np.repeat([d.name for d in dialogues], [len(d.pieces) for d in dialogues])
    return {
        at: Activations(
            tensors={site: tensor},
            layers=found.layers,
            groups=groups,
            pooling=f"{at} of piece",
            origin=found.origin,
        )
        for at, tensor in pooled.items()
    }


def piece_rows(
    tokens: Tokens | None, transcripts: Sequence[Transcript]
) -> Int[np.ndarray, "piece 2"]:
    """First row of each piece's tokens in a table, and the one behind it.

    Args:
        tokens: The transcripts as the only messages of conversations, without left-out content.
        transcripts: The transcripts, in the same order.
    """
    assert tokens is not None, "activations of pieces come from tokens"
    rows = []
    for example, transcript in enumerate(transcripts):
        first, behind = tokens.offsets[example : example + 2]
        starts, stops = tokens.chars[first:behind].T
        bounds = transcript.bounds + tokens.texts[example].index(transcript.text)
        low = np.searchsorted(stops, bounds[:, 0], side="right")
        high = np.searchsorted(starts, bounds[:, 1], side="left")
        rows.append(first + np.stack([low, high], axis=1))
    return np.concatenate(rows)
