"""Conditional steering: a gate decides for each example of a batch whether to steer it.

The decision is made on the prompt, at a layer at or below the steered ones, once for each example:
in cached decoding while the prompt is read, without a cache from the same prompt positions in every
pass, so that both give the same text. CAST (Lee et al. 2025, 2409.05907) is the gate with
`cast_similarity`; a probe's score is any other function. Gates join: `harmful & ~fiction`.

A gate is as good as its score: on prompts unlike those that set its threshold it is a guess.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.activations import Activations
from interp.core.directions import Direction
from interp.core.hooks import Call, Hookable
from interp.core.positions import selected
from interp.core.sites import Site

Score = Callable[[Tensor], Tensor]
"""From one vector for each example, shape (batch, feature), to one number, shape (batch,)."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Opens for the examples whose prompt scores on the right side of a threshold."""

    score: Score
    """Function of the mean activation of each prompt."""
    threshold: float
    """Where the gate opens."""
    layer: int
    """Layer at which the prompt is read: at or below the steered layers."""
    site: str = "resid_post"
    """Name of the site."""
    opens: Literal["above", "below"] = "above"
    """On which side of the threshold it is open."""
    skip_first: bool = True
    """Leave the first token out of the mean: its activations are unlike all others."""

    def __and__(self, other: "Gate | JoinedGate") -> "JoinedGate":
        """Open where both are."""
        return JoinedGate((self, other), "all")

    def __or__(self, other: "Gate | JoinedGate") -> "JoinedGate":
        """Open where either is."""
        return JoinedGate((self, other), "any")

    def __invert__(self) -> "Gate":
        """Open where this one is closed; at the threshold itself both are closed."""
        return replace(self, opens="below" if self.opens == "above" else "above")

    @property
    def leaves(self) -> tuple["Gate", ...]:
        """The gate itself, as `JoinedGate` has several."""
        return (self,)

    def decide(self, pooled: Float[Tensor, "batch feature"]) -> Bool[Tensor, " batch"]:
        """Which examples are steered, from the mean activation of each prompt."""
        scores = self.score(pooled.float())
        return scores > self.threshold if self.opens == "above" else scores < self.threshold

    @contextmanager
    def watching(self, model: Hookable) -> Iterator["GateState"]:
        """Read prompts while the model runs, and keep the decision for each example."""
        state = GateState(gate=self)
        (site,) = model.hooks.sites.at(self.site, self.layer)
        with model.hooks.attached(edits=[(site, state.watch)]):
            yield state


@dataclass(frozen=True)
class JoinedGate:
    """Several gates as one: conditions joined by "and" and "or"."""

    parts: tuple["Gate | JoinedGate", ...]
    """The gates, which may read different layers."""
    rule: Literal["all", "any"]
    """Whether all of them must be open, or one is enough."""

    def __and__(self, other: "Gate | JoinedGate") -> "JoinedGate":
        """Open where both are."""
        return JoinedGate((self, other), "all")

    def __or__(self, other: "Gate | JoinedGate") -> "JoinedGate":
        """Open where either is."""
        return JoinedGate((self, other), "any")

    def __invert__(self) -> "JoinedGate":
        """Open where this one is closed: De Morgan."""
        other = "any" if self.rule == "all" else "all"
        return JoinedGate(tuple(~part for part in self.parts), other)

    @property
    def leaves(self) -> tuple[Gate, ...]:
        """The gates that read something."""
        return tuple(leaf for part in self.parts for leaf in part.leaves)

    @contextmanager
    def watching(self, model: Hookable) -> Iterator["JoinedState"]:
        """Read prompts while the model runs, and keep the decision for each example."""
        with ExitStack() as stack:
            states = [stack.enter_context(part.watching(model)) for part in self.parts]
            yield JoinedState(tuple(states), self.rule)


@dataclass(frozen=True)
class JoinedState:
    """The decision of joined gates on the batch that runs now."""

    parts: tuple["GateState | JoinedState", ...]
    """The decisions that are joined."""
    rule: Literal["all", "any"]
    """How."""

    @property
    def is_open(self) -> Bool[Tensor, " batch"] | None:
        """For each example of the batch, whether it is steered; `None` before the first pass."""
        found = [part.is_open for part in self.parts]
        known = [decision for decision in found if decision is not None]
        if len(known) < len(found):
            return None
        stacked = torch.stack(known)
        return stacked.all(dim=0) if self.rule == "all" else stacked.any(dim=0)


