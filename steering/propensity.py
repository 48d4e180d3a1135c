"""Propensities: how much more likely a model finds the text that shows a trait.

Two forms. *Multiple choice*, as published: the log-probability of the matching answer minus that of
the other (for answers of one token, their logit difference). *Statement likelihood*: the mean
log-probability per token of a statement that shows the trait minus that of one that does not. A
model that gives every question the same answer has no propensity in the first form, and still has
one in the second, which however also counts the words that trait statements share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from interp.core.model import HookedModel
from interp.core.tokenizing import render
from steering.contrast import StatementData, answer_texts, lettered_question, question_text
from steering.items import Item


@dataclass(frozen=True, kw_only=True)
class Contests:
    """For each example a prompt and two continuations, of which the positive shows the trait."""

    prompts: tuple[str, ...]
    """What the model reads first, as text."""
    positive: tuple[str, ...]
    """The continuation that shows the trait."""
    negative: tuple[str, ...]
    """The continuation that does not."""
    reduce: Literal["sum", "mean"] = "sum"
    """Whether token log-probabilities are added, or averaged where lengths differ."""
    first_answer: Bool[np.ndarray, " example"] | None = None
    """Whether the first of two fixed answers is the positive one, to tell trait from answer."""

    def __post_init__(self) -> None:
        """Check that the columns fit together."""
        columns = {"positive": self.positive, "negative": self.negative}
        if self.first_answer is not None:
            columns["first_answer"] = tuple(self.first_answer)
        for name, column in columns.items():
            if len(column) != len(self.prompts):
                raise ValueError(
                    f"{name} has {len(column)} entries, but there are {len(self.prompts)} prompts"
                )
        if not self.prompts:
            raise ValueError("no prompts: needed at least one")

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.prompts)


@dataclass(frozen=True)
class Continuation:
    """Tokens of a prompt and of what follows."""

    ids: tuple[int, ...]
    """All tokens."""
    n_prompt: int
    """How many of them are the prompt's."""


def choices(
    model: HookedModel,
    items: Sequence[Item],
    *,
    instruction: str | None = None,
    whole_answer: bool = False,
) -> Contests:
    """The published multiple-choice propensity.

    Args:
        model: Whose tokenizer must give each answer one token.
        items: Items with balanced answers.
        instruction: Text in front of every question.
        whole_answer: Score the text of the option behind a letter instead of the letter.

    Raises:
        ValueError: If an answer is more than one token, and the whole answer was not asked for.
    """
    head = "" if instruction is None else f"{instruction}\n\n"
    prompts = tuple(head + question_text(item) for item in items)
    answers = [answer_texts(item) for item in items]
    if whole_answer:
        prompts = tuple(text.removesuffix(" (") for text in prompts)
        answers = [
            (f" {item.text_of(item.matching)}", f" {item.text_of(item.not_matching)}")
            for item in items
        ]
    positive, negative = zip(*answers, strict=True)
    if not whole_answer:
        _check_one_token(model, prompts, positive)
        _check_one_token(model, prompts, negative)
    first = min(item.matching for item in items)
    return Contests(
        prompts=prompts,
        positive=positive,
        negative=negative,
        first_answer=np.array([item.matching == first for item in items]),
    )


def letter_choices(model: HookedModel, items: Sequence[Item]) -> Contests:
    """The multiple-choice propensity of Tan et al. (2024): the letter of an option, in a chat.

    Options are swapped as in `letter_pairs`, so that letters and answers are balanced.

    Args:
        model: Whose chat template is used, and whose tokenizer must give each letter one token.
        items: Items with balanced answers.

    Raises:
        ValueError: If a letter is more than one token.
    """
    made = [lettered_question(item, swap=k // 2 % 2 == 1) for k, item in enumerate(items)]
    prompts = tuple(assistant_prompt(model, question) + "(" for question, _ in made)
    positive, negative = zip(*(letters for _, letters in made), strict=True)
    _check_one_token(model, prompts, positive)
    _check_one_token(model, prompts, negative)
    first = np.array([letter == "A" for letter in positive])
    return Contests(prompts=prompts, positive=positive, negative=negative, first_answer=first)


def statement_contests(model: HookedModel, data: StatementData) -> Contests:
    """The statement likelihood: mean token log-probability of one statement minus the other's.

    Args:
        model: Whose chat template turns requests into prompts.
        data: Statements and the requests that they answer.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """
    prompts = {request: assistant_prompt(model, request) for request in set(data.requests)}
    return Contests(
        prompts=tuple(prompts[request] for request in data.requests),
        positive=data.positive,
        negative=data.negative,
        reduce="mean",
    )


def assistant_prompt(model: HookedModel, request: str) -> str:
    """A request as the model sees it, up to where its answer begins.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """
    return render(model.tokenizer, [{"role": "user", "content": request}], True)[0]


def tokenize_continuations(
    model: HookedModel, prompts: Sequence[str], continuations: Sequence[str]
) -> list[Continuation]:
    """Tokens of each prompt with its continuation.

    Raises:
        ValueError: If the two merge into one token at their border, if there is nothing to score,
            or if a text is too long.
    """
    whole = model.tokenize([p + c for p, c in zip(prompts, continuations, strict=True)])
    unique = list(dict.fromkeys(prompts))
    alone = model.tokenize(unique)
    heads = {
        text: alone.ids[start:stop].tolist()
        for text, start, stop in zip(unique, alone.offsets[:-1], alone.offsets[1:], strict=True)
    }
    found = []
    for k, prompt in enumerate(prompts):
        ids = whole.ids[whole.offsets[k] : whole.offsets[k + 1]].tolist()
        head = heads[prompt]
        if ids[: len(head)] != head:
            raise ValueError(
                f"prompt {k} ({prompt[-20:]!r}) and its continuation ({continuations[k][:20]!r}) "
                "merge into one token where they meet: move the white space to the continuation"
            )
        if len(ids) == len(head):
            raise ValueError(f"continuation {k} ({continuations[k]!r}) has no tokens")
        found.append(Continuation(tuple(ids), len(head)))
    return found


def _check_one_token(model: HookedModel, prompts: Sequence[str], answers: Sequence[str]) -> None:
    tokenized = tokenize_continuations(model, prompts, answers)
    for answer, tokens in zip(answers, tokenized, strict=True):
        n = len(tokens.ids) - tokens.n_prompt
        if n != 1:
            raise ValueError(
                f"the answer {answer!r} is {n} tokens for this tokenizer: a logit difference needs "
                "one; pass whole_answer=True to score all of them"
            )
