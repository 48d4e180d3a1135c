"""Control: how what stands for a concept acts on the model - on activations, or in the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from interp.core.hooks import Hookable, Intervention
from interp.core.interventions import ablate
from interp.core.model import HookedModel
from interp.core.positions import PositionRule
from steering.affine import MapSteering
from steering.applying import PrefixSteering, in_order
from steering.baking import bake_ablation, bake_addition
from steering.gating import Gate, JoinedGate
from steering.operators import Operator, add
from steering.repe.operationalization import Concept, Maps, PositionDifferences
from steering.vectors import SteeringVector, Unit

Control = Callable[[Concept, float], Intervention]
"""From a concept and a coefficient to an intervention."""


def steer(
    operator: Operator = add,
    *,
    positions: PositionRule = "all",
    unit: Unit = "raw",
    gate: Gate | JoinedGate | None = None,
) -> Control:
    """Act on activations with an operator, at some positions, maybe behind a gate."""

    def control(concept: Concept, coefficient: float) -> Intervention:
        return _vector(concept).steering(
            coefficient=coefficient, positions=positions, operator=operator, unit=unit, gate=gate
        )

    return control


def ablate_everywhere() -> Control:
    """Remove the direction from the residual stream wherever it is written.

    The coefficient must be 1: what is removed is removed.
    """

    def control(concept: Concept, coefficient: float) -> Intervention:
        if coefficient != 1:
            raise ValueError(f"coefficient={coefficient}: ablation everywhere has only 1")
        return _AblationEverywhere(_vector(concept))

    return control


def transform(*, positions: PositionRule = "all", gate: Gate | JoinedGate | None = None) -> Control:
    """Apply maps at some positions, maybe behind a gate."""

    def control(concept: Concept, coefficient: float) -> Intervention:
        if not isinstance(concept, Maps):
            raise TypeError(f"a {type(concept).__name__} is no map: use steer()")
        return MapSteering(
            maps=concept.maps,
            site=concept.site,
            coefficient=coefficient,
            positions=positions,
            gate=gate,
        )

    return control


def add_to_prefix() -> Control:
    """Add differences to the first positions of every prompt."""

    def control(concept: Concept, coefficient: float) -> Intervention:
        if not isinstance(concept, PositionDifferences):
            raise TypeError(f"a {type(concept).__name__} has no positions: use steer()")
        return PrefixSteering(
            difference=concept.difference, layer=concept.layer, coefficient=coefficient
        )

    return control


def edit_weights(kind: str = "addition") -> Control:
    """Write the concept into the weights for the length of the block.

    Args:
        kind: `"addition"` folds vectors into biases, `"ablation"` projects the direction out of
            every matrix that writes to the residual stream (the coefficient must be 1).
    """
    if kind not in ("addition", "ablation"):
        raise ValueError(f"kind={kind!r}: needed 'addition' or 'ablation'")

    def control(concept: Concept, coefficient: float) -> Intervention:
        return _WeightEdit(_vector(concept), coefficient, kind)

    return control


@dataclass(frozen=True)
class _AblationEverywhere:
    vector: SteeringVector

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        names = {site.name for site in model.hooks.sites}
        layers = tuple(sorted({s.layer for s in model.hooks.sites if s.layer is not None}))
        direction = self.vector.direction().vector
        sites = [("resid_pre", layers[:1]), ("resid_mid", layers), ("resid_post", layers)]
        parts = [ablate(direction, layers=at, site=site) for site, at in sites if site in names]
        with in_order(*parts).applied(model):
            yield


@dataclass(frozen=True)
class _WeightEdit:
    vector: SteeringVector
    coefficient: float
    kind: str

    @contextmanager
    def applied(self, model: Hookable) -> Iterator[None]:
        if not isinstance(model, HookedModel):
            raise TypeError(
                f"a {type(model).__name__} has no weights to edit: needed a HookedModel"
            )
        if self.kind == "addition":
            baked = bake_addition(model, self.vector, coefficient=self.coefficient)
        elif self.coefficient == 1:
            baked = bake_ablation(model, self.vector.direction())
        else:
            raise ValueError(f"coefficient={self.coefficient}: ablation in the weights has only 1")
        try:
            yield
        finally:
            baked.undo()


def _vector(concept: Concept) -> SteeringVector:
    if not isinstance(concept, SteeringVector):
        raise TypeError(f"a {type(concept).__name__} is no vector: use transform() for maps")
    return concept
