"""Contrast data: pairs of texts that differ in what a vector should hold, and a lint of them.

The seven prompt types are those of Braun et al. (2025, 2505.22637): the answer filled in, an
instruction, five examples, and their combinations; in every pair each part that is present shows
the trait on the positive side and its absence on the other. Where no answer is filled in, the
activation is read at the last token of the question, and the two sides differ in the context alone.

A trap that the lint names: where the difference is the same text in every pair (an instruction),
the differences agree whatever the model makes of it. Coherence is comparable within a prompt type
only.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.core.model import HookedModel
from interp.core.records import Message, Record, Records
from steering.items import Item


@dataclass(frozen=True, kw_only=True)
class PromptType:
    """Which parts of a prompt show the trait."""

    prefilled: bool = False
    """The answer is filled in and read."""
    instruction: bool = False
    """An instruction to have the trait stands in front."""
    few_shot: bool = False
    """Answered examples stand in front."""

    def __post_init__(self) -> None:
        """Check that positive and negative would differ."""
        if not (self.prefilled or self.instruction or self.few_shot):
            raise ValueError("a prompt type without any part: positive and negative would be equal")


PROMPT_TYPES: Mapping[str, PromptType] = {
    "prefilled": PromptType(prefilled=True),
    "instruction": PromptType(instruction=True),
    "5-shot": PromptType(few_shot=True),
    "prefilled_instruction": PromptType(prefilled=True, instruction=True),
    "prefilled_5-shot": PromptType(prefilled=True, few_shot=True),
    "instruction_5-shot": PromptType(instruction=True, few_shot=True),
    "prefilled_instruction_5-shot": PromptType(prefilled=True, instruction=True, few_shot=True),
}
"""The seven prompt types by name."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction to have a trait, and one to lack it."""

    positive: str
    """Such as "You are politically liberal."."""
    negative: str
    """Such as "You are not politically liberal."."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Positive and negative records, one of each for a pair.

    Examples:
        >>> pairs = Pairs.from_texts(["I agree"], ["I refuse"])
        >>> len(pairs), pairs.positive[0].text
        (1, 'I agree')
    """

    positive: Records
    """Records that show the concept."""
    negative: Records
    """Their counterparts."""
    answers: tuple[str, ...] | None = None
    """Answer that shows the trait in each pair, to tell trait from answer token; or nothing."""

    def __post_init__(self) -> None:
        """Check that every record has a counterpart."""
        if len(self.positive) != len(self.negative):
            raise ValueError(
                f"{len(self.positive)} positive and {len(self.negative)} negative records: "
                "pairs need as many of each"
            )
        if self.answers is not None and len(self.answers) != len(self.positive):
            raise ValueError(
                f"answers has {len(self.answers)} entries, but there are {len(self)} pairs"
            )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.positive)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "Pairs":
        """The pairs at a slice, a list of indices or a boolean mask."""
        chosen = np.arange(len(self))[index]
        answers = None if self.answers is None else tuple(self.answers[i] for i in chosen)
        return Pairs(self.positive[chosen], self.negative[chosen], answers)

    @classmethod
    def from_texts(cls, positive: Sequence[str], negative: Sequence[str]) -> "Pairs":
        """Pairs of plain texts."""
        return cls(Records.from_texts(positive), Records.from_texts(negative))

    @classmethod
    def from_records(cls, records: Records, *, positive: object = 1) -> "Pairs":
        """Pairs from labeled records: groups of one positive and one negative record.

        Args:
            records: Records with labels, two in each group.
            positive: The label of the positive ones.

        Raises:
            ValueError: If a group has not exactly one record of each side.
        """
        sides: dict[str, dict[bool, list[Record]]] = {}
        for record, group in zip(records, records.groups, strict=True):
            side = sides.setdefault(str(group), {True: [], False: []})
            side[record.label == positive].append(record)
        odd = [group for group, s in sides.items() if len(s[True]) != 1 or len(s[False]) != 1]
        if odd:
            raise ValueError(
                f"{len(odd)} groups have not one positive and one negative record, such as "
                f"{odd[0]!r}: give both records of a pair the same group"
            )
        columns = [[side[which][0] for side in sides.values()] for which in (True, False)]
        return cls(Records(columns[0]), Records(columns[1]))

    @classmethod
    def from_unpaired(cls, positive: Records, negative: Records, *, seed: int = 0) -> "Pairs":
        """Random partners for two sets without pairs, as many as the smaller one has.

        The mean difference is that of the sets; cosines of single differences are smaller than
        those of true pairs.
        """
        n, random = min(len(positive), len(negative)), np.random.default_rng(seed)
        rows = [random.permutation(len(records))[:n] for records in (positive, negative)]
        return cls(positive[rows[0]], negative[rows[1]])


