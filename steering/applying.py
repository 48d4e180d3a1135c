"""Applying vectors: an intervention says what acts where, a `with` block makes it so.

A `Steering` is a value. It follows the core's `Intervention` protocol, so that
`model.intervene(first, second)` opens several in a stated order, agents take it, and everything it
changed is as before when the block ends, whatever happened inside. Its positions are the core's
rules, which mean the same with and without a KV cache, with padding, and alone or in a batch.
Gradients flow through it, to the model's inputs and to vectors that require them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.hooks import Call, Hookable, Intervention
from interp.core.positions import PositionRule, check_rule, selected
from interp.core.sites import Site
from steering.gating import Gate, GateState, JoinedGate, JoinedState, check_order
from steering.operators import Operator, add

State = GateState | JoinedState
"""The decision of a gate on the batch that runs now."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Steering:
    """Vectors at some layers, with the operator, strength, positions and gate to apply them."""

    values: Mapping[int, Float[Tensor, "*feature"]]
    """The vector of each layer; negative layers count from the end."""
    site: str = "resid_post"
    """Name of the site."""
    coefficient: float = 1.0
    """Factor on the vector, as the operator uses it."""
    positions: PositionRule = "all"
    """At which tokens it acts."""
    operator: Operator = field(default=add)
    """What is done with the vector."""
    gate: Gate | JoinedGate | None = None
    """Which examples are steered; all of them without a gate."""

    def __post_init__(self) -> None:
        """Check that there is something to apply."""
        if not self.values:
            raise ValueError("steering at no layer: needed at least one vector")
        check_rule(self.positions)

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        """A context in which the model runs with these vectors.

        Raises:
            HookNotFoundError: If the model lacks the site or a layer.
            ValueError: If the gate reads above a steered layer.
        """
        sites = model.hooks.sites.at(self.site, tuple(self.values))
        with watched(model, self.gate, sites) as state:
            edits = [
                (site, partial(self._edit, vector, state))
                for site, vector in zip(sites, self.values.values(), strict=True)
            ]
            with model.hooks.attached(edits=edits):
                yield

    def _edit(self, vector: Tensor, state: State | None, value: Tensor, call: Call) -> Tensor:
        """The value with the operator applied at the chosen tokens of the chosen examples."""
        chosen = chosen_tokens(self.positions, state, value, call)
        return edited(value, vector, self.coefficient, operator=self.operator, chosen=chosen)


@contextmanager
def watched(
    model: Hookable, gate: Gate | JoinedGate | None, sites: Sequence[Site]
) -> Iterator[State | None]:
    """The state of a gate that reads before anything at these sites is changed, if there is one.

    Raises:
        ValueError: If the gate reads above them.
    """
    if gate is None:
        yield None
        return
    check_order(model, gate, sites)
    with gate.watching(model) as state:
        yield state


def chosen_tokens(
    positions: PositionRule, state: State | None, value: Tensor, call: Call
) -> Bool[Tensor, "batch pos"] | None:
    """The tokens that a position rule picks, of the examples for which a gate is open."""
    chosen = selected(positions, call)
    if state is not None and state.is_open is not None:
        is_open = state.is_open[:, None].to(value.device)
        chosen = is_open.expand(value.shape[:2]) if chosen is None else chosen & is_open
    return chosen


def edited(
    value: Float[Tensor, "batch pos *feature"],
    vector: Float[Tensor, "*feature"],
    coefficient: float | Tensor,
    *,
    operator: Operator,
    chosen: Tensor | None,
) -> Float[Tensor, "batch pos *feature"]:
    """Activations after an operator, at the chosen tokens only.

    Args:
        value: The activations.
        vector: The vector, of the width of the site.
        coefficient: A number, or one for each token, shape (batch, pos).
        operator: What is done.
        chosen: Which tokens, boolean of shape (batch, pos); `None` for all.

    Raises:
        ValueError: If the vector has another width than the site.
    """
    if vector.shape[-1] != value.shape[-1]:
        raise ValueError(
            f"the vector has width {vector.shape[-1]}, but this site has {value.shape[-1]}"
        )
    extra = [1] * (value.ndim - 2)
    if isinstance(coefficient, Tensor):
        coefficient = coefficient.to(value.device, value.dtype).reshape(*coefficient.shape, *extra)
    changed = operator(value, vector.to(value.device, value.dtype), coefficient).to(value.dtype)
    if chosen is None:
        return changed
    return torch.where(chosen.reshape(*chosen.shape, *extra), changed, value)


@dataclass(frozen=True)
class Combined:
    """Several interventions as one, in a stated order."""

    parts: tuple[Intervention, ...]
    """At one site the first acts first, and the second on what the first left."""

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        """A context in which all of them act."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.applied(model))
            yield


def in_order(*interventions: Intervention) -> Combined:
    """Several interventions as one; adding commutes, ablating, clamping and rotating do not.

    Raises:
        ValueError: If there is none.
    """
    if not interventions:
        raise ValueError("no interventions: needed at least one")
    return Combined(interventions)


def act_add(
    difference: Float[Tensor, "pos feature"], *, layer: int, coefficient: float = 1.0
) -> "PrefixSteering":
    """Activation addition (Turner et al. 2023, 2308.10248): a difference for each first position.

    Args:
        difference: Activations of the one positive prompt minus those of the one negative prompt,
            position by position; the shorter prompt is padded to the length of the other.
        layer: Layer after whose block it is added.
        coefficient: Factor on the difference.
    """
    return PrefixSteering(difference=difference, layer=layer, coefficient=coefficient)


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefixSteering:
    """A vector of its own for each of the first positions of every prompt."""

    difference: Float[Tensor, "pos feature"]
    """What is added at position 0, 1, ..."""
    layer: int
    """Layer after whose block it is added."""
    coefficient: float = 1.0
    """Factor on the difference."""
    site: str = "resid_post"
    """Name of the site."""

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        """A context in which the first positions are shifted."""
        (site,) = model.hooks.sites.at(self.site, self.layer)
        with model.hooks.attached(edits=[(site, self._edit)]):
            yield

    def _edit(self, value: Tensor, call: Call) -> Tensor:
        if call.positions is None or call.mask is None:
            raise ValueError("this model has no token positions: activation addition needs them")
        width = len(self.difference)
        inside = call.mask & (call.positions < width)
        rows = self.difference.to(value.device, value.dtype)[call.positions.clamp(max=width - 1)]
        return torch.where(inside[..., None], value + self.coefficient * rows, value)
