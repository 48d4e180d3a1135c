"""Supervised fine-tuning: learn the answers to prompts, with all weights or with adapters.

The loss is the mean over the answer tokens of a whole step's batch, also where the batch is passed
through the model in parts. Early stopping watches examples that are not trained on and keeps their
best state. With a decay, the result is the exponential moving average of the weights
(`interp.training.ema`) instead of the last ones. With adapters, the factors are averaged, which is
not the average of their products.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn
from tqdm.auto import tqdm

from interp.core.model import HookedModel
from interp.training.ema import Ema
from interp.training.loop import (
    Checkpoint,
    Example,
    TokenPair,
    digest,
    draw,
    encode_all,
    pad,
    predictions,
    token_losses,
    trainable,
)


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """Settings of fine-tuning."""

    learning_rate: float = 2e-5
    """Of AdamW, reached after the warm-up; around 1e-4 for adapters."""
    n_steps: int = 100
    """Steps of the optimizer; the data are gone through again when they end."""
    batch_size: int = 8
    """Examples of a step."""
    micro_batch_size: int | None = None
    """Examples that pass through the model together; `None` for the whole batch."""
    warmup: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Of AdamW."""
    max_gradient_norm: float = 1.0
    """Gradients longer than this are shortened."""
    lora_rank: int | None = None
    """Rank of adapters on all linear maps of the blocks; `None` trains all weights."""
    ema_decay: float | None = None
    """Decay of the moving average that is returned; `None` returns the last weights."""
    evaluate_every: int = 10
    """Steps between looks at the held-out examples, where there are any."""
    patience: int | None = None
    """Looks without a lower held-out loss after which training stops; `None` never stops."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in (
            "learning_rate",
            "n_steps",
            "batch_size",
            "micro_batch_size",
            "lora_rank",
            "evaluate_every",
            "patience",
            "checkpoint_every",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value!r}: needed more than 0")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay!r}: needed 0 <= decay < 1, or None")


@dataclass(frozen=True, kw_only=True)
class SftResult:
    """A fine-tuned model and how training went."""

    model: HookedModel
    """The model; adapters are merged into the weights."""
    loss: Float[np.ndarray, " step"]
    """Mean loss per answer token of each batch before its step, in nats."""
    held_out_loss: Float[np.ndarray, " step"]
    """Loss on the held-out examples after each step, NaN where it was not computed."""
    config: SftConfig
    """The settings."""
    seed: int
    """The seed."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each step."""
        columns = {"loss": self.loss, "held_out_loss": self.held_out_loss}
        return pd.DataFrame({"step": np.arange(len(self.loss)), **columns})


OnStep = Callable[[int, dict[str, float]], None]
Observe = Callable[[int, Sequence[torch.Tensor]], None]


def train_sft(
    model: HookedModel,
    examples: Sequence[Example],
    *,
    config: SftConfig | None = None,
    held_out: Sequence[Example] = (),
    seed: int = 0,
    checkpoint: str | Path | None = None,
    on_step: OnStep | None = None,
    observe: Observe | None = None,
) -> SftResult:
    """Train a copy of a model on answers; the model itself stays as it is.

    Args:
        model: A language model.
        examples: Prompts with the answers to learn.
        config: Settings; `SftConfig()` by default.
        held_out: Examples for early stopping.
        seed: Seed of the order of the data and of the adapters.
        checkpoint: File from which a run is resumed if it exists, and to which it is saved. A
            resumed run gives bit for bit what an uninterrupted one would have given.
        on_step: Called after each step with its number and its losses.
        observe: Called after each step with its number and the weights that are trained, which it
            leaves as they are: for averages and measurements on the way.

    Raises:
        ValueError: If there are no examples, one is too long for the model, patience is set
            without held-out examples, the loss is not finite, or the checkpoint belongs to another
            run.
    """
    config = SftConfig() if config is None else config
    if config.patience is not None and not held_out:
        raise ValueError(f"patience is {config.patience}, but held_out is empty: give examples")
    rows = encode_all(model, examples)
    held = encode_all(model, held_out) if held_out else []
    module: Any = trainable(copy.deepcopy(model.module), config.lora_rank, seed)
    run = _Run(module, config)
    settings = {k: v for k, v in asdict(config).items() if k not in ("n_steps", "checkpoint_every")}
    content = [asdict(one) for one in (*examples, *held_out)]
    name = digest(model.origin.fingerprint, settings, seed, content, len(held_out))
    saved = Checkpoint(checkpoint, name, run.state, run.optimizer)
    history = saved.resume()
    steps = range(len(history), config.n_steps)
    for step in tqdm(steps, disable=None, leave=False, desc="sft"):
        if _is_over(history, config.patience):
            break
        batch = draw(len(rows), config.batch_size, step, seed)
        numbers = {"loss": run.step(step, [rows[i] for i in batch])}
        if held and ((step + 1) % config.evaluate_every == 0 or step + 1 == config.n_steps):
            numbers["held_out_loss"] = run.look(held, history)
        history.append(numbers)
        if (step + 1) % config.checkpoint_every == 0:
            saved.save(history)
        if on_step is not None:
            on_step(step, numbers)
        if observe is not None:
            observe(step, run.weights)
    run.finish()
    merged = module.merge_and_unload() if config.lora_rank is not None else module
    trained = HookedModel(merged.eval(), tokenizer=model.tokenizer, name=f"{model.name}-sft")
    columns = {
        name: np.array([numbers.get(name, np.nan) for numbers in history])
        for name in ("loss", "held_out_loss")
    }
    return SftResult(model=trained, config=config, seed=seed, **columns)


