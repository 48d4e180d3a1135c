"""Items: questions with two answers, one of which shows a trait.

The format is that of the model-written evaluations (Perez et al. 2022, 2212.09251) and of CAA's
data sets: `question`, `answer_matching_behavior`, `answer_not_matching_behavior`, and `statement`
where the question asks about one.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.seeds import derive

_OPTION = re.compile(r"^\s*\(([A-Z])\)\s*(.*?)(?=^\s*\([A-Z]\)|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question with the answer that shows the trait and the one that does not."""

    question: str
    """The question, with its lettered options if it has any."""
    matching: str
    """The answer that shows the trait, without white space: "Yes", "No", "(A)", ..."""
    not_matching: str
    """The other answer."""
    statement: str | None = None
    """The statement that the question asks about."""

    def __post_init__(self) -> None:
        """Check that there are two different answers."""
        if not self.question.strip():
            raise ValueError("an item without a question")
        if self.matching == self.not_matching or not (self.matching and self.not_matching):
            raise ValueError(
                f"answers {self.matching!r} and {self.not_matching!r}: needed two different ones"
            )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Item":
        """An item from a row of a file.

        Raises:
            ValueError: If a field is missing; the message names it.
        """
        fields = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
        missing = [name for name in fields if not isinstance(row.get(name), str)]
        if missing:
            raise ValueError(f"an item lacks {missing}: it has {sorted(row)}")
        question, matching, other = (row[name] for name in fields)
        return cls(
            question=question.strip(),
            matching=matching.strip(),
            not_matching=other.strip(),
            statement=row.get("statement"),
        )

    @property
    def options(self) -> dict[str, str]:
        """The text of each lettered option of the question, by its letter."""
        return {letter: text.strip() for letter, text in _OPTION.findall(self.question)}

    @property
    def stem(self) -> str:
        """The question without its options."""
        found = _OPTION.search(self.question)
        stem = self.question if found is None else self.question[: found.start()]
        return stem.strip().removesuffix("Choices:").strip()

    @property
    def lettered(self) -> bool:
        """Whether the answers are letters of options."""
        return {self.matching, self.not_matching} <= {f"({x})" for x in self.options}

    def text_of(self, answer: str) -> str:
        """What an answer says: the option behind a letter, else the answer itself."""
        return self.options.get(answer.strip("()"), answer)


def load_items(path: str | Path) -> tuple[Item, ...]:
    """Items from a .jsonl or .json file.

    Raises:
        ValueError: If the file has another ending, holds no items, or a row is not one (its number
            is named).
    """
    path = Path(path)
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"{path.name!r}: needed a file that ends in .jsonl or .json")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON at line {error.lineno} ({error.msg})") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: needed a list of items, and at least one")
    items = []
    for number, row in enumerate(rows):
        try:
            items.append(Item.from_dict(row))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return tuple(items)


def unique(items: Iterable[Item]) -> tuple[Item, ...]:
    """The items without repeated questions: the first of each stays."""
    seen: dict[str, Item] = {}
    for item in items:
        seen.setdefault(" ".join(item.question.lower().split()), item)
    return tuple(seen.values())


def balanced(items: Sequence[Item], n: int, *, seed: int = 0) -> tuple[Item, ...]:
    """Items drawn so that each answer is the matching one equally often, in alternation.

    A vector from unbalanced items holds the answer token besides the trait.

    Args:
        items: Where to draw from.
        n: How many; even if there are two answers.
        seed: Which ones.

    Raises:
        ValueError: If there are too few items of an answer, or if items have more than two answers.
    """
    answers = sorted({item.matching for item in items} | {item.not_matching for item in items})
    if len(answers) != 2 or n % 2:
        raise ValueError(
            f"answers {answers} and n={n}: needed two answers and an even number of items"
        )
    random, columns = np.random.default_rng(derive(seed, "balanced")), []
    for answer in answers:
        found = [item for item in items if item.matching == answer]
        if len(found) < n // 2:
            raise ValueError(
                f"{len(found)} items are matched by {answer!r}, but {n // 2} are needed: "
                "ask for fewer items"
            )
        columns.append([found[k] for k in random.permutation(len(found))[: n // 2]])
    return tuple(item for both in zip(*columns, strict=True) for item in both)


def split_items(
    items: Sequence[Item], sizes: Sequence[int], *, seed: int = 0
) -> list[tuple[Item, ...]]:
    """Disjoint balanced sets of the given sizes, without repeated questions.

    Raises:
        ValueError: If the items do not suffice.
    """
    drawn = balanced(unique(items), sum(sizes), seed=seed)
    stops = np.cumsum(sizes)
    return [drawn[stop - size : stop] for stop, size in zip(stops.tolist(), sizes, strict=True)]
