"""What a method of unlearning may see, and the disruption that bounds it.

References are computed once, before the first step: losses of whole answers, logits, hidden states
of the forget and retain sets; for the budget, last hidden states of neutral texts, which the frozen
unembedding turns into probabilities again (at 135M parameters 85 times less than those). No second
model is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.core.hooks import Stop
from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.core.tokens import Tokens
from interp.training.loop import Batch, Predictions, predictions
from interp.training.unlearning.transforms import Gradients, Loss, gradient

Measure = Callable[[Batch], Any]
"""Something of a batch that is computed with the weights as they are, without gradients."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a method may change what the model says to neutral texts."""

    texts: tuple[str, ...]
    """Neutral texts, which have nothing to do with forget and retain set."""
    kl: float = 0.01
    """KL divergence of the unlearned model from the original, in nats per token, on average."""
    tolerance: float = 0.05
    """Share of the budget that may stay unused."""
    max_tokens: int = 32
    """Texts are cut behind this token."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.texts:
            raise ValueError("texts is empty: a budget needs neutral texts")
        if self.kl <= 0 or not 0 < self.tolerance < 1:
            raise ValueError(
                f"kl={self.kl!r}, tolerance={self.tolerance!r}: needed kl > 0, 0 < tolerance < 1"
            )


class Disruption:
    """How far a model has moved from what it said to some texts."""

    def __init__(self, model: HookedModel, texts: Sequence[str], *, max_tokens: int = 32) -> None:
        """Keep the last hidden states of the model as it is now.

        Args:
            model: A language model whose unembedding stays as it is.
            texts: Neutral texts.
            max_tokens: Texts are cut behind this token.
        """
        tokens: Tokens = model.tokenize(list(texts))
        tokens = tokens.take(tokens.positions < max_tokens)
        batch = tokens.batch(range(len(tokens)))
        self._inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        self._mask = self._inputs["attention_mask"].bool()
        self._reference = self._hidden(model).float()

    @torch.no_grad()
    def kl(self, model: HookedModel) -> float:
        """Mean over tokens of the KL divergence from the original to the model, in nats."""
        head, total = _head(model), 0.0
        hidden = self._hidden(model).float()
        for old, new in zip(self._reference.split(256), hidden.split(256), strict=True):
            before, after = head(old).log_softmax(-1), head(new).log_softmax(-1)
            total += float((before.exp() * (before - after)).sum())
        return total / len(hidden)

    @torch.no_grad()
    def _hidden(self, model: HookedModel) -> Float[Tensor, "token d_model"]:
        found = model.body(**self._inputs, use_cache=False).last_hidden_state
        return found[self._mask]


def _head(model: HookedModel) -> nn.Module:
    module: Any = model.module
    return module.get_output_embeddings()


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Model, data and memory of one run of a method."""

    model: HookedModel
    """The model, with the weights as they are now."""
    weights: dict[str, nn.Parameter]
    """The weights that may change."""
    forget: tuple[Batch, ...]
    """Answers to forget."""
    retain: tuple[Batch, ...]
    """Answers to keep."""
    seed: int
    """Seed of what a method draws."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What a method keeps between steps."""

    def gradient(self, loss: Loss) -> Gradients:
        """Gradient of a loss with respect to the weights."""
        return gradient(loss, self.weights)

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text."""
        return self.model.tokenizer(text, add_special_tokens=False)["input_ids"]

    def predict(self, batch: Batch) -> Predictions:
        """What the model predicts for the answers of a batch."""
        return predictions(self.model.module, batch)

    def reference(self, name: str, measure: Measure, batches: Sequence[Batch], step: int) -> Any:
        """Something of the step's batch before the first step, when all batches are measured."""
        if name not in self.memory:
            with torch.no_grad():
                self.memory[name] = [measure(batch) for batch in batches]
        return self.memory[name][step % len(batches)]

    def read(self, batch: Batch, sites: Sequence[Site]) -> list[Float[Tensor, "example pos _"]]:
        """Values at some sites, with gradients; the model runs no further than the last of them."""
        found: dict[Site, Tensor] = {}

        def keep(site: Site, value: Tensor) -> None:
            found[site] = value
            if len(found) == len(sites):
                raise Stop

        reads = [(site, lambda value, _, site=site: keep(site, value)) for site in sites]
        with self.model.hooks.attached(reads=reads):
            try:
                self.model.body(
                    input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False
                )
            except Stop:
                pass
        return [found[site] for site in sites]


def of_step(batches: Sequence[Batch], step: int) -> Batch:
    """The batch of a step."""
    return batches[step % len(batches)]


def without_first(batch: Batch) -> Bool[Tensor, "example pos"]:
    """Real tokens but the first, whose activations are unlike all others."""
    keep = batch.mask.clone()
    keep[:, 0] = False
    return keep
