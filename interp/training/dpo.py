"""Direct preference optimization: make chosen continuations likelier than rejected ones.

Rafailov et al. 2023 (arXiv 2305.18290): the loss is minus the log-sigmoid of `beta` times the
margin, by how much more the model than the reference prefers the chosen continuation. The reference
is the model before training; its log-probabilities are computed once, so that no second model is
kept. A falling loss shows that the margin grows, not that the chosen continuations became likelier:
often both become rarer.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from interp.core.model import HookedModel
from interp.training.loop import Checkpoint, digest, draw, encode, pad, trainable


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two continuations of a prompt, of which one is preferred."""

    prompt: str
    """Text that comes before."""
    chosen: str
    """The preferred continuation, as it would be written there: usually a space in front."""
    rejected: str
    """The other one."""


@dataclass(frozen=True, kw_only=True)
class DpoConfig:
    """Settings of a training run."""

    beta: float = 0.1
    """How strongly the model is held to the reference: larger is closer."""
    learning_rate: float = 1e-5
    """Of AdamW without weight decay, reached after the warm-up; around 1e-4 for LoRA."""
    n_steps: int = 100
    """Steps, one batch each; the data are gone through again when they end."""
    batch_size: int = 4
    """Preferences of a batch."""
    warmup: int = 10
    """Steps over which the learning rate rises from 0."""
    max_gradient_norm: float = 10.0
    """Gradients longer than this are shortened."""
    lora_rank: int | None = None
    """Rank of the low-rank adapters on all linear maps of the blocks; `None` trains all weights."""
    lora_targets: tuple[str, ...] | None = None
    """Names of the maps that get adapters, such as `("gate_proj", "up_proj")`; `None` for all."""
    checkpoint_every: int = 25
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("beta", "learning_rate", "n_steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}: needed more than 0")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank is {self.lora_rank!r}: needed 1 or more, or None")
        if self.lora_targets is not None and self.lora_rank is None:
            raise ValueError(f"lora_targets is {self.lora_targets!r}, but there is no lora_rank")


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A trained model and how training went."""

    model: HookedModel
    """The trained model; adapters are merged into the weights."""
    loss: Float[np.ndarray, " step"]
    """Mean loss of each batch before its step; log 2 at the start."""
    margin: Float[np.ndarray, " step"]
    """Mean margin in nats: the gain of the chosen continuations over the rejected ones."""
    accuracy: Float[np.ndarray, " step"]
    """Share of each batch with a positive margin."""
    config: DpoConfig
    """The settings."""
    seed: int
    """The seed."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each step."""
        columns = {"loss": self.loss, "margin": self.margin, "accuracy": self.accuracy}
        return pd.DataFrame({"step": np.arange(len(self.loss)), **columns})


OnStep = Callable[[int, dict[str, float]], None]


def dpo_loss(
    chosen: Float[Tensor, " pair"],
    rejected: Float[Tensor, " pair"],
    reference_chosen: Float[Tensor, " pair"],
    reference_rejected: Float[Tensor, " pair"],
    *,
    beta: float,
) -> Float[Tensor, " pair"]:
    """The loss of each preference, from log-probabilities of whole continuations.

    Examples:
        >>> zero = torch.zeros(1)
        >>> dpo_loss(zero, zero, zero, zero, beta=0.1)
        tensor([0.6931])
    """
    margin = (chosen - rejected) - (reference_chosen - reference_rejected)
    return -nn.functional.logsigmoid(beta * margin)


