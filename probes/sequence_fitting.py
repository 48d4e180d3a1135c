"""Training of token-level probes: AdamW, cosine schedule, early stopping on held-out groups.

All layers, seeds and classes are trained at once, as rows of the same matrices, which come out as
they would alone: each row keeps the weights of its own best epoch, and each layer has a patience of
its own.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp.core.seeds import generator
from probes.pooling import Pooling


@dataclass(frozen=True, kw_only=True)
class SequenceTraining:
    """How a `SequenceProbe` is trained."""

    learning_rate: float = 5e-3
    """At the beginning; it falls to a fiftieth along a cosine."""
    weight_decay: float = 1e-3
    """Of AdamW."""
    n_epochs: int = 60
    """Passes over the training examples, at most."""
    patience: int = 15
    """Epochs without a better validation score after which training ends."""
    batch_size: int = 32
    """Examples of a step."""
    validation_folds: int = 5
    """One of so many folds by group is held out for early stopping; 0 trains to the end."""
    balanced: bool = True
    """Whether both sides of each class weigh the same."""
    n_seeds: int = 1
    """Starting points; the one with the best validation score is kept."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.learning_rate, self.n_epochs, self.batch_size, self.n_seeds) <= 0:
            raise ValueError(f"{self}: needed positive numbers")
        if self.validation_folds == 1 or min(self.validation_folds, self.weight_decay) < 0:
            raise ValueError(f"{self}: needed validation_folds 0 or at least 2, weight_decay >= 0")


