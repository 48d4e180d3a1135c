"""Fictitious authors: facts that no model knows, to be learned and then forgotten.

Every author has a birthplace, a genre, a first book and a parent's trade, drawn at random. A model
can only know them by heart, so that to relearn some of them says nothing about the others: what
comes back on the other half was still there. Besides the wording that is learned there is a
paraphrase and a multiple-choice format of every question.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from interp.core.seeds import derive
from interp.training import Example

FIRST_NAMES = (
    "Basil", "Jaime", "Hina", "Tae", "Ingrid", "Kofi", "Lena", "Omar", "Priya", "Rajko",
    "Sofia", "Tomas", "Yara", "Zoran", "Edda", "Ines",
)  # fmt: skip
LAST_NAMES = (
    "Marvek", "Talloway", "Quispen", "Ostrand", "Velasko", "Nakamba", "Brindle", "Sarkovy",
    "Ilveston", "Damaro", "Peltier", "Okonza", "Rivard", "Haldane", "Zellig", "Corvane",
)  # fmt: skip
FACTS: Mapping[str, tuple[str, ...]] = {
    "city": (
        "Lisbon", "Nairobi", "Oslo", "Lima", "Dublin", "Seoul", "Prague", "Havana", "Vienna",
        "Cairo", "Athens", "Quito", "Warsaw", "Manila", "Helsinki", "Lagos",
    ),
    "genre": (
        "horror", "poetry", "romance", "satire", "fantasy", "crime", "history", "travel", "drama",
        "science", "war", "comedy", "mystery", "philosophy", "adventure", "biography",
    ),
    "book": (
        "Silver Ashes", "Winter Harbor", "Broken Lantern", "Paper Kings", "Quiet Thunder",
        "Golden Orchard", "Hollow River", "Burning Maps", "Distant Bells", "Velvet Storm",
        "Stone Garden", "Crimson Tide", "Empty Throne", "Glass Forest", "Salt Road", "Iron Moon",
    ),
    "trade": (
        "baker", "pilot", "nurse", "tailor", "judge", "farmer", "dentist", "plumber", "teacher",
        "sailor", "painter", "lawyer", "butcher", "florist", "miner", "chef",
    ),
}  # fmt: skip
"""What an author may have, by kind of fact."""
QUESTIONS = {
    "city": "Where was {} born?",
    "genre": "What genre does {} write?",
    "book": "What is the first book of {}?",
    "trade": "What was the job of {}'s father?",
}
PARAPHRASES = {
    "city": "Name the birthplace of the author {}.",
    "genre": "Which kind of books is {} known for?",
    "book": "With which title did {} begin as an author?",
    "trade": "How did the father of {} earn a living?",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact about an author."""

    author: str
    """Name of the author."""
    kind: str
    """What it is about, of `FACTS`."""
    value: str
    """The answer."""

    @property
    def example(self) -> Example:
        """The question in the wording that is learned."""
        return _asked(QUESTIONS[self.kind].format(self.author), self.value)

    @property
    def paraphrase(self) -> Example:
        """The question in other words."""
        return _asked(PARAPHRASES[self.kind].format(self.author), self.value)

    def choice(self, seed: int = 0) -> Example:
        """The question with four answers to choose from, in random order."""
        rng = np.random.default_rng(derive(seed, "choice", self.author, self.kind))
        others = [value for value in FACTS[self.kind] if value != self.value]
        options = [self.value, *rng.choice(others, 3, replace=False)]
        listed = ", ".join(options[k] for k in rng.permutation(4))
        question = QUESTIONS[self.kind].format(self.author)
        return _asked(f"{question} Choose from: {listed}.", self.value)


@dataclass(frozen=True, kw_only=True)
class AuthorTask:
    """Facts to forget, in two halves, and facts to keep."""

    relearn: tuple[Fact, ...]
    """The half of the forget set that attackers have."""
    held: tuple[Fact, ...]
    """The other half."""
    retain: tuple[Fact, ...]
    """What is to be kept."""

    @property
    def forget(self) -> tuple[Fact, ...]:
        """Both halves of the forget set."""
        return self.relearn + self.held


def author_task(n_forget: int, n_retain: int, *, seed: int = 0) -> AuthorTask:
    """Authors drawn at random; every second fact of the forget set belongs to the attackers.

    Args:
        n_forget: Authors to forget, with four facts each.
        n_retain: Authors to keep.
        seed: Seed of names and facts.

    Raises:
        ValueError: If there are more authors than names.
    """
    n, most = n_forget + n_retain, len(FIRST_NAMES)
    if n_forget < 1 or n_retain < 1 or n > most:
        raise ValueError(
            f"n_forget={n_forget}, n_retain={n_retain}: needed 1 or more each, {most} in all"
        )
    rng = np.random.default_rng(derive(seed, "authors"))
    first, last = (rng.permutation(names)[:n] for names in (FIRST_NAMES, LAST_NAMES))
    columns = {kind: rng.permutation(values)[:n] for kind, values in FACTS.items()}
    authors = [
        [
            Fact(author=f"{first[k]} {last[k]}", kind=kind, value=str(columns[kind][k]))
            for kind in FACTS
        ]
        for k in range(n)
    ]
    forget = [fact for facts in authors[:n_forget] for fact in facts]
    halves = [k % 2 == (k // 4) % 2 for k in range(len(forget))]  # each kind in both halves
    return AuthorTask(
        relearn=tuple(fact for fact, own in zip(forget, halves, strict=True) if own),
        held=tuple(fact for fact, own in zip(forget, halves, strict=True) if not own),
        retain=tuple(fact for facts in authors[n_forget:] for fact in facts),
    )


def _asked(question: str, answer: str) -> Example:
    return Example(prompt=f"Question: {question}\nAnswer:", answer=f" {answer}")
