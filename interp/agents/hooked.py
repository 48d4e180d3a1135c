"""A back end whose insides can be read and changed: a hooked language model.

Messages go through the model's chat template, with the KV cache while it writes. Interventions are
active for every reply and choice. A monitor such as `probes.ProbeMonitor` may read along; it comes
in as an object, since nothing here depends on probes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.agents.backends import Reply, until
from interp.core.generation import generate
from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from interp.core.records import Message, Record, Records
from interp.core.tokens import Tokens


@runtime_checkable
class Monitor(Protocol):
    """What reads along while a model reads and writes; `probes.ProbeMonitor` is one."""

    @property
    def scores(self) -> Mapping[str, np.ndarray]:
        """The latest scores by name, shape (batch, target)."""
        ...

    def watching(self, model: HookedModel) -> AbstractContextManager[Any]:
        """A context in which it scores what the model reads."""
        ...

    def on_token(self, ids: Tensor) -> Tensor:
        """Which texts are to end now, shape (batch,)."""
        ...


class HookedBackend:
    """A language model of this process.

    Examples:
        Answer with a direction added, and with a probe that reads along:

            backend = HookedBackend(model, interventions=[add(direction)], monitor=monitor)
            reply = backend.generate([{"role": "user", "content": "Hello"}])
    """

    def __init__(
        self,
        model: HookedModel,
        *,
        interventions: Sequence[Intervention] = (),
        monitor: Monitor | None = None,
        name: str | None = None,
    ) -> None:
        """Answer with a model.

        Args:
            model: A language model with a chat template.
            interventions: What is active while it answers, in this order.
            monitor: Reads along in replies; it may end them.
            name: What transcripts call it; the model's name by default.
        """
        self.model = model
        self.name = name or model.name
        self.interventions = tuple(interventions)
        self.monitor = monitor

    def with_interventions(self, *interventions: Intervention, name: str) -> "HookedBackend":
        """The same model with other interventions, under another name."""
        return HookedBackend(
            self.model, interventions=interventions, monitor=self.monitor, name=name
        )

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Reply:
        """See `Backend.generate`; with the last scores of the monitor."""
        records = Records([disarmed(self.model, messages)])
        watching = nullcontext() if self.monitor is None else self.monitor.watching(self.model)
        with self.model.intervene(*self.interventions), watching:
            written = generate(
                self.model,
                records,
                max_new_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                on_token=None if self.monitor is None else self.monitor.on_token,
            )
            scores = {} if self.monitor is None else dict(self.monitor.scores)
        return Reply(
            text=until(written.texts[0], stop),
            scores={name: float(values[0, 0]) for name, values in scores.items()},
        )

    def choice(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> Float[np.ndarray, " option"]:
        """See `Backend.choice`; by the probability of all tokens of an option."""
        tokens = self.model.tokenize(
            Records([disarmed(self.model, messages)]), add_generation_prompt=True
        )
        endings = option_ids(self.model, options)
        with self.model.intervene(*self.interventions), torch.no_grad():
            scores = _log_probabilities(self.model, tokens, endings)
        return scores.double().softmax(0).numpy()


def option_ids(model: HookedModel, options: Sequence[str]) -> list[list[int]]:
    """Tokens of each option.

    Raises:
        ValueError: If there are fewer than two different options, or one is empty.
    """
    if len(set(options)) < max(2, len(options)) or not all(options):
        raise ValueError(f"options are {list(options)!r}: needed two or more different texts")
    return [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in options]


def first_tokens(model: HookedModel, options: Sequence[str]) -> list[int]:
    """The first token of each option, where that alone tells them apart.

    Raises:
        ValueError: If two options begin with the same token.
    """
    first = [ids[0] for ids in option_ids(model, options)]
    if len(set(first)) < len(first):
        raise ValueError(f"options {list(options)!r} begin with the same token: choose others")
    return first


def disarmed(model: HookedModel, messages: Sequence[Message]) -> Record:
    """Messages in which no text acts as a control token of the model.

    A message that says `<|im_end|>` would end its turn and could forge another role. A space is
    put behind the first letter of each such string, so that it is read as letters.
    """
    special = [t.content for t in model.tokenizer.added_tokens_decoder.values() if t.special]

    def plain(text: str) -> str:
        for token in sorted(special, key=len, reverse=True):
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    record = Record(messages=tuple(messages))
    assert record.messages is not None, "it was made of messages"
    turns = tuple({**turn, "content": plain(turn["content"])} for turn in record.messages)
    return replace(record, messages=turns)


def _log_probabilities(
    model: HookedModel, tokens: Tokens, endings: Sequence[Sequence[int]]
) -> Float[Tensor, " option"]:
    """Log-probability of each ending; options of one token share one forward pass."""
    prompt, n = tokens.ids.tolist(), len(tokens.ids)
    if all(len(ending) == 1 for ending in endings):
        logits = _logits(model, [prompt], n, 1)[0, -1]
        return logits.log_softmax(-1)[[ending[0] for ending in endings]]
    found = []
    for ending in endings:
        logits = _logits(model, [prompt + list(ending[:-1])], n, len(ending))[0]
        picked = logits.log_softmax(-1)[torch.arange(len(ending)), torch.tensor(ending)]
        found.append(picked.sum())
    return torch.stack(found)


def _logits(
    model: HookedModel, ids: Sequence[Sequence[int]], n_prompt: int, n_last: int
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits of the last positions, in float32 on the CPU."""
    lengths = torch.full((len(ids),), n_prompt)
    with model.hooks.prompts(lengths):
        output = model.module(
            input_ids=torch.tensor(ids, device=model.device),
            use_cache=False,
            logits_to_keep=n_last,
        )
    return output.logits.float().cpu()
