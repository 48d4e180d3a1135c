"""Back ends: what answers for an agent, behind one protocol.

A back end writes a reply to messages, and tells how likely it finds each of some options. Whether
a language model in this process, a server, or a set of rules stands behind it makes no difference
to an agent.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from interp.core.errors import InterpError
from interp.core.records import Message
from interp.core.seeds import derive


class BackendError(InterpError, RuntimeError):
    """A back end that gives no answer: a server that is gone, a record that has no such entry."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a back end wrote."""

    text: str
    """The text."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What probes said when the text was over, by name; empty without probes."""


@runtime_checkable
class Backend(Protocol):
    """What answers for an agent."""

    @property
    def name(self) -> str:
        """What transcripts and caches call it."""
        ...

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Reply:
        """A reply to messages.

        Args:
            messages: Turns with "role" and "content".
            max_tokens: Tokens of the reply at most.
            temperature: 0 for the likeliest reply.
            seed: Of what is drawn.
            stop: The text ends before the first of these.

        Raises:
            BackendError: If there is no answer.
            ValueError: If messages and reply are longer than the context.
        """
        ...

    def choice(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> Float[np.ndarray, " option"]:
        """How likely the reply is each of the options, among them alone; sums to 1.

        Raises:
            BackendError: If there is no answer.
            ValueError: If these options cannot be told apart.
        """
        ...


Rule = Callable[[Sequence[Message], int], str]
"""A reply to messages, with a seed for what is random in it."""
Weigh = Callable[[Sequence[Message], Sequence[str]], Sequence[float]]
"""Weights of options, at least 0 and not all 0."""


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A back end of rules: replies and weights are functions of the messages.

    Examples:
        >>> backend = Scripted(reply=lambda messages, seed: messages[-1]["content"].upper())
        >>> backend.generate([{"role": "user", "content": "hello. bye"}], stop=["."]).text
        'HELLO'
    """

    reply: Rule | None = None
    """Writes replies."""
    weigh: Weigh | None = None
    """Weighs options."""
    name: str = "scripted"
    """What transcripts call it."""

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Reply:
        """See `Backend.generate`; tokens and temperature do not matter to a rule."""
        if self.reply is None:
            raise BackendError(f"{self.name!r} has no rule that replies: pass reply=")
        return Reply(text=until(self.reply(messages, seed), stop))

    def choice(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> Float[np.ndarray, " option"]:
        """See `Backend.choice`; the rule's weights, normalized."""
        if self.weigh is None:
            raise BackendError(f"{self.name!r} has no rule that weighs options: pass weigh=")
        weights = np.asarray(self.weigh(messages, options), np.float64)
        if weights.shape != (len(options),) or not weights.sum() > 0 or (weights < 0).any():
            raise ValueError(
                f"weights are {weights.tolist()!r}: needed {len(options)}, not negative, not all 0"
            )
        return weights / weights.sum()


def until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop strings, without white space around it."""
    ends = [text.find(mark) for mark in stop if mark and mark in text]
    return text[: min(ends, default=len(text))].strip()


def digest(*parts: object) -> str:
    """A hash of anything that JSON holds."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def draw(probabilities: Float[np.ndarray, " option"], seed: int, *names: object) -> int:
    """An option drawn by its probability, the same one for the same seed and names."""
    uniform = derive(seed, *names) / 2**63
    return int(min(np.searchsorted(np.cumsum(probabilities), uniform), len(probabilities) - 1))
