"""Ways to make a model less toxic, each with a strength, brought to one divergence.

What a method is worth shows only beside others that change the
model as much, and beside nulls that know nothing of toxicity.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hookscope.toxicity.directions import top_neurons
from interp import Direction, HookedModel, Intervention, add, edit
from interp.attribution import Alignment, ablate_neurons, edited_activations
from interp.core.hooks import Call, Hookable
from steering import in_order

Method = Callable[[float], Intervention]
"""From a strength to the change."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightChange:
    """What training did to the weights of a model, taken in part, whole or beyond."""

    deltas: Mapping[str, Tensor]
    """Change of each parameter that changed."""
    coefficient: float = 1.0
    """Which part of it: 0 is the model as it is, 1 the trained one."""

    @classmethod
    def between(cls, before: HookedModel, after: HookedModel) -> "WeightChange":
        """From the parameters of two models of one shape."""
        old = dict(before.module.named_parameters())
        new = dict(after.module.named_parameters())
        changed = {k: (new[k] - p).detach() for k, p in old.items() if not torch.equal(p, new[k])}
        return cls(deltas=changed)

    def scaled(self, coefficient: float) -> "WeightChange":
        """The same change with another coefficient."""
        return WeightChange(deltas=self.deltas, coefficient=coefficient)

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        """A context in which the weights are changed; they are bit for bit as before afterwards."""
        found: Any = model
        parameters = dict(found.module.named_parameters())
        saved = {name: parameters[name].detach().clone() for name in self.deltas}
        try:
            with torch.no_grad():
                for name, delta in self.deltas.items():
                    parameters[name].add_(delta, alpha=self.coefficient)
            yield
        finally:
            with torch.no_grad():
                for name, value in saved.items():
                    parameters[name].copy_(value)


def ablation(scores: Float[np.ndarray, "layer neuron"]) -> Method:
    """Hold the neurons with the largest scores, regardless of sign, at zero: as many as asked."""
    return lambda strength: in_order(*ablate_neurons(top_neurons(scores, max(1, round(strength)))))


def gated_ablation(scores: Float[np.ndarray, "layer neuron"]) -> Method:
    """The same, but at each token only of neurons that write along their score there.

    In a gated MLP an activation may have either sign, and so has what its neuron writes.
    """
    signs = torch.from_numpy(np.sign(scores)).float()

    def at(strength: float) -> Intervention:
        chosen = torch.from_numpy(top_neurons(scores, max(1, round(strength))))

        def change(value: Tensor, call: Call) -> Tensor:
            assert call.site is not None
            layer = call.site.layer
            return torch.where(chosen[layer] & (value * signs[layer] > 0), 0, value)

        return edit(change, layers=range(len(scores)), site="mlp_post")

    return at


def subtraction(direction: Direction) -> Method:
    """Subtract a direction of the residual stream at every token."""
    return lambda strength: add(direction, coefficient=-strength)


def shrinkage(n_layers: int) -> Method:
    """Make all activations of all neurons smaller, whatever they say."""
    return lambda strength: edit(
        lambda value, call: value * (1 - strength), layers=range(n_layers), site="mlp_post"
    )


def tuning_free(alignment: Alignment, activation: Float[np.ndarray, "layer neuron"]) -> Method:
    """The edit of Yang et al. 2025: constants for a share of each group of neurons."""

    def at(strength: float) -> Intervention:
        chosen, values = edited_activations(alignment, activation, fraction=strength)
        return in_order(*ablate_neurons(chosen, values=values))

    return at


def matched(
    cost: Callable[[float], float], budget: float, *, start: float, tolerance: float = 0.05
) -> float:
    """The strength that costs the budget.

    Args:
        cost: From a strength to a divergence that rises with it.
        budget: The divergence.
        start: A strength to begin with.
        tolerance: By which share the cost may differ from the budget.

    Raises:
        ValueError: If no strength within a factor of 2**20 costs as much.

    Examples:
        >>> round(matched(lambda strength: strength**2, 0.25, start=1.0), 2)
        0.5
    """
    low, high = 0.0, start
    for _ in range(20):
        if cost(high) >= budget:
            break
        low, high = high, 2 * high
    else:
        raise ValueError(f"no strength up to {high:.3g} costs {budget:.3g} nats")
    middle = high
    for _ in range(14):
        middle = (low + high) / 2
        at = cost(middle)
        if abs(at - budget) <= tolerance * budget:
            break
        low, high = (middle, high) if at < budget else (low, middle)
    return middle
