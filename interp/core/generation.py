"""Generation: batched decoding with interventions active on every token.

Hugging Face's `generate` does the work. What is added makes a batch give what single prompts give:
padding on the left with explicit positions, and sampling by Gumbel noise from one generator for
each prompt, which depends on the seed and the prompt and not on torch's global state.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.seeds import generator
from interp.core.tokens import Tokens

OnToken = Callable[[Tensor], "Tensor | None"]
"""Called with the ids so far, shape (batch, pos), after every token; may return which to stop, as
booleans of shape (batch)."""


@dataclass(frozen=True, kw_only=True)
class Generations:
    """What a model wrote after some prompts."""

    prompts: tuple[str, ...]
    """Each prompt as the model saw it, the chat template included."""
    texts: tuple[str, ...]
    """What followed, without control tokens."""
    tokens: tuple[tuple[int, ...], ...]
    """Ids of what followed, up to and including the end-of-text token."""
    config: dict[str, Any]
    """The options of the run."""

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.texts)

    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt."""
        lengths = [len(tokens) for tokens in self.tokens]
        return pd.DataFrame({"prompt": self.prompts, "text": self.texts, "n_tokens": lengths})


def generate(
    model: HookedModel,
    prompts: Records | Sequence[str],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
    use_cache: bool = True,
    on_token: OnToken | None = None,
    progress: bool = False,
) -> Generations:
    """Continue texts, or answer conversations.

    Args:
        model: A language model, with whatever interventions are active on it.
        prompts: Texts are continued as they are; conversations get the header of the assistant's
            turn first (`Records.as_chat()` makes conversations of texts).
        max_new_tokens: Tokens to write at most.
        temperature: 0 takes the likeliest token; otherwise logits are divided by it and sampled.
        top_p: Sample only from the likeliest tokens that together have this probability.
        seed: Seed of the sampling; each prompt has a stream of its own, and a prompt that is given
            several times is sampled anew each time.
        batch_size: Prompts that run together; changes the speed, not the texts.
        use_cache: Keep keys and values; without it everything is computed anew for each token.
        on_token: Called after every token; a boolean tensor that it returns ends those texts.
        progress: Show a progress bar.

    Returns:
        One text for each prompt, in their order.

    Raises:
        ValueError: If an option is out of range, or prompt and answer exceed the context.
    """
    if temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1:
        raise ValueError(
            f"temperature={temperature}, top_p={top_p}, max_new_tokens={max_new_tokens}: needed "
            "temperature >= 0, 0 < top_p <= 1, and at least one token"
        )
    tokens = model.tokenize(prompts, add_generation_prompt=True)
    longest = int(tokens.lengths.max()) + max_new_tokens
    if model.n_ctx is not None and longest > model.n_ctx:
        raise ValueError(f"prompt and answer may take {longest} tokens, but {model.n_ctx} fit")
    order = np.argsort(-tokens.lengths, kind="stable")
    streams = _streams(tokens)
    written: dict[int, tuple[int, ...]] = {}
    for start in tqdm(range(0, len(order), batch_size), disable=not progress, desc="generate"):
        rows = order[start : start + batch_size]
        names = [streams[row] for row in rows]
        sampler = _Sampler(temperature, top_p, seed, names) if temperature > 0 else None
        answers = _decode(model, tokens, rows, max_new_tokens, use_cache, sampler, on_token)
        written |= dict(zip(rows.tolist(), answers, strict=True))
    ids = tuple(written[row] for row in range(len(tokens)))
    return Generations(
        prompts=tokens.texts,
        texts=tuple(model.tokenizer.batch_decode(ids, skip_special_tokens=True)),
        tokens=ids,
        config={
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
        },
    )


def _decode(
    model: HookedModel,
    tokens: Tokens,
    rows: np.ndarray,
    max_new_tokens: int,
    use_cache: bool,
    sampler: "_Sampler | None",
    on_token: OnToken | None,
) -> list[tuple[int, ...]]:
    """The ids that one batch of prompts is continued with."""
    batch = {name: x.to(model.device) for name, x in tokens.batch(rows, side="left").items()}
    width, ends = batch["input_ids"].shape[1], end_ids(model)
    watch = _Watch(on_token)
    lengths, numbers = torch.from_numpy(tokens.lengths), torch.from_numpy(rows)
    module: Any = model.module
    with torch.no_grad(), model.hooks.prompts(lengths, rows=numbers):
        output = module.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=use_cache,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            logits_processor=[sampler] if sampler is not None else [],
            stopping_criteria=[watch],
        )
    return [
        _until_end(row[width:stop], ends)
        for row, stop in zip(output.tolist(), watch.stops, strict=True)
    ]


def end_ids(model: HookedModel) -> list[int]:
    """Tokens that end a text."""
    config = getattr(model.module, "generation_config", None)
    end = getattr(config, "eos_token_id", None)
    if end is None:
        end = getattr(model.tokenizer, "eos_token_id", None)
    return [] if end is None else list(end) if isinstance(end, (list, tuple)) else [end]


def _until_end(ids: list[int], ends: list[int]) -> tuple[int, ...]:
    stop = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
    return tuple(ids[:stop])


class _Sampler:
    """A logits processor after which the likeliest token is a sample (the Gumbel-max trick)."""

    def __init__(
        self, temperature: float, top_p: float, seed: int, streams: Sequence[tuple[str, int]]
    ) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._generators = [generator(seed, "generate", *stream) for stream in streams]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / self._temperature
        if self._top_p < 1:
            ranked, index = scores.softmax(-1).sort(descending=True)
            beyond = (ranked.cumsum(-1) - ranked) >= self._top_p
            scores = scores.masked_fill(beyond.scatter(1, index, beyond), -torch.inf)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self._generators])
        noise = -(-uniform.clamp(min=1e-20).log()).log()
        return scores + noise.to(scores.device)


class _Watch:
    """A stopping criterion that asks the caller after every token and notes where texts stop."""

    def __init__(self, on_token: OnToken | None) -> None:
        self._on_token = on_token
        self.stops: list[int | None] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        answer = None if self._on_token is None else self._on_token(input_ids)
        if answer is None:
            answer = torch.zeros(len(input_ids), dtype=torch.bool)
        self.stops = self.stops or [None] * len(input_ids)
        for row in answer.nonzero()[:, 0].tolist():
            if self.stops[row] is None:
                self.stops[row] = input_ids.shape[1]
        return answer.to(input_ids.device)


def _streams(tokens: Tokens) -> list[tuple[str, int]]:
    """What names each prompt's random stream: its ids, and how often it has come before.

    So a prompt is continued alone as it is in a batch, and its repetitions are different samples.
    """
    seen: Counter[str] = Counter()
    streams = []
    for row in range(len(tokens)):
        digest = tokens.rows([row]).digest()
        streams.append((digest, seen[digest]))
        seen[digest] += 1
    return streams
