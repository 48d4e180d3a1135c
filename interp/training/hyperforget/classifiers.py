"""Small classifiers of which many are trained at once, with weights that read as tokens.

A perceptron with one hidden layer. Each hidden unit is a token: its incoming weights, its bias and
its outgoing weights; one more token holds the biases of the classes. So the weights of a classifier
are a short sequence, which a transformer can write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy, relu

from interp.core.seeds import generator
from interp.training.optimizers import AdamW
from interp.training.vision.training import draw_batches


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Shape of a classifier."""

    d_in: int = 64
    """Pixels."""
    d_hidden: int = 16
    """Hidden units."""
    n_classes: int = 10
    """Classes."""

    @property
    def d_token(self) -> int:
        """Numbers of a token."""
        return self.d_in + 1 + self.n_classes

    @property
    def n_parameters(self) -> int:
        """Numbers of all tokens; of the last token only the biases of the classes are used."""
        return (self.d_hidden + 1) * self.d_token

    def tokens(self, weights: Float[Tensor, "run parameter"]) -> Float[Tensor, "run token d_token"]:
        """The weights as tokens."""
        return weights.unflatten(1, (self.d_hidden + 1, self.d_token))

    def draw(self, seed: int) -> Float[Tensor, " parameter"]:
        """Untrained weights: uniform, as torch draws them, with biases 0."""
        random = generator(seed, "weights")
        rows = torch.rand(self.d_hidden, self.d_token, generator=random) * 2 - 1
        rows[:, : self.d_in] *= self.d_in**-0.5
        rows[:, self.d_in] = 0.0
        rows[:, self.d_in + 1 :] *= self.d_hidden**-0.5
        return torch.cat([rows, torch.zeros(1, self.d_token)]).flatten()

    def logits(
        self, weights: Float[Tensor, " parameter"], x: Float[Tensor, "example d_in"]
    ) -> Float[Tensor, "example n_classes"]:
        """Scores of the classes from one classifier."""
        rows = weights.view(self.d_hidden + 1, self.d_token)
        units, last = rows[:-1], rows[-1]
        hidden = relu(x @ units[:, : self.d_in].T + units[:, self.d_in])
        return hidden @ units[:, self.d_in + 1 :] + last[self.d_in + 1 :]

    @torch.no_grad()
    def class_losses(
        self,
        weights: Float[Tensor, "run parameter"],
        x: Float[Tensor, "example d_in"],
        y: Int[Tensor, " example"],
    ) -> Float[Tensor, "run n_classes"]:
        """Mean cross entropy, in nats, of each run on each class."""
        member = torch.nn.functional.one_hot(y, self.n_classes).to(x.dtype)
        losses = [cross_entropy(self.logits(w, x), y, reduction="none") for w in weights]
        return torch.stack(losses) @ (member / member.sum(0))

    @torch.no_grad()
    def class_accuracies(
        self,
        weights: Float[Tensor, "run parameter"],
        x: Float[Tensor, "example d_in"],
        y: Int[Tensor, " example"],
    ) -> Float[Tensor, "run n_classes"]:
        """Share of right answers of each run on each class."""
        member = torch.nn.functional.one_hot(y, self.n_classes).to(x.dtype)
        right = [(self.logits(w, x).argmax(1) == y).to(x.dtype) for w in weights]
        return torch.stack(right) @ (member / member.sum(0))


def train_classifiers(
    mlp: Mlp,
    weights: Float[Tensor, "run parameter"],
    x: Float[Tensor, "example d_in"],
    y: Int[Tensor, " example"],
    *,
    rows: Sequence[Int[Tensor, " _"]],
    class_weights: Float[Tensor, "run n_classes"],
    kept_steps: Sequence[int],
    lr: float = 3e-3,
    batch_size: int = 64,
    seeds: Sequence[int],
) -> Float[Tensor, "kept run parameter"]:
    """Train all classifiers at once by Adam on weighted cross entropy.

    Args:
        mlp: Their shape.
        weights: Where training begins.
        x: Images.
        y: Their classes.
        rows: Images of each run.
        class_weights: Weight of each class in the loss of each run.
        kept_steps: Steps, in rising order, after which weights are returned.
        lr: Step size.
        batch_size: Images of a batch.
        seeds: Seed of the batches of each run.

    Raises:
        FloatingPointError: If a run diverges.
        ValueError: If a run has no images.
    """
    batches = draw_batches(rows, kept_steps[-1], batch_size, seeds, "order")
    optimizer = AdamW()
    state = torch.zeros(len(weights), 3, mlp.n_parameters)
    state[:, 0] = weights

    def loss(theta: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return (weight * cross_entropy(mlp.logits(theta, x), y, reduction="none")).mean()

    def take(count: int, state: Tensor, x: Tensor, y: Tensor, by_class: Tensor) -> Tensor:
        gradient = grad(loss)(state[0], x, y, by_class[y])
        return optimizer.step(state, gradient, lr=lr, count=count)

    kept = []
    for count, batch in enumerate(batches, start=1):
        state = vmap(partial(take, count))(state, x[batch], y[batch], class_weights)
        if count in kept_steps:
            kept.append(state[:, 0].clone())
    if not bool(kept[-1].isfinite().all()):
        raise FloatingPointError("a classifier diverged: lower lr, or look for infinite inputs")
    return torch.stack(kept)
