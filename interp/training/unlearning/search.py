"""Unlearning to a budget: every method goes as far as the same disruption allows.

After step t of N the KL divergence on neutral texts may be `budget * (t / N) ** 2`, which is what
equal steps in one direction give to second order. The size of each step is searched so that this is
met, the last one to within the tolerance. So every method ends at its budget, by the way that it
chose itself; how large its authors' steps were does not matter. Matched disruption on these texts
is not matched disruption on all texts: report the divergence on others too.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from interp.core.model import HookedModel
from interp.training.loop import Batch, Example, TokenPair, encode_all, pad
from interp.training.unlearning.methods import Method, is_mlp
from interp.training.unlearning.task import Budget, Disruption, Task
from interp.training.unlearning.transforms import Gradients, norm, write

MAX_TRIES = 14
"""Sizes that are tried for a step."""
SLACK = 0.4
"""Share of its budget that a step before the last may leave unused."""


@dataclass(frozen=True, kw_only=True)
class UnlearningResult:
    """An unlearned model and how it came about."""

    model: HookedModel
    """The model, in the last valid state."""
    kl: float
    """KL divergence from the original on the neutral texts, in nats per token."""
    kl_by_step: Float[np.ndarray, " step"]
    """The divergence after each step."""
    step_sizes: Float[np.ndarray, " step"]
    """How far each step went: Euclidean length of the change of the weights."""
    met: bool
    """Whether the divergence is within the tolerance of the budget."""
    stopped: str | None
    """Why the run ended early, `None` if it did not."""
    budget: Budget
    """What was allowed."""
    seed: int
    """The seed."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each step."""
        steps = np.arange(len(self.kl_by_step))
        return pd.DataFrame({"step": steps, "kl": self.kl_by_step, "size": self.step_sizes})


def unlearn(
    model: HookedModel,
    forget: Sequence[Example],
    retain: Sequence[Example],
    *,
    method: Method,
    budget: Budget,
    seed: int = 0,
    weights: Callable[[str, nn.Parameter], bool] = is_mlp,
    batch_size: int = 16,
    inplace: bool = False,
) -> UnlearningResult:
    """Make a copy of a model forget some answers and keep others, within a budget.

    Memory beside the copy, in units of the weights that change: two for the search, and what the
    method keeps (two for Adam, two for MUDMAN and RepSelect), besides the references.

    Args:
        model: A language model that knows the answers.
        forget: What to forget.
        retain: What to keep; nothing that is to be forgotten.
        method: Says which way to go.
        budget: How much may change for neutral texts.
        seed: Seed of what the method draws.
        weights: Which weights change, by name and value; the unembedding must not.
        batch_size: Examples of a batch; every step sees one of each set.
        inplace: Change the model itself. When interrupted it gets its weights back.

    Returns:
        The model in its last valid state. Where a loss was not finite or the budget could not be
        reached, `stopped` says so, with a warning.

    Raises:
        ValueError: If a set is empty, both share an example, or no weight is chosen.
    """
    _refuse_overlap(forget, retain)
    pairs = encode_all(model, forget), encode_all(model, retain)
    unlearned = model if inplace else _copied(model)
    chosen = {n: w for n, w in unlearned.module.named_parameters() if weights(n, w)}
    if not chosen:
        raise ValueError("weights chooses none of the model's weights: nothing could be unlearned")
    batches = [_batches(part, batch_size, model.device) for part in pairs]
    disruption = Disruption(model, budget.texts, max_tokens=budget.max_tokens)
    task = Task(model=unlearned, weights=chosen, forget=batches[0], retain=batches[1], seed=seed)
    with _only_trainable(unlearned.module, chosen, restore=inplace):
        run = _Run(task, method, disruption, budget)
        stopped = run.run()
    kl = run.kl[-1] if run.kl else 0.0
    met = (1 - budget.tolerance) * budget.kl <= kl <= budget.kl
    if stopped is None and not met:
        stopped = f"no step size reaches the budget of {budget.kl:g} nats"
    if stopped is not None:
        warnings.warn(f"{stopped}: kept the state at {kl:.3g} nats", stacklevel=2)
    return UnlearningResult(
        model=unlearned,
        kl=kl,
        kl_by_step=np.array(run.kl, dtype=float),
        step_sizes=np.array(run.sizes, dtype=float),
        met=met,
        stopped=stopped,
        budget=budget,
        seed=seed,
    )