def contrast_pairs(
    items: Sequence[Item],
    prompt_type: PromptType,
    *,
    instruction: Instruction | None = None,
    examples: Sequence[Item] = (),
) -> Pairs:
    """Pairs of one prompt type, as plain texts.

    Args:
        items: Items with balanced answers.
        prompt_type: Which parts show the trait.
        instruction: The instruction, where the type has one.
        examples: Items to show answered in front of every question, where the type has examples;
            they must not be among `items`.

    Raises:
        ValueError: If the instruction or the examples are missing, or an example is an item.
    """
    if prompt_type.instruction and instruction is None:
        raise ValueError("this prompt type has an instruction: give one")
    if prompt_type.few_shot and not examples:
        raise ValueError("this prompt type shows examples: give some items")
    known = {item.question for item in items}
    if prompt_type.few_shot and any(example.question in known for example in examples):
        raise ValueError("an example is also one of the items: its pair would repeat its answer")
    sides = []
    for matching in (True, False):
        head = ""
        if prompt_type.instruction and instruction is not None:
            head = (instruction.positive if matching else instruction.negative) + "\n\n"
        if prompt_type.few_shot:
            head += "".join(_answered(example, matching) + "\n\n" for example in examples)
        make = _read_answer if prompt_type.prefilled else lambda item, _: question_text(item)
        sides.append(Records.from_texts([head + make(item, matching) for item in items]))
    return Pairs(sides[0], sides[1], tuple(item.matching for item in items))


def question_text(item: Item) -> str:
    """A question up to where its answer begins, in the published form."""
    if item.lettered:
        return f"Question: {item.question}\n\nAnswer: ("
    return f"Question: {item.question}\n\nChoices:\n - Yes\n - No\n\nAnswer:"


def answer_texts(item: Item) -> tuple[str, str]:
    """What continues `question_text` for the matching and the other answer: one token each."""
    if item.lettered:
        return item.matching.strip("()"), item.not_matching.strip("()")
    return f" {item.matching}", f" {item.not_matching}"


def _read_answer(item: Item, matching: bool) -> str:
    """The question with the first token of an answer."""
    return question_text(item) + answer_texts(item)[0 if matching else 1]


def _answered(item: Item, matching: bool) -> str:
    """The question with a whole answer."""
    return _read_answer(item, matching) + (")" if item.lettered else "")


def letter_pairs(items: Sequence[Item], *, system: str | None = None) -> Pairs:
    """Chat pairs that differ in the letter of the answer, as in CAA and Tan et al. (2024).

    Answers without letters become the options (A) and (B), swapped in two of four items so that
    neither letter goes with the trait or with an answer.

    Args:
        items: Items with balanced answers.
        system: A system message.
    """
    sides: tuple[list[Record], list[Record]] = ([], [])
    for number, item in enumerate(items):
        question, letters = lettered_question(item, swap=number // 2 % 2 == 1)
        for side, letter in zip(sides, letters, strict=True):
            turns: list[Message] = [] if system is None else [{"role": "system", "content": system}]
            turns += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"({letter}"},
            ]
            side.append(Record(messages=tuple(turns)))
    return Pairs(Records(sides[0]), Records(sides[1]), tuple(item.matching for item in items))


def lettered_question(item: Item, *, swap: bool) -> tuple[str, tuple[str, str]]:
    """A question with lettered options, and the letters of the matching and the other answer.

    Args:
        item: The item; options that it has already stay as they are.
        swap: Whether the matching answer becomes (B).
    """
    if item.lettered:
        return item.question, (item.matching.strip("()"), item.not_matching.strip("()"))
    options = (item.not_matching, item.matching) if swap else (item.matching, item.not_matching)
    question = f"{item.question}\n\nChoices:\n(A): {options[0]}\n(B): {options[1]}"
    return question, (("B", "A") if swap else ("A", "B"))


@dataclass(frozen=True, kw_only=True)
class StatementData:
    """Statements that show a trait and statements that do not, as answers to a request."""

    requests: tuple[str, ...]
    """For each pair, what the user says before either of its two statements."""
    positive: tuple[str, ...]
    """Statements that show the trait."""
    negative: tuple[str, ...]
    """Statements that do not."""
    paired: bool
    """Whether the two statements of a pair answer the same question."""

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.requests)

    def pairs(self) -> Pairs:
        """Conversations whose last message is the statement: read them at `Span(turn=-1)`."""
        sides = []
        for texts in (self.positive, self.negative):
            turns = [
                ({"role": "user", "content": request}, {"role": "assistant", "content": text})
                for request, text in zip(self.requests, texts, strict=True)
            ]
            sides.append(Records([Record(messages=messages) for messages in turns]))
        return Pairs(sides[0], sides[1])


