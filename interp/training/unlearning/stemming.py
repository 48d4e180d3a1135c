"""Porter's stemmer (1980): words without their endings, so that forms of a word are one.

Departures that are usual since, and that the logs of ROUGE contain: words of at most two letters
stay, "logi" becomes "log", and the second step goes on behind "-ally".
"""

import re
from collections.abc import Sequence

_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
    ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"),
    ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
    ("fulli", "ful"), ("logi", "log"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""),
    ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """The stem of a word in lower case.

    Examples:
        >>> [stem(word) for word in ("novels", "writing", "relational", "happy")]
        ['novel', 'write', 'relat', 'happi']
    """
    if len(word) <= 2:
        return word
    word = _plural(word)
    word = _past(word)
    if word.endswith("y") and len(word) > 2 and _is_consonant(word, len(word) - 2):
        word = word[:-1] + "i"
    adverb = word.endswith("alli")
    word = _replaced(word, _STEP_2)
    if adverb:  # "internationally" goes the way of "international"
        word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    word = _bare(word)
    return _final(word)


def _is_consonant(word: str, k: int) -> bool:
    if word[k] in "aeiou":
        return False
    return not (word[k] == "y" and k > 0 and _is_consonant(word, k - 1))


def _measure(part: str) -> int:
    """How often a vowel is followed by a consonant."""
    form = "".join("c" if _is_consonant(part, k) else "v" for k in range(len(part)))
    return len(re.findall("vc", form))


def _has_vowel(part: str) -> bool:
    return any(not _is_consonant(part, k) for k in range(len(part)))


def _is_short(part: str) -> bool:
    """Ends with consonant, vowel, consonant, of which the last is not w, x or y."""
    if len(part) < 3:
        return len(part) == 2 and not _is_consonant(part, 0) and _is_consonant(part, 1)
    kinds = [_is_consonant(part, k) for k in range(len(part) - 3, len(part))]
    return kinds == [True, False, True] and part[-1] not in "wxy"


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        part = word.removesuffix(ending)
        if part != word and _has_vowel(part):
            return _completed(part)
    return word


def _completed(part: str) -> str:
    """What is left of a form in -ed or -ing, made a word again."""
    if part.endswith(("at", "bl", "iz")):
        return part + "e"
    doubled = len(part) > 1 and part[-1] == part[-2] and _is_consonant(part, len(part) - 1)
    if doubled:
        return part if part[-1] in "lsz" else part[:-1]
    return part + "e" if _measure(part) == 1 and _is_short(part) else part


def _replaced(word: str, rules: Sequence[tuple[str, str]]) -> str:
    """The word with the longest ending of the rules replaced, if enough stands before it."""
    for ending, new in sorted(rules, key=lambda rule: -len(rule[0])):
        if word.endswith(ending):
            part = word.removesuffix(ending)
            return part + new if _measure(part) > 0 else word
    return word


def _bare(word: str) -> str:
    for ending in sorted(_STEP_4, key=len, reverse=True):
        if word.endswith(ending):
            part = word.removesuffix(ending)
            allowed = ending != "ion" or part.endswith(("s", "t"))
            return part if allowed and _measure(part) > 1 else word
    return word


def _final(word: str) -> str:
    if word.endswith("e"):
        part = word[:-1]
        if _measure(part) > 1 or (_measure(part) == 1 and not _is_short(part)):
            word = part
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word