@dataclass(kw_only=True)
class GateState:
    """The decision of a gate on the batch that runs now."""

    gate: Gate
    """Which gate."""
    is_open: Bool[Tensor, " batch"] | None = field(default=None)
    """For each example of the batch, whether it is steered; `None` before the first pass."""

    def watch(self, value: Tensor, call: Call) -> Tensor:
        """An edit that changes nothing: it runs before the edits that were attached later."""
        keep = _prompt_tokens(call, value, skip_first=self.gate.skip_first)
        if bool(keep.any(dim=-1).all()):
            weights = keep.to(torch.float32)
            weights = weights / weights.sum(-1, keepdim=True)
            pooled = torch.einsum("bp,bpf->bf", weights, value.detach().flatten(2).float())
            self.is_open = self.gate.decide(pooled)
        elif self.is_open is None or len(self.is_open) != len(value):
            raise ValueError(
                "the gate has not seen the prompts of this batch: open it before the prompt is read"
            )
        return value


def _prompt_tokens(call: Call, value: Tensor, *, skip_first: bool) -> Bool[Tensor, "batch pos"]:
    """Tokens of this pass that a gate reads: the prompt, or everything where no end is known."""
    rule = "all" if call.prompt_lengths is None else "prompt"
    keep = selected(rule, call)
    if keep is None:
        return torch.ones(value.shape[:2], dtype=torch.bool, device=value.device)
    if skip_first and call.positions is not None:
        later = keep & (call.positions > 0)
        keep = torch.where(later.any(-1, keepdim=True), later, keep)
    return keep


def cosine_similarity(direction: Direction | Float[Tensor, " feature"]) -> Score:
    """A score: cosine of the prompt's mean activation with a direction."""
    vector = direction.vector if isinstance(direction, Direction) else direction

    def score(pooled: Float[Tensor, "batch feature"]) -> Float[Tensor, " batch"]:
        return torch.cosine_similarity(pooled, vector.to(pooled)[None], dim=-1)

    return score


def cast_similarity(condition: Direction | Float[Tensor, " feature"]) -> Score:
    """The score of CAST: cosine of h with tanh of its projection on the condition vector."""
    vector = condition.vector if isinstance(condition, Direction) else condition

    def score(pooled: Float[Tensor, "batch feature"]) -> Float[Tensor, " batch"]:
        row = vector.to(pooled)
        projected = (pooled @ row / (row @ row))[:, None] * row
        return torch.cosine_similarity(pooled, torch.tanh(projected), dim=-1)

    return score


def fit_gate(
    positive: Activations,
    negative: Activations,
    *,
    score: Callable[[Tensor], Score] = cosine_similarity,
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> Gate:
    """The gate whose threshold separates two sets of prompts best, over layers.

    The condition vector of a layer is the difference of the means of one half of each set; layer
    and threshold are chosen by balanced accuracy on the other half.

    Args:
        positive: Mean activations (without the first token) of prompts that should be steered.
        negative: Mean activations of prompts that should not.
        score: Makes a score from the condition vector, `cosine_similarity` or `cast_similarity`.
        layers: Layers to try; all that were extracted by default.
        seed: Which halves.

    Raises:
        ValueError: If a set has fewer than four examples.
    """
    for name, part in (("positive", positive), ("negative", negative)):
        if len(part) < 4:
            raise ValueError(f"the {name} condition set has {len(part)} prompts: needed 4 or more")
    halves = [_halves(len(part), seed) for part in (positive, negative)]
    best: tuple[float, Gate] | None = None
    for layer in positive.layers if layers is None else layers:
        a, b = (part.at(layer).matrix.float() for part in (positive, negative))
        scorer = score(a[halves[0][0]].mean(0) - b[halves[1][0]].mean(0))
        held_out = scorer(a[halves[0][1]]).numpy(), scorer(b[halves[1][1]]).numpy()
        threshold, accuracy = _best_threshold(*held_out)
        if best is None or accuracy > best[0]:
            gate = Gate(score=scorer, threshold=threshold, layer=layer, site=positive.site)
            best = accuracy, gate
    assert best is not None, "there is at least one layer"
    return best[1]


def _halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]


def _best_threshold(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """The cut with the best balanced accuracy, half way between two scores."""
    scores = np.unique(np.concatenate([positive, negative]))
    cuts = (scores[1:] + scores[:-1]) / 2 if len(scores) > 1 else scores
    above = (positive[:, None] > cuts).mean(0)
    below = (negative[:, None] <= cuts).mean(0)
    best = int(np.argmax(above + below))
    return float(cuts[best]), float((above[best] + below[best]) / 2)


def check_order(model: Hookable, gate: Gate | JoinedGate, sites: Sequence[Site]) -> None:
    """Refuse a gate that would be read above the layers it decides about.

    Raises:
        ValueError: If it would.
    """
    order = list(model.hooks.sites)
    first = min(sites, key=order.index)
    for leaf in gate.leaves:
        (read,) = model.hooks.sites.at(leaf.site, leaf.layer)
        if order.index(read) > order.index(first):
            raise ValueError(
                f"the gate reads {read}, but steering begins at {first}: read at or below it"
            )
