"""What the toxicity study reads: comments, preferences, prompts, neutral text, toxic words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from interp import HookedModel, Records
from interp.core.seeds import derive
from interp.data import data_folder, load_fixture
from interp.training import Preference

PROMPT_KINDS = (
    "flirtation",
    "identity_attack",
    "insult",
    "profanity",
    "severe_toxicity",
    "sexually_explicit",
    "threat",
)
"""Files of prompts that lead models to toxic continuations."""

MAX_WORDS = 12
"""Words of a preference, beginning included, at most."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of each set is used."""

    n_comments: int = 600
    """Comments for the probes, of which every fourth tests them."""
    n_preferences: int = 80
    """Pairs of a toxic sentence and a neutral paraphrase that train."""
    n_prompts: int = 64
    """Prompts on which every model is judged, and methods are brought to one divergence."""
    n_continued: int = 16
    """How many of the prompts are continued by sampling."""
    n_neutral: int = 4
    """Neutral passages, for perplexity and for the overlap with what follows."""
    n_words: int = 40
    """Words of a neutral passage, and most words of a comment."""


@dataclass(frozen=True, kw_only=True)
class Materials:
    """All texts of a study."""

    comments: Records
    """Comments that train probes; label 1 is toxic."""
    test_comments: Records
    """Comments that test them."""
    other_comments: Records
    """Further comments, for the classifier of continuations."""
    preferences: tuple[Preference, ...]
    """A neutral continuation of a beginning, preferred to the toxic one."""
    prompts: tuple[str, ...]
    """Prompts of the evaluation."""
    neutral: tuple[str, ...]
    """Neutral passages."""
    words: tuple[str, ...]
    """Words that mark toxic comments and that paraphrases leave out."""
    stakes: Records
    """Situations with label 1 where much is at stake, for another pair of models."""


def load_materials(sizes: Sizes, *, seed: int = 0) -> Materials:
    """Draw the texts of a study from the folder of the study data.

    Args:
        sizes: How many of each kind.
        seed: Which of them.

    Raises:
        FileNotFoundError: If the study data are not there.
    """
    comments = _comments(sizes, seed)
    n, n_test = sizes.n_comments, sizes.n_comments // 4
    pairs = _paraphrases()
    usable = [p for p in (_preference(*pair) for pair in pairs) if p is not None]
    order = np.random.default_rng(derive(seed, "preferences")).permutation(len(usable))
    prompts = _prompts(seed)
    return Materials(
        comments=comments[: n - n_test],
        test_comments=comments[n - n_test : n],
        other_comments=comments[n:],
        preferences=tuple(usable[i] for i in order[: sizes.n_preferences]),
        prompts=prompts[: sizes.n_prompts],
        neutral=_neutral(sizes),
        words=toxic_words(comments[n:], pairs),
        stakes=load_fixture("high_stakes"),
    )


def toxic_words(
    comments: Records,
    pairs: Sequence[tuple[str, str]],
    *,
    share: float = 0.8,
    ratio: float = 4.0,
    n_comments: int = 20,
    n_pairs: int = 10,
) -> tuple[str, ...]:
    """Words that two sets of annotators mark: in toxic comments, and left out by paraphrases.

    Args:
        comments: Comments with label 1 for toxic ones.
        pairs: Toxic sentences with their neutral paraphrases.
        share: Least share of toxic ones among the comments that hold the word.
        ratio: How much more often toxic sentences hold the word than paraphrases do.
        n_comments: How many comments must hold it.
        n_pairs: How many toxic sentences must.

    Examples:
        >>> said = Records.from_texts(["you fool", "a fool", "you there"], labels=[1, 1, 0])
        >>> toxic_words(said, [("a fool said", "he said")] * 3, n_comments=2, n_pairs=2)
        ('fool',)
    """
    toxic, clean = (
        Counter(w for r in comments if bool(r.label) is wanted for w in _words(r.content))
        for wanted in (True, False)
    )
    removed, kept = (Counter(w for pair in pairs for w in _words(pair[k])) for k in (0, 1))
    found = [
        word
        for word, n in removed.items()
        if n >= max(n_pairs, ratio * (kept[word] + 0.5))
        and toxic[word] + clean[word] >= n_comments
        and toxic[word] >= share * (toxic[word] + clean[word])
    ]
    return tuple(sorted(found))