def answer_loss(module: nn.Module, rows: Sequence[TokenPair], size: int | None = None) -> float:
    """Mean loss per answer token of some rows, in nats.

    Args:
        module: A Hugging Face causal language model.
        rows: Token ids of prompts and answers.
        size: Rows that run together, all by default.
    """
    device, total = next(module.parameters()).device, 0.0
    size = len(rows) if size is None else size
    with torch.no_grad():
        for start in range(0, len(rows), size):
            found = predictions(module, pad(rows[start : start + size], device))
            total += float(token_losses(found).sum())
    return total / sum(len(answer) for _, answer in rows)


class _Run:
    """The state of a training run."""

    def __init__(self, module: nn.Module, config: SftConfig) -> None:
        self._module, self._config = module, config
        self.weights = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        decay = config.ema_decay
        self._ema = None if decay is None else Ema(self.weights, decay=decay)
        self._best = [] if config.patience is None else [w.detach().clone() for w in self.weights]

    @property
    def state(self) -> list[torch.Tensor]:
        """All that a checkpoint holds besides the optimizer."""
        return [*self.weights, *(self._ema.averages if self._ema else []), *self._best]

    @property
    def _returned(self) -> list[torch.Tensor]:
        return self._ema.averages if self._ema else list(self.weights)

    def step(self, step: int, rows: Sequence[TokenPair]) -> float:
        """One step of the optimizer; the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._config.learning_rate * min(
                1.0, (step + 1) / max(1, self._config.warmup)
            )
        self.optimizer.zero_grad()
        loss = accumulate(self._module, rows, self._config.micro_batch_size)
        if not np.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {step}: lower the learning rate")
        nn.utils.clip_grad_norm_(self.weights, self._config.max_gradient_norm)
        self.optimizer.step()
        if self._ema is not None:
            self._ema.update(self.weights)
        return loss

    def look(self, held: Sequence[TokenPair], history: Sequence[dict[str, float]]) -> float:
        """Held-out loss of what would be returned now, which is kept if it is the best."""
        last = [weight.detach().clone() for weight in self.weights] if self._ema else None
        if self._ema is not None:
            self._ema.copy_to(self.weights)
        loss = answer_loss(self._module, held, self._config.batch_size)
        if last is not None:
            _copy(last, self.weights)
        seen = [numbers["held_out_loss"] for numbers in history if "held_out_loss" in numbers]
        if self._best and loss < min(seen, default=np.inf):
            _copy(self._returned, self._best)
        return loss

    def finish(self) -> None:
        """Leave in the module what is returned: the best state, the average, or the last one."""
        _copy(self._best or self._returned, self.weights)


def accumulate(module: nn.Module, rows: Sequence[TokenPair], size: int | None = None) -> float:
    """Add the gradient of the mean loss per answer token, from passes of `size` rows.

    Returns:
        The loss, which does not depend on the size.
    """
    device, total = next(module.parameters()).device, 0.0
    size = len(rows) if size is None else size
    n_tokens = sum(len(answer) for _, answer in rows)
    for start in range(0, len(rows), size):
        batch = pad(rows[start : start + size], device)
        loss = token_losses(predictions(module, batch)).sum() / n_tokens
        loss.backward()
        total += float(loss.detach())
    return total


@torch.no_grad()
def _copy(source: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> None:
    for old, new in zip(source, target, strict=True):
        new.copy_(old)


def _is_over(history: Sequence[dict[str, float]], patience: int | None) -> bool:
    """Whether the held-out loss has not fallen for too long."""
    losses = [numbers["held_out_loss"] for numbers in history if "held_out_loss" in numbers]
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])
