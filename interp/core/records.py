"""Records: examples as text or chat messages, with labels, groups and metadata."""

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from datasets import Dataset

Message = Mapping[str, str]
Label = int | float | str | None
_FIELDS = ("text", "messages", "label", "group")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One example: either a text or a conversation."""

    text: str | None = None
    """The text, `None` for a conversation."""
    messages: tuple[Message, ...] | None = None
    """Turns with "role" and "content", `None` for a text; content may be empty."""
    label: Label = None
    """Class, score, or nothing."""
    group: str | None = None
    """Examples of one group (a pair, a user, a dialogue) must stay on one side of a split."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else."""

    def __post_init__(self) -> None:
        """Check that there is one of text and messages, and something in it."""
        if (self.text is None) == (self.messages is None):
            raise ValueError("a record needs either text or messages, and not both")
        if self.text is not None and not self.text.strip():
            raise ValueError(f"text is empty ({self.text!r}): drop this record")
        if self.messages is None:
            return
        if not self.messages:
            raise ValueError("messages is empty: drop this record")
        for turn, message in enumerate(self.messages):
            if not all(isinstance(message.get(name), str) for name in ("role", "content")):
                raise ValueError(
                    f"message {turn} is {dict(message)!r}: needed strings 'role' and 'content'"
                )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Record":
        """A record from a row: fields that are not its own become metadata."""
        present = {key: value for key, value in row.items() if not _missing(value)}
        text, messages = present.get("text"), present.get("messages")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"text is {text!r}: needed a string")
        if isinstance(messages, str):
            messages = json.loads(messages)
        group = present.get("group")
        return cls(
            text=text,
            messages=None if messages is None else tuple(map(_message, messages)),
            label=_plain(present.get("label")),
            group=None if group is None else str(_plain(group)),
            meta={key: _plain(value) for key, value in present.items() if key not in _FIELDS},
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as a row, without the fields that are not set."""
        row = {"text": self.text, "messages": self.messages, "label": self.label}
        row |= {"group": self.group, **self.meta}
        if self.messages is not None:
            row["messages"] = [dict(message) for message in self.messages]
        return {key: value for key, value in row.items() if value is not None}

    @property
    def content(self) -> str:
        """All that was said, for duplicates and for baselines on words."""
        return self.text or "\n".join(m["content"] for m in self.messages or ())


class Records(Sequence[Record]):
    """An ordered set of examples.

    Examples:
        >>> records = Records.from_texts(["a fire", "a game"], labels=[1, 0])
        >>> records.labels.tolist(), len(records)
        ([1, 0], 2)
    """

    def __init__(self, records: Iterable[Record | Mapping[str, Any]]) -> None:
        """Keep the records; rows (mappings) are converted.

        Raises:
            ValueError: If there is none, or if one is not a valid record (its index is named).
        """
        self._records: list[Record] = []
        for index, row in enumerate(records):
            try:
                self._records.append(row if isinstance(row, Record) else Record.from_dict(row))
            except (ValueError, TypeError) as error:
                raise ValueError(f"record {index}: {error}") from error
        if not self._records:
            raise ValueError("no records: needed at least one text or conversation")

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        *,
        labels: Sequence[Label] | np.ndarray | None = None,
        groups: Sequence[str] | np.ndarray | None = None,
    ) -> "Records":
        """Records from parallel lists."""
        n = len(texts)
        nothing = [None] * n
        columns = {
            "label": nothing if labels is None else labels,
            "group": nothing if groups is None else groups,
        }
        for name, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{name}s has {len(column)} entries, but there are {n} texts")
        return cls(
            {"text": text, "label": label, "group": group}
            for text, label, group in zip(texts, columns["label"], columns["group"], strict=True)
        )

    @classmethod
    def load(cls, path: str | Path) -> "Records":
        """Records from a .jsonl, .json, .csv or .parquet file.

        Raises:
            ValueError: If the ending is another, or a line is broken (its number is named).
        """
        path = Path(path)
        readers: dict[str, Callable[[Path], Iterable[Record | Mapping[str, Any]]]] = {
            ".jsonl": _read_jsonl,
            ".json": _read_json,
            ".csv": _read_csv,
            ".parquet": lambda p: _rows(pd.read_parquet(p)),
        }
        if path.suffix not in readers:
            raise ValueError(f"{path.name!r}: needed a file that ends in {', '.join(readers)}")
        try:
            return cls(readers[path.suffix](path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "Records":
        """Records from a frame with a column text or messages, and maybe label and group."""
        return cls(_rows(frame))

    @classmethod
    def from_dataset(cls, dataset: "Dataset") -> "Records":
        """Records from a Hugging Face dataset with a column text or messages."""
        return cls(dict(row) for row in dataset)

    def save(self, path: str | Path) -> None:
        """Write a .jsonl, .csv or .parquet file that `load` reads back."""
        path = Path(path)
        if path.suffix == ".jsonl":
            lines = (json.dumps(r.to_dict(), ensure_ascii=False) + "\n" for r in self)
            path.write_text("".join(lines), encoding="utf-8")
        elif path.suffix == ".csv":
            self.to_frame().to_csv(path, index=False)
        elif path.suffix == ".parquet":
            self.to_frame().to_parquet(path, index=False)
        else:
            raise ValueError(f"{path.name!r}: needed a file that ends in .jsonl, .csv or .parquet")

    def to_frame(self) -> pd.DataFrame:
        """One row for each record; messages are JSON."""
        rows = [record.to_dict() for record in self]
        for row in rows:
            if "messages" in row:
                row["messages"] = json.dumps(row["messages"], ensure_ascii=False)
        return pd.DataFrame(rows)

    def to_dataset(self) -> "Dataset":
        """A Hugging Face dataset with one row for each record."""
        import datasets

        return datasets.Dataset.from_pandas(self.to_frame(), preserve_index=False)

    def as_chat(self, *, role: str = "user", system: str | None = None) -> "Records":
        """The records with every text as the only message of a conversation.

        Args:
            role: Who says the text.
            system: A system message to put in front, also of conversations that have none.
        """
        start = () if system is None else ({"role": "system", "content": system},)

        def convert(record: Record) -> Record:
            messages = record.messages or ({"role": role, "content": record.text or ""},)
            head = () if messages[0]["role"] == "system" else start
            return replace(record, text=None, messages=(*head, *messages))

        return Records(map(convert, self))

    @property
    def labels(self) -> np.ndarray:
        """Labels, shape (example,); `None` entries where there is none."""
        return np.array([record.label for record in self])

    @property
    def groups(self) -> np.ndarray:
        """Groups, shape (example,); records without one are grouped if they say the same.

        The name of such a group is a hash, so it is the same in every part of the records.
        """
        return np.array([r.group if r.group is not None else _own_group(r) for r in self])

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "Records": ...
    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "Record | Records":
        """One record, or the records at a slice, a list of indices or a boolean mask."""
        if isinstance(index, (int, np.integer)):
            return self._records[index]
        chosen = np.arange(len(self))[index]
        return Records([self._records[i] for i in chosen])

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """The records in order."""
        return iter(self._records)

    def __add__(self, other: "Records") -> "Records":
        """The records of both."""
        return Records([*self, *other])


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)  # bytes: a byte order mark and bad UTF-8 are found here
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON ({error})") from error
            yield _record(row, f"line {number}")


def _read_json(path: Path) -> Iterator[Record]:
    rows = json.loads(path.read_bytes())
    if not isinstance(rows, list):
        raise ValueError(f"a {type(rows).__name__}: needed a list of objects")
    for index, row in enumerate(rows):
        yield _record(row, f"record {index}")


def _record(row: Any, place: str) -> Record:
    """A record from a row of a file; errors name the place."""
    if not isinstance(row, dict):
        raise ValueError(f"{place} is {row!r}: needed an object with text or messages")
    try:
        return Record.from_dict(row)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error


def _read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a table; only an empty cell is missing, since "None" and "NA" may be texts."""
    as_text: dict[Hashable, type[str]] = dict.fromkeys(("text", "messages", "group"), str)
    return _rows(pd.read_csv(path, dtype=as_text, keep_default_na=False, na_values=[""]))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _message(message: Any) -> Message:
    """A plain copy of a message, without the fields that a table filled in with nothing."""
    if not isinstance(message, Mapping):
        raise ValueError(f"a message is {message!r}: needed strings 'role' and 'content'")
    return {key: value for key, value in message.items() if value is not None}


def normal_form(text: str) -> str:
    """A text without its case and its runs of white space, by which duplicates are told."""
    return " ".join(text.casefold().split())


def _own_group(record: Record) -> str:
    return "#" + hashlib.sha256(normal_form(record.content).encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