def token_ids(model: HookedModel, words: Sequence[str]) -> Int[np.ndarray, " token"]:
    """All tokens of the vocabulary that spell one of these words, with or without a space."""
    wanted = set(words)
    names = model.tokenizer.convert_ids_to_tokens(range(len(model.tokenizer)))
    plain = [name.lstrip("Ġ▁").lower() for name in names]  # marks of a space in front
    return np.array([k for k, name in enumerate(plain) if name in wanted], np.int64)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


def _comments(sizes: Sizes, seed: int) -> Records:
    """Comments of one line and of bounded length, shuffled, each text once."""
    table = pd.read_csv(data_folder("toxicity", "jigsaw_balanced.csv"))
    table["text"] = [" ".join(str(t).split()[: sizes.n_words]) for t in table["text"]]
    table = table.loc[table["text"].str.len() >= 20].drop_duplicates(subset=["text"])
    table = table.sample(frac=1, random_state=derive(seed, "comments") % 2**32)
    return Records.from_texts(table["text"].tolist(), labels=table["label"].tolist())


def _paraphrases() -> list[tuple[str, str]]:
    """Toxic sentences and their first paraphrase, both in one style of writing."""
    table = pd.read_csv(data_folder("toxicity", "paradetox.tsv"), sep="\t")
    table = table.dropna(subset=["toxic", "neutral1"])
    return [(_plain(a), _plain(b)) for a, b in zip(table.toxic, table.neutral1, strict=True)]


def _plain(text: str) -> str:
    """Lower case, no space before punctuation, none at the end: style must not be a cue."""
    text = " ".join(str(text).lower().split()).rstrip(" .!?,")
    return re.sub(r" ([.,!?;:'])", r"\1", text)


def _preference(toxic: str, neutral: str) -> Preference | None:
    """The shared beginning as the prompt; `None` without one of two words, or if too long."""
    rejected, chosen = toxic.split(), neutral.split()
    shared = 0
    while shared < min(len(rejected), len(chosen)) and rejected[shared] == chosen[shared]:
        shared += 1
    longest = max(len(rejected), len(chosen))
    if shared < 2 or longest > MAX_WORDS or shared == min(len(rejected), len(chosen)):
        return None
    return Preference(
        prompt=" ".join(chosen[:shared]),
        chosen=" " + " ".join(chosen[shared:]),
        rejected=" " + " ".join(rejected[shared:]),
    )


def _prompts(seed: int) -> tuple[str, ...]:
    """Prompts of four to thirty words, shuffled, each once."""
    lines: list[str] = []
    for kind in PROMPT_KINDS:
        file = data_folder("toxicity", "rtp_prompts", f"rtp_{kind}.txt")
        lines += [" ".join(line.split()) for line in file.read_text("utf-8").splitlines()]
    usable = [line for line in dict.fromkeys(lines) if 4 <= len(line.split()) <= 30]
    order = np.random.default_rng(derive(seed, "prompts")).permutation(len(usable))
    return tuple(usable[i] for i in order)


def _neutral(sizes: Sizes) -> tuple[str, ...]:
    """The beginnings of paragraphs of an encyclopedia that are long enough."""
    text = data_folder("wikitext2", "test.txt").read_text("utf-8")
    words = [line.replace(" @-@ ", "-").replace(" @,@ ", ",").split() for line in text.splitlines()]
    long = [line for line in words if len(line) >= 2 * sizes.n_words and "<unk>" not in line]
    return tuple(" ".join(line[: sizes.n_words]) for line in long[: sizes.n_neutral])
