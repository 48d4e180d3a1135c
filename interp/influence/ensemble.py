"""Training the same model many times at once: the runs differ by their seeds only.

A seed gives the initial parameters and the batches. Batches are drawn with replacement, and the
loss of a batch is divided by its size whatever the weights of its examples, so that the weight of
an example enters every step linearly. When examples are left out, the draws stay and only those
that hit a missing example are drawn again (common random numbers): each run has the law of training
on the reduced set, and the difference to the full set has far less noise.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import grad, vmap

from interp.core.seeds import generator
from interp.influence.problem import Problem, Queries
from interp.training.optimizers import Optimizer, Schedule, Sgd, linear_decay

Trajectory = Literal["end", "checkpoints", "whole"]
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From the state of a run, and inputs, targets and weights of a batch, to the next state."""
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Training:
    """How each run is trained."""

    n_steps: int = 400
    """Steps of the optimizer."""
    batch_size: int | None = 32
    """Examples of a batch, drawn with replacement; `None` takes all examples at every step."""
    lr: float = 0.5
    """Step size at the beginning."""
    schedule: Schedule = linear_decay
    """How the step size changes."""
    optimizer: Optimizer = field(default_factory=Sgd)
    """The rule of a step."""
    initial: Literal["drawn", "kept"] = "drawn"
    """Whether each run draws its parameters or begins with those of the model (fine-tuning)."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.n_steps < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(
                f"n_steps={self.n_steps}, batch_size={self.batch_size}: needed 1 or more of each"
            )
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr!r}: needed a positive number")

    def lr_at(self, step: int) -> float:
        """Step size of a step, counted from 0."""
        return self.lr * self.schedule(step / self.n_steps)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Which examples the runs see."""

    indices: Int[Tensor, "step run place"]
    """Examples of each batch."""
    weights: Float[Tensor, "run example"]
    """Factor of each example's loss: its weight, times N/(N-K) where a full batch leaves out K."""

    def at(self, problem: Problem, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets (run, place, ...) and weights (run, place) of one step."""
        rows = self.indices[step]
        return problem.inputs[rows], problem.targets[rows], self.weights.gather(1, rows)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Trained runs, and as much of their way there as was kept."""

    problem: Problem
    """What was trained."""
    training: Training
    """How."""
    seeds: tuple[int, ...]
    """Seed of each run."""
    batches: Batches
    """What each run saw."""
    states: Mapping[int, Float[Tensor, "run slot parameter"]]
    """States by the number of steps before them; the last is the end of training."""

    @property
    def parameters(self) -> Float[Tensor, "run parameter"]:
        """Trained parameters."""
        return self.states[self.training.n_steps][:, 0]

    def measure(self, queries: Queries) -> Float[Tensor, "run query"]:
        """Measurement of each run at each query."""
        return vmap(lambda theta: self.problem.measured(theta, queries))(self.parameters)

    def advance(self, state: Float[Tensor, "run slot parameter"], step: int) -> Tensor:
        """States of all runs after a step."""
        inputs, targets, weights = self.batches.at(self.problem, step)
        take = step_of(self.problem, self.training, step)
        return vmap(take)(state, inputs, targets, weights)

    @property
    def first(self) -> Float[Tensor, "run slot parameter"]:
        """States before training.

        Raises:
            ValueError: If the ensemble kept only the end of training.
        """
        if 0 not in self.states:
            raise ValueError(
                "the ensemble kept only its end, and unrolling needs the way there; train it with "
                'trajectory="checkpoints"'
            )
        return self.states[0]

    def backward(self) -> Iterator[tuple[int, Float[Tensor, "run slot parameter"]]]:
        """Each step and the states before it, from the last step to the first.

        What lies between two kept states is computed again from the earlier one.
        """
        assert len(self.first) == len(self.seeds), "kept from the beginning"
        kept = sorted(self.states)
        for start, stop in zip(kept[-2::-1], kept[:0:-1], strict=True):
            states = [self.states[start]]
            for step in range(start, stop - 1):
                states.append(self.advance(states[-1], step))
            yield from zip(range(stop - 1, start - 1, -1), reversed(states), strict=True)


def train_ensemble(
    problem: Problem,
    training: Training,
    *,
    seeds: Sequence[int],
    keep: Bool[Tensor, " example"] | None = None,
    weights: Float[Tensor, " example"] | None = None,
    trajectory: Trajectory = "checkpoints",
    max_gib: float = 2.0,
) -> Ensemble:
    """Train one run for each seed, all at once.

    Args:
        problem: What to train.
        training: How.
        seeds: One for each run. A seed means the same run in every ensemble.
        keep: Examples to train on; all by default.
        weights: Weight of each example's loss; 1 by default.
        trajectory: What to keep: the end, the root of the number of steps (from which the rest is
            computed again), or every state.
        max_gib: Most memory that kept states may take, in GiB.

    Raises:
        MemoryError: If the trajectory takes more than that; the message says what to choose.
        FloatingPointError: If a run diverges.
        ValueError: If there are no seeds or nothing is kept to train on.
    """
    _check_memory(problem, training, len(seeds), trajectory, max_gib)
    batches = draw_batches(problem, training, seeds, keep, weights)
    return _train(problem, training, seeds, batches, _kept_steps(training.n_steps, trajectory))


def measure_runs(
    problem: Problem,
    training: Training,
    queries: Queries,
    *,
    seeds: Sequence[int],
    keep: Bool[Tensor, "run example"],
) -> Float[Tensor, "run query"]:
    """Train runs on training sets of their own and measure them; nothing else is kept.

    Args:
        problem: What to train.
        training: How.
        queries: Where the runs are measured.
        seeds: Seed of each run; runs of one seed share initial parameters and draws.
        keep: Examples of each run.

    Raises:
        FloatingPointError: If a run diverges.
        ValueError: If a run has nothing to train on.
    """
    batches = draw_batches(problem, training, seeds, keep)
    return _train(problem, training, seeds, batches, set()).measure(queries)


def draw_batches(
    problem: Problem,
    training: Training,
    seeds: Sequence[int],
    keep: Bool[Tensor, "... example"] | None = None,
    weights: Float[Tensor, " example"] | None = None,
) -> Batches:
    """Batches of the runs, without the examples that are not kept."""
    n, device = problem.n_examples, problem.inputs.device
    kept = torch.ones(n, dtype=torch.bool, device=device) if keep is None else keep
    kept = kept.expand(len(seeds), n)
    if not seeds or not kept.any(1).all():
        raise ValueError(
            f"{len(seeds)} seeds, of which {int((~kept.any(1)).sum())} keep no example: needed a "
            "seed or more, and something to train on"
        )
    example_weights = torch.ones(n, device=device) if weights is None else weights
    example_weights = example_weights.to(problem.parameters().dtype).expand(len(seeds), n)
    if training.batch_size is None:
        indices = torch.arange(n, device=device).expand(training.n_steps, len(seeds), n)
        share = kept * (n / kept.sum(1, keepdim=True))  # the mean over what is kept
        return Batches(indices=indices, weights=example_weights * share)
    shape = (training.n_steps, training.batch_size)
    drawn = {seed: _draws(shape, n, seed, device) for seed in set(seeds)}
    runs = [_redrawn(*drawn[seed], members) for seed, members in zip(seeds, kept, strict=True)]
    return Batches(indices=torch.stack(runs, 1), weights=example_weights)


def step_of(problem: Problem, training: Training, step: int) -> Step:
    """The step of one run as a pure function."""
    lr = training.lr_at(step)

    def take(state: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        gradient = grad(lambda theta: (weights * problem.losses(theta, inputs, targets)).mean())
        return training.optimizer.step(state, gradient(state[0]), lr=lr, count=step + 1)

    return take


def _draws(
    shape: tuple[int, int], n: int, seed: int, device: torch.device
) -> tuple[Int[Tensor, "step place"], Float[Tensor, "step place"]]:
    """Examples of a run's batches, and the numbers that replace those that are missing."""
    random = generator(seed, "batches", device=device)
    first = torch.randint(0, n, shape, generator=random, device=device)
    return first, torch.rand(shape, generator=random, device=device)


def _redrawn(
    first: Int[Tensor, "step place"],
    again: Float[Tensor, "step place"],
    kept: Bool[Tensor, " example"],
) -> Int[Tensor, "step place"]:
    members = kept.nonzero()[:, 0]
    other = members[(again * len(members)).long().clamp(max=len(members) - 1)]
    return torch.where(kept[first], first, other)


def _train(
    problem: Problem,
    training: Training,
    seeds: Sequence[int],
    batches: Batches,
    kept_steps: set[int],
) -> Ensemble:
    initial = {s: problem.draw(s) for s in set(seeds)} if training.initial == "drawn" else {}
    theta = torch.stack([initial[s] if initial else problem.parameters() for s in seeds])
    state = torch.zeros(len(seeds), training.optimizer.n_slots, theta.shape[1]).to(theta)
    state[:, 0] = theta
    states: dict[int, Tensor] = {}
    ensemble = Ensemble(
        problem=problem, training=training, seeds=tuple(seeds), batches=batches, states=states
    )
    checked = _kept_steps(training.n_steps, "checkpoints")
    for step in range(training.n_steps):
        if step in kept_steps:
            states[step] = state
        state = ensemble.advance(state, step)
        if step + 1 in checked:
            _check_finite(state, seeds, step + 1)
    states[training.n_steps] = state
    return ensemble


def _kept_steps(n_steps: int, trajectory: Trajectory) -> set[int]:
    if trajectory == "end":
        return {n_steps}
    spacing = 1 if trajectory == "whole" else math.ceil(math.sqrt(n_steps))
    return {*range(0, n_steps, spacing), n_steps}


def _check_memory(
    problem: Problem, training: Training, n_runs: int, trajectory: Trajectory, max_gib: float
) -> None:
    one = n_runs * training.optimizer.n_slots * problem.n_parameters
    one *= problem.parameters().element_size() / _GIB
    needed = {
        name: one * len(_kept_steps(training.n_steps, name))
        for name in ("end", "checkpoints", "whole")
    }
    if needed[trajectory] <= max_gib:
        return
    fitting = [name for name in ("checkpoints", "end") if needed[name] <= max_gib]
    choice = f'trajectory="{fitting[0]}" ({needed[fitting[0]]:.3g} GiB), ' if fitting else ""
    raise MemoryError(
        f'trajectory="{trajectory}" of {n_runs} runs needs {needed[trajectory]:.3g} GiB, more than '
        f"max_gib={max_gib:g}; choose {choice}fewer seeds at a time, or a larger max_gib"
    )


def _check_finite(
    state: Float[Tensor, "run slot parameter"], seeds: Sequence[int], step: int
) -> None:
    broken = [s for s, ok in zip(seeds, state.isfinite().flatten(1).all(1), strict=True) if not ok]
    if broken:
        raise FloatingPointError(
            f"{len(broken)} of {len(seeds)} runs are not finite after {step} steps (seeds "
            f"{broken[:5]}); lower lr, or look for infinite inputs"
        )