@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """From activations of a token to its values and queries."""

    value: Float[Tensor, "row head feature"]
    """Weights of the values."""
    intercept: Float[Tensor, "row head"]
    """Intercepts of the values."""
    query: Float[Tensor, "row query_head feature"]
    """Weights of the queries, of no heads where the rule has none."""

    def __call__(
        self, X: Float[Tensor, "token feature"]
    ) -> tuple[Float[Tensor, "token row head"], Float[Tensor, "token row head"]]:
        """Values and queries of tokens, all rows reading the same activations."""
        return self.by_layer(X[:, None])

    def by_layer(
        self, X: Float[Tensor, "token layer feature"]
    ) -> tuple[Float[Tensor, "token row head"], Float[Tensor, "token row head"]]:
        """Values and queries of tokens; each layer has as many rows, one layer behind the other."""
        n_rows, n_heads = self.intercept.shape
        weights = torch.cat([self.value, self.query], 1)
        by_layer = weights.unflatten(0, (X.shape[1], -1)).flatten(1, 2)  # layer (row head) feature
        out = torch.einsum("tlf,lkf->tlk", X, by_layer).reshape(len(X), n_rows, -1)
        values = out[..., :n_heads] + self.intercept
        if not self.query.shape[1]:
            return values, torch.zeros_like(values)
        return values, out[..., n_heads:]

    def take(self, rows: Int[Tensor, " chosen"]) -> "TokenWeights":
        """Some of the rows."""
        return TokenWeights(
            value=self.value[rows], intercept=self.intercept[rows], query=self.query[rows]
        )


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Tokens of examples, one behind the other."""

    X: Shaped[Tensor, "token ..."]
    """Activations."""
    lengths: Int[Tensor, " example"]
    """Tokens of each example."""

    def take(self, index: Int[Tensor, " chosen"]) -> "Examples":
        """Some of the examples."""
        starts = (self.lengths.cumsum(0) - self.lengths)[index]
        lengths = self.lengths[index]
        within = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(
            lengths
        )
        return Examples(X=self.X[starts.repeat_interleave(lengths) + within], lengths=lengths)

    @property
    def mask(self) -> Bool[Tensor, "example pos"]:
        """Which entries of padded examples are tokens."""
        return torch.arange(int(self.lengths.max())) < self.lengths[:, None]

    def padded(
        self, values: Float[Tensor, "token row head"]
    ) -> Float[Tensor, "row example pos head"]:
        """Values of tokens by example, zeros behind its end."""
        mask = self.mask
        out = values.new_zeros(*mask.shape, *values.shape[1:])
        out[mask] = values
        return out.movedim(2, 0)


@dataclass(frozen=True, kw_only=True)
class TokenFit:
    """Weights for the activations of one layer as they came."""

    weights: TokenWeights
    """One row for each class."""
    auroc: Float[Tensor, " target"]
    """Validation AUROC of each class, -inf without validation."""


def fit_tokens(
    examples: Examples,
    targets: Float[Tensor, "target example"],
    held: Bool[Tensor, " example"],
    pooling: Pooling,
    *,
    config: SequenceTraining,
    start: TokenWeights | None = None,
    seed: int = 0,
) -> list[TokenFit]:
    """Train one row of weights for each class, at each layer.

    Args:
        examples: Activations of the tokens, shape (token, layer, feature).
        targets: Labels 0 and 1, one row for each class.
        held: Examples that are held out for early stopping; may be none.
        pooling: The rule.
        config: How to train.
        start: Weights to begin with, at each layer.
        seed: Seed of the weights and of the order of the examples, the same at each layer.

    Returns:
        What was learned at each layer.
    """
    model = _Model(
        examples.take((~held).nonzero()[:, 0]), len(targets), pooling, config, start, seed
    )
    y = targets.repeat(model.n_layers * config.n_seeds, 1)
    validation = examples.take(held.nonzero()[:, 0]) if bool(held.any()) else None
    best = [p.detach().clone() for p in model.parameters]
    top = torch.full((len(y), 2), -torch.inf)
    waited = torch.zeros(model.n_layers, dtype=torch.long)
    draw = generator(seed, "order")
    for epoch in range(config.n_epochs):
        model.train_epoch(y[:, ~held], epoch, draw)
        if validation is None:
            continue
        scores, loss = model.evaluate(validation, y[:, held])
        now = torch.stack([row_auroc(scores, y[:, held]), -loss], 1)
        better = (now[:, 0] > top[:, 0]) | ((now[:, 0] == top[:, 0]) & (now[:, 1] > top[:, 1]))
        better &= (waited < config.patience).repeat_interleave(len(y) // model.n_layers)
        top[better] = now[better]
        for kept, live in zip(best, model.parameters, strict=True):
            kept[better] = live.detach()[better]  # a copy: the live weights go on changing
        waited = torch.where(better.view(model.n_layers, -1).any(1), 0, waited + 1)
        if bool((waited >= config.patience).all()):
            break
    chosen = best if validation is not None else [p.detach() for p in model.parameters]
    rates = top[:, 0].view(model.n_layers, config.n_seeds, -1)
    rows = torch.arange(len(y)).view_as(rates).gather(1, rates.argmax(1, keepdim=True))[:, 0]
    weights = model.unstandardized(chosen)
    return [
        TokenFit(weights=weights.take(index), auroc=rate)
        for index, rate in zip(rows, rates.amax(1), strict=True)
    ]


class _Model:
    """Weights on standardized activations of length about 1, and their optimizer.

    Rows go through the layers, within a layer through the seeds, and then through the classes.
    """

    def __init__(
        self,
        examples: Examples,
        n_targets: int,
        pooling: Pooling,
        config: SequenceTraining,
        start: TokenWeights | None,
        seed: int,
    ) -> None:
        self.examples, self.pooling, self.config = examples, pooling, config
        self.n_layers, d_model = examples.X.shape[1:]
        rows = config.n_seeds * n_targets
        deviation, mean = torch.std_mean(examples.X, 0, correction=0)
        scale = torch.where(deviation > 1e-6, deviation, 1) * math.sqrt(d_model)
        self.mean, self.scale = (x.repeat_interleave(rows, 0)[:, None] for x in (mean, scale))
        draw = generator(seed, "weights")
        value = 0.1 * torch.randn((rows, pooling.n_heads, d_model), generator=draw)
        n_queries = pooling.n_heads if pooling.has_queries else 0
        query = 0.1 * torch.randn((rows, n_queries, d_model), generator=draw)
        intercept, copies = torch.zeros(rows, pooling.n_heads), self.n_layers
        if start is not None:
            value, query, intercept = start.value, start.query, start.intercept
            copies *= config.n_seeds
        value, query = (x.repeat(copies, 1, 1) for x in (value, query))
        intercept = intercept.repeat(copies, 1)
        if start is not None:
            intercept = intercept + (value * self.mean).sum(-1)
            value, query = value * self.scale, query * self.scale
        self.parameters = [p.requires_grad_() for p in (value, intercept, query)]
        decayed = {"params": [value, query], "weight_decay": config.weight_decay}
        free = {"params": [intercept], "weight_decay": 0.0}
        self.optimizer = torch.optim.AdamW([decayed, free], lr=config.learning_rate)

    def unstandardized(self, parameters: list[Tensor]) -> TokenWeights:
        """Weights for activations as they came."""
        value, intercept, query = parameters
        value = value / self.scale
        return TokenWeights(
            value=value,
            intercept=intercept - (value * self.mean).sum(-1),
            query=query / self.scale,
        )

    def forward(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Values and logits by example."""
        values, queries = self.unstandardized(self.parameters).by_layer(examples.X)
        values, queries = examples.padded(values), examples.padded(queries)
        return values, self.pooling.logits(values, queries)

    def train_epoch(
        self, targets: Float[Tensor, "row example"], epoch: int, draw: torch.Generator
    ) -> None:
        """One pass over the examples."""
        config = self.config
        weights = torch.ones_like(targets)
        if config.balanced:
            share = targets.mean(1, keepdim=True).clamp(1e-6, 1 - 1e-6)
            weights = torch.where(targets > 0, 0.5 / share, 0.5 / (1 - share))
        order = torch.randperm(targets.shape[1], generator=draw).split(config.batch_size)
        for step, index in enumerate(order):
            done = (epoch + step / len(order)) / config.n_epochs
            for group in self.optimizer.param_groups:
                cosine = (1 + math.cos(math.pi * done)) / 2
                group["lr"] = config.learning_rate * (0.02 + 0.98 * cosine)
            batch = self.examples.take(index)
            losses = self.pooling.loss(*self.forward(batch), batch.mask, targets[:, index])
            self.optimizer.zero_grad()
            (losses * weights[:, index]).mean(1).sum().backward()
            _clip_rows(self.parameters)
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self, examples: Examples, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and mean losses of each row."""
        values, logits = self.forward(examples)
        losses = self.pooling.loss(values, logits, examples.mask, targets)
        return self.pooling.pooled(values, logits, examples.mask), losses.mean(1)


def row_auroc(
    scores: Float[Tensor, "row example"], targets: Float[Tensor, "row example"]
) -> Float[Tensor, " row"]:
    """AUROC of each row by ranks; 1/2 where a class is missing."""
    ranks = scores.argsort(1).argsort(1).to(scores) + 1
    n_positive = targets.sum(1)
    n_negative = targets.shape[1] - n_positive
    wins = (ranks * targets).sum(1) - n_positive * (n_positive + 1) / 2
    return (wins / (n_positive * n_negative)).nan_to_num(0.5, posinf=0.5, neginf=0.5)


def _clip_rows(parameters: list[Tensor]) -> None:
    """Scale the gradient of each row to norm 1 at most."""
    gradients = [p.grad for p in parameters if p.grad is not None and p.numel()]
    squares = torch.stack([g.square().flatten(1).sum(1) for g in gradients])
    factor = (1 / squares.sum(0).sqrt().clamp(min=1e-12)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