class _Run:
    """The steps of a method, each as large as the budget allows."""

    def __init__(self, task: Task, method: Method, disruption: Disruption, budget: Budget) -> None:
        self._task, self._method = task, method
        self._disruption, self._budget = disruption, budget
        self.kl: list[float] = []
        self.sizes: list[float] = []

    def run(self) -> str | None:
        """All steps; why they ended early, if they did."""
        n = self._method.n_steps
        for step in range(n):
            try:
                direction = self._method.direction(self._task, step)
            except FloatingPointError as error:
                return f"{error} at step {step}"
            length = norm(direction)
            if not np.isfinite(length):
                return f"the gradient is not finite at step {step}"
            if length == 0:
                return f"the gradient is zero at step {step}"
            limit = self._budget.kl * ((step + 1) / n) ** 2
            slack = self._budget.tolerance if step == n - 1 else SLACK
            self._search(direction, length, limit, slack)
        return None

    @torch.no_grad()
    def _search(self, direction: Gradients, length: float, limit: float, slack: float) -> None:
        """Go along a direction until the divergence is just below the limit."""
        weights, model = self._task.weights, self._task.model
        before = {name: weight.detach().clone() for name, weight in weights.items()}

        tried = 0.0

        def divergence(size: float) -> float:
            nonlocal tried
            tried = size
            for name, weight in weights.items():
                torch.add(before[name], direction[name], alpha=-size / length, out=weight.data)
            return self._disruption.kl(model)

        start = self.sizes[-1] if self.sizes and self.sizes[-1] > 0 else 2e-3 * norm(before)
        current = self.kl[-1] if self.kl else 0.0
        size, kl = fit_size(divergence, limit, slack=slack, start=start, zero=current)
        if size == 0:
            write(weights, before)
        elif size != tried:
            divergence(size)
        self.kl.append(kl)
        self.sizes.append(size)


def fit_size(
    divergence: Callable[[float], float],
    limit: float,
    *,
    slack: float,
    start: float,
    zero: float = 0.0,
) -> tuple[float, float]:
    """The largest step, nearly, whose divergence stays within a limit.

    Args:
        divergence: From the size of a step to what it does.
        limit: What is allowed.
        slack: Share of the limit that may stay unused.
        start: Size that is tried first.
        zero: Divergence of no step, which is within the limit.

    Returns:
        The size and its divergence; size 0 if no size that was tried is within the limit.
    """
    low, low_kl, high, size = 0.0, zero, np.inf, start
    power, last = 2.0, None  # of the size, to second order; then as the last two tries say
    for _ in range(MAX_TRIES):
        kl = divergence(size)
        if kl <= limit:  # false for NaN, as it should be
            low, low_kl = size, kl
            if kl >= (1 - slack) * limit:
                break
        else:
            high = size
        if last is not None and kl > 0 < last[1]:
            power = float(np.log(kl / last[1]) / np.log(size / last[0]))
        last = size, kl
        aim = (1 - slack / 2) * limit
        ratio = (aim / kl) ** (1 / power) if kl > 0 and power > 0 else 8.0
        guess = size * min(8.0, max(1 / 8, ratio))
        inside = low < guess < high
        if not inside or not np.isfinite(guess):
            guess = (low + high) / 2 if np.isfinite(high) else 8 * size
        size = float(guess)
    return low, low_kl


def _refuse_overlap(forget: Sequence[Example], retain: Sequence[Example]) -> None:
    for name, examples in (("forget", forget), ("retain", retain)):
        if not examples:
            raise ValueError(f"{name} is empty: needed at least one example")
    shared = [one for one in forget if one in set(retain)]
    if shared:
        raise ValueError(
            f"{len(shared)} examples are in both forget and retain, such as {shared[0].prompt!r}: "
            "take them out of one"
        )


def _copied(model: HookedModel) -> HookedModel:
    module = copy.deepcopy(model.module)
    return HookedModel(module, tokenizer=model.tokenizer, name=f"{model.name}-unlearned")


def _batches(pairs: Sequence[TokenPair], size: int, device: torch.device) -> tuple[Batch, ...]:
    return tuple(pad(pairs[k : k + size], device) for k in range(0, len(pairs), size))


@contextmanager
def _only_trainable(
    module: nn.Module, chosen: dict[str, nn.Parameter], *, restore: bool
) -> Iterator[None]:
    """Gradients only where they are needed; after an exception the old weights, if wanted."""
    flags = {name: weight.requires_grad for name, weight in module.named_parameters()}
    old = {n: w.detach().clone() for n, w in chosen.items()} if restore else {}
    try:
        for name, weight in module.named_parameters():
            weight.requires_grad_(name in chosen)
        yield
    except BaseException:
        if restore:
            write(chosen, old)
        raise
    finally:
        for name, weight in module.named_parameters():
            weight.requires_grad_(flags[name])
