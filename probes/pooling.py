"""Pooling rules: how the scores of an example's tokens become one score.

A token has a value for each head, and where attention needs it a logit that says how much it
counts. Given the logits, every rule is piecewise linear in the values, so that the contributions of
the tokens sum to the score. Each rule comes twice: for whole texts, and token by token with a state
of constant size; both give the same number at every prefix.

| rule | score | from |
|---|---|---|
| `Mean`, `Last` | mean, last value | |
| `Max(n_heads)` | largest value, summed over heads (MultiMax) | Kramár et al. 2026, 2601.11516 |
| `Softmax` | mean weighted by the softmax of the values | McKenzie et al. 2025, 2506.10805 |
| `Attention(n_heads)` | mean weighted by the softmax of a learned query | the same |
| `RollingMean` | largest mean of a window | the same |
| `RollingAttention` | largest attention-weighted mean of a window | Kramár et al. 2026 |
| `Ema` | largest exponential moving average | Cunningham et al. 2026, 2601.04603 |
| `Swim` | `RollingMean`, trained with a loss at every window | the same |
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad

State = tuple[Tensor, ...]
"""What a rule remembers of the tokens so far; leading axes are those of the values."""

_MINUS_INFINITY = -torch.inf


@dataclass(frozen=True)
class Pooling(ABC):
    """How values of tokens become the score of an example."""

    n_heads: int = 1
    """Values for each token; the scores of the heads are summed."""

    has_queries = False

    def __post_init__(self) -> None:
        """Check the options."""
        for name, value in self.__dict__.items():
            if not value > 0:
                raise ValueError(f"{name}={value!r}: needed a positive number")

    def logits(
        self, values: Float[Tensor, "*batch head"], queries: Float[Tensor, "*batch head"]
    ) -> Float[Tensor, "*batch head"]:
        """How much each token counts, before normalization; zeros where all count the same."""
        return queries if self.has_queries else torch.zeros_like(values)

    @abstractmethod
    def pooled(
        self,
        values: Float[Tensor, "*batch pos head"],
        logits: Float[Tensor, "*batch pos head"],
        mask: Bool[Tensor, "*#batch pos"],
    ) -> Float[Tensor, "*batch"]:
        """Scores of whole texts, whose tokens stand at the left; the rest is never looked at."""

    @abstractmethod
    def start(self, values: Float[Tensor, "*batch head"]) -> State:
        """The state before the first token; the values only give shape and type."""

    @abstractmethod
    def step(
        self,
        state: State,
        values: Float[Tensor, "*batch head"],
        logits: Float[Tensor, "*batch head"],
    ) -> tuple[State, Float[Tensor, "*batch"]]:
        """The state after one more token, and the score of the text so far."""

    def loss(
        self,
        values: Float[Tensor, "*batch pos head"],
        logits: Float[Tensor, "*batch pos head"],
        mask: Bool[Tensor, "*#batch pos"],
        targets: Float[Tensor, "*#batch"],
    ) -> Float[Tensor, "*batch"]:
        """Loss of each example in training."""
        scores = self.pooled(values, logits, mask)
        return binary_cross_entropy_with_logits(scores, targets.expand_as(scores), reduction="none")


@dataclass(frozen=True)
class Mean(Pooling):
    """Mean of the values."""

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        kept = values.masked_fill(~mask[..., None], 0)
        return kept.sum((-1, -2)) / mask.sum(-1)

    def start(self, values: Tensor) -> State:
        """Sum and count."""
        return torch.zeros_like(values[..., 0]), torch.zeros_like(values[..., 0])

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token."""
        total, count = state[0] + values.sum(-1), state[1] + 1
        return (total, count), total / count


@dataclass(frozen=True)
class Last(Pooling):
    """Value of the last token."""

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        at = (mask.sum(-1, keepdim=True) - 1).expand(*values.shape[:-2], 1)
        return values.sum(-1).gather(-1, at)[..., 0]

    def start(self, values: Tensor) -> State:
        """Nothing to remember."""
        return ()

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token."""
        return (), values.sum(-1)


@dataclass(frozen=True)
class Max(Pooling):
    """Largest value of each head; with several heads this is MultiMax."""

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        return values.masked_fill(~mask[..., None], _MINUS_INFINITY).amax(-2).sum(-1)

    def start(self, values: Tensor) -> State:
        """The largest values."""
        return (torch.full_like(values, _MINUS_INFINITY),)

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token."""
        best = torch.maximum(state[0], values)
        return (best,), best.sum(-1)


