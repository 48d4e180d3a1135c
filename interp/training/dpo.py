"""Direct preference optimization: make chosen continuations likelier than rejected ones.

Rafailov et al. 2023 (arXiv 2305.18290): the loss is minus the log-sigmoid of `beta` times the
margin, by how much more the model than the reference prefers the chosen continuation. The reference
is the model before training; its log-probabilities are computed once, so that no second model is
kept. A falling loss shows that the margin grows, not that the chosen continuations became likelier:
often both become rarer.
"""

import copy
import hashlib
import io
import json
import math
import warnings
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

from interp.core.files import write_atomically
from interp.core.model import HookedModel
from interp.core.seeds import derive


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
    checkpoint_every: int = 25
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("beta", "learning_rate", "n_steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}: needed more than 0")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank is {self.lora_rank!r}: needed 1 or more, or None")


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
    module: Any = _trainable(copy.deepcopy(model.module), config, seed)
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    run = _Run(module, optimizer, weights, config, _digest(model, preferences, config, seed))
    history = run.resume(checkpoint)
    steps = range(len(history), config.n_steps)
    bar = tqdm(steps, initial=len(history), total=config.n_steps, disable=not progress, desc="dpo")
    for step in bar:
        batch = _order(len(rows), config.batch_size, step, seed)
        history.append(run.step(step, [rows[i] for i in batch], reference[batch]))
        if checkpoint is not None and (step + 1) % config.checkpoint_every == 0:
            run.save(checkpoint, history)
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
        digest: str,
    ) -> None:
        self._module, self._optimizer, self._weights = module, optimizer, weights
        self._config, self._digest = config, digest

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

    def save(self, path: str | Path, history: list[dict[str, float]]) -> None:
        """Write weights, optimizer and history."""
        buffer = io.BytesIO()
        state = {
            "digest": self._digest,
            "weights": [weight.detach() for weight in self._weights],
            "optimizer": self._optimizer.state_dict(),
            "history": history,
        }
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: str | Path | None) -> list[dict[str, float]]:
        """History of an earlier part of this run, whose state is taken over."""
        if path is None or not Path(path).exists():
            return []
        state = torch.load(path, weights_only=True)
        if state["digest"] != self._digest:
            raise ValueError(
                f"{path} is the checkpoint of a run with another model, other data or other "
                "settings: remove it, or name another file"
            )
        with torch.no_grad():
            for weight, saved in zip(self._weights, state["weights"], strict=True):
                weight.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        return state["history"]


def _encode(
    model: HookedModel, index: int, one: Preference
) -> tuple[list[int], list[int], list[int]]:
    """Token ids of prompt, chosen and rejected continuation; these end with the end of text."""
    prompt = model.tokenize([one.prompt]).ids.tolist()
    end = [] if model.tokenizer.eos_token_id is None else [model.tokenizer.eos_token_id]
    sides = [
        [*model.tokenizer(text, add_special_tokens=False)["input_ids"], *end]
        for text in (one.chosen, one.rejected)
    ]
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
    texts = [(p, c) for p, c, _ in rows] + [(p, r) for p, _, r in rows]
    width = max(len(p) + len(c) for p, c in texts)
    device = next(module.parameters()).device
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask, counted = torch.zeros(2, len(texts), width, dtype=torch.bool)
    for row, (prompt, continuation) in enumerate(texts):
        stop = len(prompt) + len(continuation)
        ids[row, :stop] = torch.tensor(prompt + continuation)
        mask[row, :stop] = True
        counted[row, len(prompt) : stop] = True
    found = sequence_logprobs(module, ids.to(device), mask.to(device), counted.to(device))
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


def _trainable(module: Any, config: DpoConfig, seed: int) -> nn.Module:
    """The weights that are trained: all, or adapters on the linear maps of the blocks.

    The module stays in eval mode, so that dropout does not make the loss noisy.
    """
    if config.lora_rank is None:
        return module.requires_grad_(True)
    from peft import LoraConfig, get_peft_model  # pyright: ignore

    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft draws the adapters from the global generator, and asks an old name of a flag
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(derive(seed, "adapters"))
        adapted: Any = get_peft_model(module, settings)
    return adapted.eval()


def _order(n: int, batch_size: int, step: int, seed: int) -> list[int]:
    """The preferences of a step: every pass over the data has an order of its own."""
    size = min(batch_size, n)
    per_pass = math.ceil(n / size)
    rng = np.random.default_rng(derive(seed, "order", step // per_pass))
    start = (step % per_pass) * size
    return rng.permutation(n)[start : start + size].tolist()


def _digest(
    model: HookedModel, preferences: Sequence[Preference], config: DpoConfig, seed: int
) -> str:
    """What tells this run from others; more steps continue a run."""
    settings = asdict(config)
    settings = {k: v for k, v in settings.items() if k not in ("n_steps", "checkpoint_every")}
    content = [model.origin.fingerprint, settings, seed, [asdict(one) for one in preferences]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
