"""Where each token of a text stands on a page of monospaced lines."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from interp.viz import theme

COLUMNS = 90
"""Characters on a line."""
_BLOCK_GAP = 0.45
"""Lines between two blocks."""
_PART = re.compile(r"[^\n]*\n|[^\n]+")
"""Cuts a token after its newlines."""


@dataclass(frozen=True)
class Piece:
    """What one bar shows: a token, or the part of it that fits on a line."""

    token: int
    text: str
    width: int
    closes_line: bool
    line: float = 0.0
    column: int = 0


def flow(tokens: Sequence[str], starts: Sequence[int]) -> Iterator[Piece]:
    """Pieces of all tokens with the line and column where each stands."""
    line, column, begun = 0.0, 0, set[int]()
    for word in _words(tokens, starts):
        first = word[0].token
        if first in starts and first not in begun:
            begun.add(first)
            line += (column > 0) + (_BLOCK_GAP if first else 0)
            column = 0
        elif column and column + sum(piece.width for piece in word) > COLUMNS:
            line, column = line + 1, 0
        for piece in word:
            if column and column + piece.width > COLUMNS:
                line, column = line + 1, 0
            yield replace(piece, line=line, column=column)
            column += piece.width
            if piece.closes_line:
                line, column = line + 1, 0


def _words(tokens: Sequence[str], starts: Sequence[int]) -> Iterator[list[Piece]]:
    """Pieces that belong on one line if they fit: a space, a newline or a break ends a word."""
    word: list[Piece] = []
    for position, token in enumerate(tokens):
        if word and (position in starts or token[:1].isspace()):
            yield word
            word = []
        for part in _PART.findall(token) or ["∅"]:
            texts = list(_cut(theme.visible(part, space="\N{NO-BREAK SPACE}")))
            word += [Piece(position, text, _width(text), closes_line=False) for text in texts]
            if part.endswith("\n"):
                word[-1] = replace(word[-1], closes_line=True)
                yield word
                word = []
    if word:
        yield word


def _cut(text: str) -> Iterator[str]:
    """The text in parts that fit on a line."""
    part = ""
    for char in text:
        if _width(part + char) > COLUMNS:
            yield part
            part = ""
        part += char
    yield part


def _width(text: str) -> int:
    """Columns that the text takes in a monospaced font."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