def sequence_logprobs(
    module: nn.Module,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    continuation: Bool[Tensor, "batch pos"],
) -> Float[Tensor, " batch"]:
    """Log-probability, in nats, of the continuation in each row.

    Args:
        module: A Hugging Face causal language model.
        ids: Tokens, padded on the right.
        mask: Which tokens are real.
        continuation: Which tokens are counted; never the first of a row.
    """
    logits: Tensor = module(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
    logprobs = logits[:, :-1].float().log_softmax(-1)
    found = logprobs.gather(-1, ids[:, 1:, None])[..., 0]
    return (found * continuation[:, 1:]).sum(-1)


def train_dpo(
    model: HookedModel,
    preferences: Sequence[Preference],
    *,
    config: DpoConfig | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
) -> TrainingResult:
    """Train a copy of a model on preferences; the model itself stays as it is.

    Args:
        model: A language model, which is also the reference.
        preferences: What is preferred to what.
        config: Settings; `DpoConfig()` by default.
        seed: Seed of the order of the data and of the adapters.
        checkpoint: File from which a run is resumed if it exists, and to which it is saved. A
            resumed run gives what an uninterrupted one would have given.
        on_step: Called after each step with its number and its loss, margin and accuracy.
        progress: Show a progress bar.

    Raises:
        ValueError: If there are no preferences, one is too long for the model, the loss is not
            finite, or the checkpoint belongs to another run.
    """
    config = DpoConfig() if config is None else config
    if not preferences:
        raise ValueError("no preferences: needed at least one")
    rows = [_encode(model, index, one) for index, one in enumerate(preferences)]
    reference = _reference(model, rows, config.batch_size)
    module: Any = trainable(
        copy.deepcopy(model.module), config.lora_rank, seed, targets=config.lora_targets
    )
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    run = _Run(module, optimizer, weights, config)
    saved = Checkpoint(checkpoint, _digest(model, preferences, config, seed), weights, optimizer)
    history = saved.resume()
    steps = range(len(history), config.n_steps)
    bar = tqdm(steps, initial=len(history), total=config.n_steps, disable=not progress, desc="dpo")
    for step in bar:
        batch = draw(len(rows), config.batch_size, step, seed)
        history.append(run.step(step, [rows[i] for i in batch], reference[batch]))
        if (step + 1) % config.checkpoint_every == 0:
            saved.save(history)
        bar.set_postfix(loss=f"{history[-1]['loss']:.3f}")
        if on_step is not None:
            on_step(step, history[-1])
    merged = module.merge_and_unload() if config.lora_rank is not None else module
    trained = HookedModel(merged.eval(), tokenizer=model.tokenizer, name=f"{model.name}-dpo")
    columns = {k: np.array([h[k] for h in history]) for k in ("loss", "margin", "accuracy")}
    return TrainingResult(model=trained, config=config, seed=seed, **columns)


class _Run:
    """The state of a training run."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: list[nn.Parameter],
        config: DpoConfig,
    ) -> None:
        self._module, self._optimizer, self._weights = module, optimizer, weights
        self._config = config

    def step(
        self, step: int, rows: list[tuple[list[int], list[int], list[int]]], reference: Tensor
    ) -> dict[str, float]:
        """One step of the optimizer."""
        rate = self._config.learning_rate * min(1.0, (step + 1) / max(1, self._config.warmup))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        chosen, rejected = _pair_logprobs(self._module, rows)
        references = reference[:, 0], reference[:, 1]
        loss = dpo_loss(chosen, rejected, *references, beta=self._config.beta).mean()
        if not bool(loss.isfinite()):
            raise ValueError(f"the loss is {float(loss)} at step {step}: lower the learning rate")
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, self._config.max_gradient_norm)
        self._optimizer.step()
        margin = ((chosen - rejected) - (references[0] - references[1])).detach()
        return {
            "loss": float(loss.detach()),
            "margin": float(margin.mean()),
            "accuracy": float((margin > 0).float().mean()),
        }


def _encode(
    model: HookedModel, index: int, one: Preference
) -> tuple[list[int], list[int], list[int]]:
    """Token ids of prompt, chosen and rejected continuation; these end with the end of text."""
    (prompt, chosen), (_, rejected) = (
        encode(model, one.prompt, text) for text in (one.chosen, one.rejected)
    )
    sides = [chosen, rejected]
    longest = len(prompt) + max(map(len, sides))
    if not all(sides) or (model.n_ctx is not None and longest > model.n_ctx):
        raise ValueError(
            f"preference {index} has {longest} tokens, the shorter continuation "
            f"{min(map(len, sides))}: needed 1 or more, and at most {model.n_ctx} in all"
        )
    return prompt, sides[0], sides[1]


def _pair_logprobs(
    module: nn.Module, rows: list[tuple[list[int], list[int], list[int]]]
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
    """Log-probabilities of chosen and of rejected continuations, from one forward pass."""
    pairs = [(p, c) for p, c, _ in rows] + [(p, r) for p, _, r in rows]
    batch = pad(pairs, next(module.parameters()).device)
    found = sequence_logprobs(module, batch.ids, batch.mask, batch.answer)
    return found[: len(rows)], found[len(rows) :]


def _reference(
    model: HookedModel, rows: list[tuple[list[int], list[int], list[int]]], batch_size: int
) -> Float[Tensor, "preference 2"]:
    """Log-probabilities of both continuations in the model before training."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            parts.append(
                torch.stack(_pair_logprobs(model.module, rows[start : start + batch_size]), 1)
            )
    return torch.cat(parts)


def _digest(
    model: HookedModel, preferences: Sequence[Preference], config: DpoConfig, seed: int
) -> str:
    """What tells this run from others; more steps continue a run."""
    settings = asdict(config)
    settings = {k: v for k, v in settings.items() if k not in ("n_steps", "checkpoint_every")}
    rows = [asdict(one) for one in preferences]
    return digest(model.origin.fingerprint, settings, seed, rows)
