"""Verdicts: does this vector steer, or does it only look as if it might?

- *incoherent*: the pairs agree on no direction beyond what swapped pairs do.
- *biased only*: the vector prefers one of the two answers, by more than it prefers the trait: where
  the trait has the other answer, examples move the wrong way.
- *steerable*: not so, and the trait effect is above the smallest that matters, above 0 with its
  whole interval, and above that of random vectors of the same norm.
- *undecided*: neither; the evidence says how many examples might decide.

The verdict is about the propensity that was measured, on this model, layer and kind of data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from interp.core.seeds import generator
from steering.coherence import CoherenceReport
from steering.statistics import mean_estimate
from steering.sweep_results import SweepResult
from steering.vectors import SteeringVector

Kind = Literal["steerable", "biased only", "incoherent", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was concluded, and from what."""

    kind: Kind
    """The conclusion."""
    evidence: tuple[str, ...]
    """One sentence for each thing that was looked at."""

    def __str__(self) -> str:
        """The conclusion with its evidence."""
        return f"{self.kind}: " + "; ".join(self.evidence)


def judge(
    swept: SweepResult,
    *,
    coherence: CoherenceReport | None = None,
    controls: Sequence[SweepResult] = (),
    min_effect: float = 0.02,
) -> Verdict:
    """A verdict on a vector.

    Args:
        swept: Its sweep on examples that did not give the vector or the layer.
        coherence: The report on its pairs.
        controls: Sweeps of random vectors of the same norm on the same examples.
        min_effect: The smallest trait effect that matters, in nats per unit of the coefficient.
    """
    trait, bias = swept.trait, swept.bias
    evidence = [f"trait effect {trait} nats, {swept.anti_steerable.value:.0%} anti-steerable"]
    if bias is not None:
        evidence.append(f"answer preference {bias}")
    if coherence is not None:
        evidence.append(coherence.verdict)
        if not coherence.coherent:
            return Verdict(kind="incoherent", evidence=tuple(evidence))
    above = trait.low > 0 and trait.value >= min_effect
    if controls:
        mean = np.mean([control.slopes for control in controls], axis=0)
        lead = mean_estimate(swept.slopes - mean)
        evidence.append(f"above random vectors by {lead}")
        above = above and lead.low > 0
    if (
        bias is not None
        and bias.low * bias.high > 0
        and abs(bias.value) > max(min_effect, abs(trait.value))
    ):
        return Verdict(kind="biased only", evidence=tuple(evidence))
    if above:
        return Verdict(kind="steerable", evidence=tuple(evidence))
    spread = float(np.std(swept.slopes, ddof=1))
    needed = int(np.ceil((2.8 * spread / max(abs(trait.value), min_effect)) ** 2))
    evidence.append(
        f"{len(swept.slopes)} examples, about {max(needed, 2)} decide an effect like it"
    )
    return Verdict(kind="undecided", evidence=tuple(evidence))


def random_vector(vector: SteeringVector, *, seed: int = 0) -> SteeringVector:
    """A vector of random direction with the same norm at every layer: the control of steering.

    Args:
        vector: The vector whose norms it has.
        seed: Which direction.
    """
    values = {}
    for layer, value in vector.values.items():
        drawn = torch.randn(value.shape, generator=generator(seed, "random vector", layer))
        values[layer] = drawn * (value.norm() / drawn.norm())
    return SteeringVector(values=values, site=vector.site, norms=vector.norms, origin=vector.origin)
