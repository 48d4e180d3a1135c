"""The loop: networks of many runs trained at once, each on images of its own.

A loss is a function of one network and one `Step`; `torch.func` maps it over the runs. A run whose
loss or gradient is not finite stops there and keeps its last good weights; the others go on.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from interp.core.seeds import generator
from interp.training.optimizers import AdamW, Schedule, constant, cosine_decay
from interp.training.vision.networks import Network, Networks
from interp.training.vision.tasks import Images, Task


@dataclass(frozen=True)
class Batch:
    """Images of one step."""

    x: Tensor
    """Pixels, (example, 1, side, side)."""
    y: Tensor
    """Labels, (example,)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a loss sees of one run besides the network that it trains."""

    retain: Batch
    """Images that are kept; in plain training the images that are trained on."""
    forget: Batch
    """Images that are forgotten; in plain training the same as `retain`."""
    wrong: Tensor
    """For each image of `forget` a label drawn among the other classes."""
    start: Network
    """The network before forgetting, to be used on the same batches."""
    share: float
    """Share of the steps that are done after this one, in (0, 1]."""


Loss = Callable[[Network, Step], Tensor]


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """How long and how fast to train."""

    n_epochs: int
    """Passes over the retained images."""
    lr: float
    """Step size of Adam at the beginning."""
    batch_size: int = 128
    """Images of a batch."""
    schedule: Schedule = constant
    """How the step size changes."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n_epochs < 1 or self.batch_size < 1 or not self.lr > 0:
            raise ValueError(
                f"n_epochs={self.n_epochs}, batch_size={self.batch_size}, lr={self.lr!r}: needed "
                "1 or more, 1 or more, and a positive number"
            )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Networks after training."""

    networks: Networks
    """The trained networks; a run that stopped has its last good weights."""
    n_steps: Int[Tensor, " run"]
    """Steps that each run made."""


def cross_entropy_on_retain(network: Network, step: Step) -> Tensor:
    """Mean cross entropy on the retained images."""
    return cross_entropy(network(step.retain.x).logits, step.retain.y)


def decayed(loss: Loss, strength: float) -> Loss:
    """A loss with the penalty strength/2 |theta|^2, which is the weight decay of plain Adam."""
    return partial(_decayed, loss, strength=strength)


def _decayed(loss: Loss, network: Network, step: Step, *, strength: float) -> Tensor:
    return loss(network, step) + strength / 2 * network.weights.square().sum()


def train_on(
    networks: Networks,
    images: Images,
    rows: Sequence[Int[Tensor, " _"]],
    how: Schedules,
    *,
    loss: Loss = cross_entropy_on_retain,
    n_steps: int | None = None,
    seeds: Sequence[int],
) -> Trained:
    """Train each network on images of its own.

    Args:
        networks: Where training begins.
        images: All images.
        rows: Which of them each run is trained on; runs may have different numbers.
        how: How to train.
        loss: What to minimize; it sees the images as `retain`.
        n_steps: Number of steps; by default as many passes over the first run's images as `how`
            says.
        seeds: Seed of the order of each run.

    Raises:
        ValueError: If a run has nothing to train on.
    """
    n_steps = passes(len(rows[0]), how) if n_steps is None else n_steps
    batches = draw_batches(rows, n_steps, how.batch_size, seeds, "order")
    loop = _Loop(networks, images, how, n_steps)
    for step in range(n_steps):
        loop.step(loss, batches[step], batches[step][:, :1])
    return loop.trained()


def train_to_forget(
    networks: Networks,
    task: Task,
    how: Schedules,
    *,
    loss: Loss,
    forget_pass: Loss | None = None,
    start: Networks | None = None,
    seeds: Sequence[int],
) -> Trained:
    """Minimize a loss of retained and forgotten images.

    Args:
        networks: Where training begins.
        task: What each run keeps and forgets.
        how: How to train.
        loss: Minimized over passes over the retained images.
        forget_pass: Minimized in a pass over the forgotten images before each of those.
        start: The networks that losses compare with; by default `networks`.
        seeds: Seed of the batches of each run.
    """
    per_pass = passes(task.retain.shape[1], replace(how, n_epochs=1))
    extra = passes(task.forget.shape[1], replace(how, n_epochs=1)) if forget_pass else 0
    n_steps = how.n_epochs * (per_pass + extra)
    retain = draw_batches(list(task.retain), n_steps, how.batch_size, seeds, "retain")
    size = min(how.batch_size, task.forget.shape[1])
    forget = draw_batches(list(task.forget), n_steps, size, seeds, "forget")
    loop = _Loop(networks, task.images, how, n_steps, start=start, seeds=seeds)
    for step in range(n_steps):
        forgets = step % (per_pass + extra) < extra
        loop.step(forget_pass if forget_pass and forgets else loss, retain[step], forget[step])
    return loop.trained()


def passes(n_images: int, how: Schedules) -> int:
    """Steps of the passes that are asked for, where a rest smaller than a batch is left out."""
    return how.n_epochs * max(1, n_images // how.batch_size)


def draw_batches(
    rows: Sequence[Int[Tensor, " _"]],
    n_steps: int,
    batch_size: int,
    seeds: Sequence[int],
    name: str,
) -> Int[Tensor, "step run place"]:
    """Images of each step: one random order of a run's images after the other, cut into batches."""
    if not all(map(len, rows)):
        raise ValueError("a run has no images: needed one or more for each run")
    runs = []
    for own, seed in zip(rows, seeds, strict=True):
        random, needed = generator(seed, name), n_steps * batch_size
        orders = [torch.randperm(len(own), generator=random) for _ in range(-(-needed // len(own)))]
        runs.append(own[torch.cat(orders)[:needed]].view(n_steps, batch_size))
    return torch.stack(runs, 1)


class _Loop:
    """State of training."""

    def __init__(
        self,
        networks: Networks,
        images: Images,
        how: Schedules,
        n_steps: int,
        *,
        start: Networks | None = None,
        seeds: Sequence[int] = (),
    ) -> None:
        self._networks, self._images, self._how, self._n_steps = networks, images, how, n_steps
        self._start = networks if start is None else start
        self._optimizer = AdamW()
        self._state = torch.zeros(len(networks), 3, networks.weights.shape[1])
        self._state[:, 0] = networks.weights
        self._statistics = networks.statistics
        self._count = 0
        self._done = torch.zeros(len(networks), dtype=torch.long)
        self._random = [generator(seed, "labels") for seed in seeds]

    def step(self, loss: Loss, retain: Tensor, forget: Tensor) -> None:
        """One step of every run that has not stopped."""
        self._count += 1
        lr = self._how.lr * self._how.schedule((self._count - 1) / self._n_steps)
        take = self._taken(loss, lr)
        state, statistics, good = vmap(take)(
            self._state, self._statistics, self._start.weights, self._start.statistics,
            self._images.pixels[retain], self._images.labels[retain],
            self._images.pixels[forget], self._images.labels[forget], self._wrong(forget),
        )  # fmt: skip
        good = good & (self._done == self._count - 1)
        self._state = torch.where(good[:, None, None], state, self._state)
        self._statistics = torch.where(good[:, None], statistics, self._statistics)
        self._done += good

    def _taken(self, loss: Loss, lr: float) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """The step of one run as a pure function."""
        cnn, count, share = self._networks.cnn, self._count, self._count / self._n_steps

        def take(
            state: Tensor, statistics: Tensor, start: Tensor, start_statistics: Tensor, *b: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            def objective(weights: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
                network = Network(cnn, weights, statistics, training=True)
                before = Network(cnn, start, start_statistics, training=True)
                step = Step(
                    retain=Batch(b[0], b[1]), forget=Batch(b[2], b[3]), wrong=b[4],
                    start=before, share=share,
                )  # fmt: skip
                value = loss(network, step)
                return value, (value.detach(), network.statistics)

            gradient, (value, after) = grad(objective, has_aux=True)(state[0])
            good = value.isfinite() & gradient.isfinite().all() & after.isfinite().all()
            return self._optimizer.step(state, gradient, lr=lr, count=count), after, good

        return take

    def _wrong(self, forget: Tensor) -> Tensor:
        """Labels among the other classes."""
        n = self._networks.cnn.n_classes
        if not self._random:
            return self._images.labels[forget]
        shift = [torch.randint(1, n, (forget.shape[1],), generator=r) for r in self._random]
        return (self._images.labels[forget] + torch.stack(shift)) % n

    def trained(self) -> Trained:
        """The networks, with a warning for runs that stopped."""
        if stopped := (self._done < self._count).nonzero()[:, 0].tolist():
            warnings.warn(
                f"{len(stopped)} of {len(self._done)} runs stopped, as the loss or its gradient "
                f"was not finite (the first is run {stopped[0]}, after "
                f"{int(self._done[stopped[0]])} of {self._count} steps); they keep their last good "
                "weights; lower the learning rate",
                stacklevel=3,
            )
        networks = replace(
            self._networks, weights=self._state[:, 0].contiguous(), statistics=self._statistics
        )
        return Trained(networks=networks, n_steps=self._done)


PRETRAINING = Schedules(n_epochs=40, lr=2e-3, schedule=cosine_decay)
"""How networks are trained before they forget, and how they are retrained."""