def statements(
    items: Sequence[Item], *, request: str = "Tell me something you believe about yourself."
) -> StatementData:
    """The statements of items, as pairs of one that shows the trait and one that does not.

    Items with lettered options give the two options of their question. Items about one statement
    give pairs of different items: the statement of one that is answered by "Yes" and of one that is
    answered by "No"; such statements differ in more than the trait.

    Args:
        items: Items with balanced answers.
        request: What the user says before a statement that answers no question.

    Raises:
        ValueError: If items have neither options nor statements, or if either side is empty.
    """
    if all(item.lettered for item in items):
        return StatementData(
            requests=tuple(item.stem for item in items),
            positive=tuple(item.text_of(item.matching) for item in items),
            negative=tuple(item.text_of(item.not_matching) for item in items),
            paired=True,
        )
    missing = [item for item in items if item.statement is None]
    if missing:
        raise ValueError(
            f"{len(missing)} items have neither options nor a statement, such as "
            f"{missing[0].question[:60]!r}"
        )
    sides = [
        [item.statement or "" for item in items if (item.matching == "Yes") is which]
        for which in (True, False)
    ]
    n = min(map(len, sides))
    if n == 0:
        raise ValueError("all statements are on one side of the trait: balance the items")
    return StatementData(
        requests=(request,) * n,
        positive=tuple(sides[0][:n]),
        negative=tuple(sides[1][:n]),
        paired=False,
    )


@dataclass(frozen=True, kw_only=True)
class PairLint:
    """What is wrong, or may mislead, in contrast data."""

    n_pairs: int
    """Number of pairs."""
    equal: tuple[int, ...]
    """Pairs whose two sides are the same tokens: they hold no contrast."""
    duplicates: tuple[int, ...]
    """Pairs that repeat an earlier one."""
    length_skew: float
    """Mean difference in tokens, positive minus negative, in units of its standard error."""
    length_gap: float
    """Mean difference in tokens."""
    answer_imbalance: float
    """Share of pairs that the commonest last token of the positive side ends, less the share of
    those that it ends on the negative side: near 0 when balanced, 1 when the token tells all."""
    leaked: tuple[int, ...]
    """Pairs of which a side also occurs in the set that was given to compare with."""
    constant: bool
    """Whether all pairs differ in the same tokens only: their differences agree by construction."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each finding, none where the pairs are sound."""
        found = [
            (self.equal, f"{len(self.equal)} pairs have equal sides: drop them"),
            (self.duplicates, f"{len(self.duplicates)} pairs are duplicates: drop them"),
            (
                abs(self.length_skew) > 3 and self.n_pairs > 1,
                f"positive texts are {self.length_gap:+.1f} tokens longer: it may be held",
            ),
            (
                abs(self.answer_imbalance) > 0.2 and not self.constant,
                f"one answer token prefers a side by {self.answer_imbalance:+.0%}: balance the "
                "answers, or the vector holds the token",
            ),
            (self.leaked, f"{len(self.leaked)} pairs are also in the other set: split anew"),
            (
                self.constant and self.n_pairs > 1,
                "every pair differs in the same tokens: its coherence says nothing about the trait",
            ),
        ]
        return tuple(text for wrong, text in found if wrong)

    def to_frame(self) -> pd.DataFrame:
        """One row for each check."""
        rows = {
            "equal sides": len(self.equal),
            "duplicates": len(self.duplicates),
            "length skew (standard errors)": self.length_skew,
            "answer imbalance": self.answer_imbalance,
            "leaked": len(self.leaked),
            "constant contrast": float(self.constant),
        }
        return pd.DataFrame({"check": list(rows), "value": list(rows.values())})


def lint(model: HookedModel, pairs: Pairs, *, against: Pairs | None = None) -> PairLint:
    """Look for what makes a vector hold something else than the concept.

    Args:
        model: Whose tokenizer counts the tokens.
        pairs: The pairs.
        against: Pairs that must share nothing with them, such as those of the evaluation.
    """
    sides = [_ids(model, records) for records in (pairs.positive, pairs.negative)]
    both = list(zip(*sides, strict=True))
    gaps = np.array([len(a) - len(b) for a, b in both], dtype=np.float64)
    ends = [Counter(ids[-1] for ids in side) for side in sides]
    token, count = ends[0].most_common(1)[0]
    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    repeats = [k for k, pair in enumerate(both) if seen.setdefault(pair, k) != k]
    other = set() if against is None else {*_ids(model, against.positive)}
    other |= set() if against is None else {*_ids(model, against.negative)}
    return PairLint(
        n_pairs=len(pairs),
        equal=tuple(k for k, (a, b) in enumerate(both) if a == b),
        duplicates=tuple(repeats),
        length_skew=_standard_errors(gaps),
        length_gap=float(gaps.mean()),
        answer_imbalance=(count - ends[1][token]) / len(pairs),
        leaked=tuple(k for k, (a, b) in enumerate(both) if a in other or b in other),
        constant=len({_difference(a, b) for a, b in both}) == 1,
    )


def _standard_errors(gaps: Float[np.ndarray, " pair"]) -> float:
    """The mean in units of its standard error; infinite where all gaps are the same but not 0."""
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    if error > 0:
        return float(gaps.mean() / error)
    return float(np.copysign(np.inf, gaps.mean())) if gaps.any() else 0.0


def _ids(model: HookedModel, records: Records) -> list[tuple[int, ...]]:
    tokens = model.tokenize(records)
    parts: list[Int[np.ndarray, " token"]] = np.split(tokens.ids, tokens.offsets[1:-1])
    return [tuple(part.tolist()) for part in parts]


def _difference(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of two texts between their common beginning and their common end."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return a[start : len(a) - end], b[start : len(b) - end]
