"""What all trainers share: padded batches, the order of the data, adapters, checkpoints.

Losses count the tokens of answers only, never those of prompts or padding. The unembedding, a fifth
of the work in a small model, runs only from the first answer token of a batch on.
"""

import hashlib
import io
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.core.files import write_atomically
from interp.core.model import HookedModel
from interp.core.seeds import derive

TokenPair = tuple[list[int], list[int]]
"""Token ids of a prompt and of what follows it."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt and the answer that is learned, or forgotten."""

    prompt: str
    """Text that comes before."""
    answer: str
    """What follows, as it would be written there: usually with a space in front."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Prompts with their answers, padded on the right."""

    ids: Int[Tensor, "example pos"]
    """Tokens, 0 at padding."""
    mask: Bool[Tensor, "example pos"]
    """Which tokens are real."""
    answer: Bool[Tensor, "example pos"]
    """Which tokens are those of the answer."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a model predicts for the answers of a batch: the input of all losses."""

    logits: Float[Tensor, "example pos vocabulary"]
    """Logits of each token given those before it."""
    targets: Int[Tensor, "example pos"]
    """The tokens that are there."""
    counted: Bool[Tensor, "example pos"]
    """Which of them belong to the answer."""


def encode(model: HookedModel, prompt: str, answer: str, *, end: bool = True) -> TokenPair:
    """Token ids of a prompt and of its answer, which ends with the end of text unless told not."""
    stop = model.tokenizer.eos_token_id if end else None
    ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
    return model.tokenize([prompt]).ids.tolist(), [*ids, *([] if stop is None else [stop])]


def encode_all(
    model: HookedModel, examples: Sequence[Example], *, end: bool = True
) -> list[TokenPair]:
    """Token ids of examples.

    Raises:
        ValueError: If there are none, or one does not fit into the context.
    """
    if not examples:
        raise ValueError("no examples: needed at least one")
    pairs = [encode(model, one.prompt, one.answer, end=end) for one in examples]
    for index, (prompt, answer) in enumerate(pairs):
        length = len(prompt) + len(answer)
        if not answer or (model.n_ctx is not None and length > model.n_ctx):
            raise ValueError(
                f"example {index} has {len(answer)} tokens of answer, {length} in all: needed 1 "
                f"or more of answer, and at most {model.n_ctx} in all"
            )
    return pairs


def pad(pairs: Sequence[TokenPair], device: torch.device | str = "cpu") -> Batch:
    """One batch of prompts with their answers."""
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    mask, counted = torch.zeros(2, len(pairs), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        stop = len(prompt) + len(answer)
        ids[row, :stop] = torch.tensor(prompt + answer)
        mask[row, :stop] = True
        counted[row, len(prompt) : stop] = True
    return Batch(ids=ids.to(device), mask=mask.to(device), answer=counted.to(device))


def prompts_of(batch: Batch) -> list[list[int]]:
    """Token ids of the prompts of a batch."""
    rows = zip(batch.ids, batch.mask & ~batch.answer, strict=True)
    return [ids[keep].tolist() for ids, keep in rows]


def answers_of(batch: Batch) -> list[list[int]]:
    """Token ids of the answers of a batch."""
    return [ids[keep].tolist() for ids, keep in zip(batch.ids, batch.answer, strict=True)]


def make_batch(model: HookedModel, examples: Sequence[Example], *, end: bool = False) -> Batch:
    """One batch of examples on the model's device, answers without the end of text: for scores."""
    return pad(encode_all(model, examples, end=end), model.device)


def predictions(module: nn.Module, batch: Batch) -> Predictions:
    """Run a Hugging Face causal language model on a batch.

    Args:
        module: The model, in eval mode so that dropout does not make losses noisy.
        batch: Prompts and answers; no answer begins at the first token.
    """
    first = int(batch.answer.any(0).nonzero()[0])
    output = module(
        input_ids=batch.ids,
        attention_mask=batch.mask.long(),
        use_cache=False,
        logits_to_keep=batch.ids.shape[1] - first + 1,
    )
    return Predictions(
        logits=output.logits[:, :-1].float(),
        targets=batch.ids[:, first:],
        counted=batch.answer[:, first:],
    )


def token_losses(found: Predictions) -> Float[Tensor, "example pos"]:
    """Minus the log-probability of each answer token, 0 elsewhere, in nats."""
    losses = nn.functional.cross_entropy(
        found.logits.transpose(1, 2), found.targets, reduction="none"
    )
    return losses.masked_fill(~found.counted, 0.0)


def sequence_losses(found: Predictions) -> Float[Tensor, " example"]:
    """Minus the log-probability of each whole answer."""
    return token_losses(found).sum(-1)


def answer_probability(found: Predictions) -> Float[Tensor, " example"]:
    """Geometric mean of the probabilities of each answer's tokens."""
    return (-sequence_losses(found) / found.counted.sum(-1)).exp()


def nll(found: Predictions) -> Float[Tensor, ""]:
    """Mean loss per answer token: what fine-tuning minimizes."""
    return token_losses(found).sum() / found.counted.sum()


def trainable(
    module: Any, lora_rank: int | None, seed: int, *, targets: Sequence[str] | None = None
) -> nn.Module:
    """The module with the weights that are trained: all, or adapters on its linear maps.

    The module stays in eval mode, so that dropout does not make the loss noisy.

    Args:
        module: A Hugging Face model, which is changed.
        lora_rank: Rank of the adapters; `None` trains all weights.
        seed: Seed of the adapters.
        targets: Names of the maps that get adapters; all but the unembedding by default.
    """
    if lora_rank is None:
        return module.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=lora_rank,
        lora_alpha=2 * lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear" if targets is None else list(targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft draws the adapters from the global generator, and asks an old name of a flag
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(derive(seed, "adapters"))
        adapted: Any = get_peft_model(module, settings)
    return adapted.eval()


def draw(n: int, batch_size: int, step: int, seed: int) -> list[int]:
    """The examples of a step: every pass over the data has an order of its own."""
    size = min(batch_size, n)
    per_pass = math.ceil(n / size)
    rng = np.random.default_rng(derive(seed, "order", step // per_pass))
    start = (step % per_pass) * size
    return rng.permutation(n)[start : start + size].tolist()


def digest(*content: Any) -> str:
    """A hash of anything that JSON holds, which tells runs from each other."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class Checkpoint:
    """The file of a run: tensors, optimizer and history, written whole or not at all."""

    def __init__(
        self,
        path: str | Path | None,
        run: str,
        tensors: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Name the file, the digest of the run, and what is saved and restored in place."""
        self._path = None if path is None else Path(path)
        self._run, self._tensors, self._optimizer = run, tensors, optimizer

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the state as it is now; nothing without a path."""
        if self._path is None:
            return
        buffer = io.BytesIO()
        state = {
            "digest": self._run,
            "weights": [tensor.detach() for tensor in self._tensors],
            "optimizer": self._optimizer.state_dict(),
            "history": history,
        }
        torch.save(state, buffer)
        write_atomically(self._path, buffer.getvalue())

    def resume(self) -> list[dict[str, float]]:
        """History of an earlier part of this run, whose state is taken over.

        Raises:
            ValueError: If the file belongs to another run.
        """
        if self._path is None or not self._path.exists():
            return []
        state = torch.load(self._path, weights_only=True)
        if state["digest"] != self._run:
            raise ValueError(
                f"{self._path} is the checkpoint of a run with another model, other data or other "
                "settings: remove it, or name another file"
            )
        with torch.no_grad():
            for tensor, saved in zip(self._tensors, state["weights"], strict=True):
                tensor.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        return state["history"]