@dataclass(frozen=True)
class Attention(Pooling):
    """Mean weighted by the softmax of a learned query."""

    has_queries = True

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        share = logits.masked_fill(~mask[..., None], _MINUS_INFINITY).softmax(-2)
        return (share * values.masked_fill(~mask[..., None], 0)).sum((-1, -2))

    def start(self, values: Tensor) -> State:
        """Largest logit, sum of exponentials, and sum of values weighted by them."""
        zero = torch.zeros_like(values)
        return torch.full_like(values, _MINUS_INFINITY), zero, zero

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token, by online softmax."""
        top = torch.maximum(state[0], logits)
        before, now = (state[0] - top).exp(), (logits - top).exp()
        total = state[1] * before + now
        weighted = state[2] * before + now * values
        return (top, total, weighted), (weighted / total).sum(-1)


@dataclass(frozen=True)
class Softmax(Attention):
    """Mean weighted by the softmax of the values: between mean and max."""

    temperature: float = 5.0
    """High for the mean, low for the maximum."""

    has_queries = False

    def logits(self, values: Tensor, queries: Tensor) -> Tensor:
        """The values themselves, cooled."""
        return values / self.temperature


@dataclass(frozen=True)
class RollingMean(Pooling):
    """Largest mean of `window` tokens in a row; a shorter text is one window."""

    window: int = 40
    """Tokens of a window."""

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        means, whole = self.windows(values, logits, mask)
        return means.masked_fill(~whole[..., None], _MINUS_INFINITY).amax(-2).sum(-1)

    def windows(self, values: Tensor, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the window that ends at each token, and which windows count."""
        before = (0, 0, self.window - 1, 0)
        logits = logits.masked_fill(~mask[..., None], _MINUS_INFINITY)
        rolled = pad(values, before).unfold(-2, self.window, 1)
        shares = pad(logits, before, value=_MINUS_INFINITY).unfold(-2, self.window, 1)
        shares = shares.masked_fill(~mask[..., None, None], 0).softmax(-1)
        position = torch.arange(mask.shape[-1], device=mask.device)
        last = position == mask.sum(-1, keepdim=True) - 1
        return (rolled * shares).sum(-1), mask & ((position >= self.window - 1) | last)

    def start(self, values: Tensor) -> State:
        """The values and logits of the window, how many there are, and the largest mean."""
        ring = torch.zeros_like(values)[..., None].repeat_interleave(self.window, -1)
        empty = torch.full_like(ring, _MINUS_INFINITY)
        return ring, empty, torch.zeros_like(values), torch.full_like(values, _MINUS_INFINITY)

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token."""
        ring = torch.cat([state[0][..., 1:], values[..., None]], -1)
        shares = torch.cat([state[1][..., 1:], logits[..., None]], -1)
        mean, count = (ring * shares.softmax(-1)).sum(-1), state[2] + 1
        best = torch.where(count >= self.window, torch.maximum(state[3], mean), state[3])
        score = torch.where(count >= self.window, best, mean)
        return (ring, shares, count, best), score.sum(-1)


@dataclass(frozen=True)
class RollingAttention(RollingMean):
    """Largest attention-weighted mean of `window` tokens in a row."""

    window: int = 10
    """Tokens of a window."""

    has_queries = True


@dataclass(frozen=True)
class Swim(RollingMean):
    """Sliding windows, each of them trained, those that score high the most.

    The loss of an example is that of its windows weighted by the softmax of their scores: a
    harmless beginning costs nothing, a single confident false alarm costs much.
    """

    window: int = 16
    """Tokens of a window."""
    temperature: float = 1.0
    """Of the weights of the windows in the loss."""

    def loss(self, values: Tensor, logits: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Weighted loss of the windows of each example."""
        means, whole = self.windows(values, logits, mask)
        scores = means.sum(-1)
        share = (scores / self.temperature).masked_fill(~whole, _MINUS_INFINITY).softmax(-1)
        targets = targets[..., None].expand_as(scores)
        losses = binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return (share * losses.masked_fill(~whole, 0)).sum(-1)


@dataclass(frozen=True)
class Ema(Pooling):
    """Largest exponential moving average, which begins at the first value."""

    decay: float = 2 / 17
    """Weight of a new token; 2 / (window + 1) remembers about a window."""

    def pooled(self, values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Scores of whole texts."""
        averages = [values[..., 0, :]]
        for value in values.unbind(-2)[1:]:
            averages.append(averages[-1] + self.decay * (value - averages[-1]))
        stacked = torch.stack(averages, -2).masked_fill(~mask[..., None], _MINUS_INFINITY)
        return stacked.amax(-2).sum(-1)

    def start(self, values: Tensor) -> State:
        """The average, whether there is one, and the largest."""
        zero = torch.zeros_like(values)
        return zero, zero, torch.full_like(values, _MINUS_INFINITY)

    def step(self, state: State, values: Tensor, logits: Tensor) -> tuple[State, Tensor]:
        """One more token."""
        moved = state[0] + self.decay * (values - state[0])
        average = torch.where(state[1] > 0, moved, values)
        best = torch.maximum(state[2], average)
        return (average, torch.ones_like(values), best), best.sum(-1)


RULES: tuple[type[Pooling], ...] = (
    Attention,
    Ema,
    Last,
    Max,
    Mean,
    RollingAttention,
    RollingMean,
    Softmax,
    Swim,
)
"""Every rule."""
