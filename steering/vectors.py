"""Steering vectors: one vector for each layer of a site, with the scale of the activations there.

A vector is a value: it adds, subtracts, scales, is saved and loaded, and remembers the model in
which it was found. `vector.applied(model)` is the `with` block in which it steers. A vector says
nothing about whether it steers: that is what `steering.coherence` and `steering.sweeps` measure.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.directions import Direction
from interp.core.errors import ModelMismatchError
from interp.core.files import load_tensors, save_tensors
from interp.core.hooks import Hookable
from interp.core.model import HookedModel
from interp.core.origin import Origin
from interp.core.positions import PositionRule
from steering.applying import Steering
from steering.gating import Gate, JoinedGate
from steering.operators import Operator, add

_SCHEMA = "hookscope.steering_vector/1"
Unit = Literal["raw", "residual"]
"""Strength in multiples of the vector, or of the typical norm of the activations at its layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SteeringVector:
    """A vector for each of some layers.

    Examples:
        >>> vector = SteeringVector(values={3: torch.tensor([3.0, 4.0])}, norms={3: 50.0})
        >>> (2 * vector).strengths
        {3: 0.2}
    """

    values: Mapping[int, Float[Tensor, "*feature"]]
    """The vector of each layer, float32 on the CPU."""
    site: str = "resid_post"
    """Name of the site."""
    norms: Mapping[int, float] | None = None
    """Mean norm of the activations at each layer where the vector was read, if it is known."""
    origin: Origin | None = None
    """The model in which it was found; `replace(vector, origin=None)` lets it be used elsewhere."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it was found: method, data, numbers of examples; anything that JSON holds."""

    def __post_init__(self) -> None:
        """Bring the values to float32 on the CPU and the layers in order."""
        if not self.values:
            raise ValueError("a steering vector of no layer: needed at least one")
        values = {
            layer: self.values[layer].to("cpu", torch.float32) for layer in sorted(self.values)
        }
        shapes = {tuple(vector.shape) for vector in values.values()}
        if len(shapes) > 1:
            raise ValueError(f"vectors of shapes {sorted(shapes)}: all layers need the same one")
        wrong = [layer for layer, v in values.items() if not bool(v.isfinite().all())]
        if wrong:
            raise ValueError(f"the vectors of layers {wrong} are not finite")
        object.__setattr__(self, "values", values)
        if self.norms is not None:
            object.__setattr__(self, "norms", {layer: self.norms[layer] for layer in values})

    @classmethod
    def from_direction(
        cls,
        direction: Direction,
        *,
        norm: float = 1.0,
        layer: int | None = None,
        site: str | None = None,
    ) -> "SteeringVector":
        """A vector along a direction, as probes find them.

        Args:
            direction: The direction.
            norm: Length of the vector.
            layer: Layer, if not the direction's own.
            site: Site, if not the direction's own.
        """
        return cls(
            values={direction.layer if layer is None else layer: norm * direction.vector},
            site=direction.site if site is None else site,
            origin=direction.origin,
            provenance=dict(direction.provenance),
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers, in ascending order."""
        return tuple(self.values)

    @property
    def strengths(self) -> dict[int, float]:
        """Norm of each layer's vector in units of the activations' norm there.

        Raises:
            ValueError: If those norms are not known.
        """
        norms = self._known_norms()
        return {layer: round(float(v.norm()) / norms[layer], 6) for layer, v in self.values.items()}

    def at(self, *layers: int) -> "SteeringVector":
        """The vector at some of its layers.

        Raises:
            ValueError: If it has none at one of them.
        """
        missing = [layer for layer in layers if layer not in self.values]
        if missing:
            raise ValueError(f"no vector at layers {missing}: there are {self.layers}")
        return self._with({layer: self.values[layer] for layer in layers})

    def direction(self, layer: int | None = None) -> Direction:
        """The unit vector of one layer, which may be left out if there is only one."""
        if layer is None and len(self.values) != 1:
            raise ValueError(f"there are {len(self.values)} layers: choose one of {self.layers}")
        layer = self.layers[0] if layer is None else layer
        return Direction(
            vector=self.at(layer).values[layer],
            layer=layer,
            site=self.site,
            origin=self.origin,
            provenance=dict(self.provenance),
        )

    def cosine(self, other: "SteeringVector") -> dict[int, float]:
        """Cosine with another vector at each layer that both have."""
        return {
            layer: float(
                torch.cosine_similarity(
                    vector.detach().flatten(), other.values[layer].detach().flatten(), dim=0
                )
            )
            for layer, vector in self.values.items()
            if layer in other.values
        }

    def without(self, other: "SteeringVector") -> "SteeringVector":
        """The part that is orthogonal to another vector, layer by layer.

        Raises:
            ValueError: If the other vector lacks a layer, or is zero there.
        """
        missing = [layer for layer in self.layers if layer not in other.values]
        if missing:
            raise ValueError(f"the other vector has no layers {missing}: it has {other.layers}")
        zero = [layer for layer in self.layers if not bool(other.values[layer].norm() > 0)]
        if zero:
            raise ValueError(f"the other vector is zero at layers {zero}: nothing to project off")

        def project(vector: Tensor, away: Tensor) -> Tensor:
            return vector - (vector * away).sum() / (away * away).sum() * away

        return self._with({k: project(v, other.values[k]) for k, v in self.values.items()})

    def scaled_to(self, norm: float, *, unit: Unit = "raw") -> "SteeringVector":
        """The same directions with a norm, alike at every layer.

        Args:
            norm: The new norm.
            unit: `"raw"`, or `"residual"` for multiples of the activations' norm at each layer.

        Raises:
            ValueError: If a layer's vector is zero, or the activations' norms are not known.
        """
        scale = self._known_norms() if unit == "residual" else dict.fromkeys(self.values, 1.0)
        zero = [layer for layer, v in self.values.items() if not bool(v.norm() > 0)]
        if zero:
            raise ValueError(f"the vectors of layers {zero} are zero: they have no direction")
        return self._with({k: v * (norm * scale[k] / v.norm()) for k, v in self.values.items()})

    def steering(
        self,
        *,
        coefficient: float = 1.0,
        positions: PositionRule = "all",
        operator: Operator = add,
        unit: Unit = "raw",
        gate: Gate | JoinedGate | None = None,
    ) -> Steering:
        """The intervention that applies this vector, for `model.intervene` and `in_order`.

        Args:
            coefficient: Factor on the vector, as the operator uses it.
            positions: At which tokens it acts.
            operator: What is done with the vector, one of `steering.operators` or any function of
                activations, vector and coefficient.
            unit: What a coefficient of 1 means: the vector as it is, or a vector as long as the
                activations are on average at its layer.
            gate: Which examples are steered.
        """
        vector = self.scaled_to(1.0, unit="residual") if unit == "residual" else self
        return Steering(
            values=vector.values,
            site=self.site,
            coefficient=coefficient,
            positions=positions,
            operator=operator,
            gate=gate,
        )

    def applied(
        self,
        model: Hookable,
        *,
        coefficient: float = 1.0,
        positions: PositionRule = "all",
        operator: Operator = add,
        unit: Unit = "raw",
        gate: Gate | JoinedGate | None = None,
    ) -> AbstractContextManager[None]:
        """A context in which the model is steered; the arguments are those of `steering`.

        Raises:
            ModelMismatchError: If the vector was found in another model.
            HookNotFoundError: If the model lacks the site or a layer.
        """
        self.check(model)
        return self.steering(
            coefficient=coefficient, positions=positions, operator=operator, unit=unit, gate=gate
        ).applied(model)

    def check(self, model: Hookable) -> None:
        """Refuse a model in which this vector was not found, or which it does not fit.

        Raises:
            ModelMismatchError: If weights, width or chat template differ.
        """
        if not isinstance(model, HookedModel):
            return
        if self.origin is not None:
            self.origin.check(model.origin, "the steering vector")
        width = next(iter(self.values.values())).shape[-1]
        if self.site.startswith("resid") and model.d_model not in (None, width):
            raise ModelMismatchError(
                f"the steering vector has width {width}, but {model.name!r} has {model.d_model}"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer: norm, and strength in units of the activations' norm."""
        norms = self.norms or {}
        rows = [
            {
                "layer": layer,
                "norm": float(vector.norm()),
                "activation_norm": norms.get(layer, float("nan")),
                "strength": float(vector.norm()) / norms.get(layer, float("nan")),
            }
            for layer, vector in self.values.items()
        ]
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with a JSON header; returns its path."""
        header = {
            "schema": _SCHEMA,
            "site": self.site,
            "layers": self.layers,
            "norms": None if self.norms is None else list(self.norms.values()),
            "origin": None if self.origin is None else asdict(self.origin),
            "provenance": dict(self.provenance),
        }
        tensors = {f"layer.{k}": v.detach() for k, v in self.values.items()}
        return save_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: str | Path, *, origin: Origin | None = None) -> "SteeringVector":
        """Read a file that `save` wrote.

        Args:
            path: The file.
            origin: `model.origin` of the model on which it is to be used.

        Raises:
            ValueError: If the file holds something else.
            ModelMismatchError: If it was made with another model than `origin`.
        """
        tensors, header = load_tensors(path, schema=_SCHEMA)
        values = {layer: tensors[f"layer.{layer}"] for layer in header["layers"]}
        made_with = None if header["origin"] is None else Origin(**header["origin"])
        if origin is not None and made_with is not None:
            made_with.check(origin, f"steering vector {Path(path).name}")
        norms = header["norms"]
        return cls(
            values=values,
            site=header["site"],
            norms=None if norms is None else dict(zip(header["layers"], norms, strict=True)),
            origin=made_with,
            provenance=header["provenance"],
        )

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        """The sum; a layer that only one has stays as it is."""
        return self._merged(other, lambda a, b: a + b)

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        """The difference."""
        return self + (-other)

    def __mul__(self, factor: int | float) -> "SteeringVector":
        """The vector times a number."""
        return self._with({layer: factor * vector for layer, vector in self.values.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: int | float) -> "SteeringVector":
        """The vector divided by a number."""
        return self * (1.0 / divisor)

    def __neg__(self) -> "SteeringVector":
        """The opposite vector."""
        return self * -1.0

    def _merged(
        self, other: "SteeringVector", combine: Callable[[Tensor, Tensor], Tensor]
    ) -> "SteeringVector":
        if self.site != other.site:
            raise ValueError(f"vectors at {self.site!r} and at {other.site!r} do not add")
        if self.origin is not None and other.origin is not None:
            self.origin.check(other.origin, "the first vector")
        values = {**other.values, **self.values}
        shared = set(self.values) & set(other.values)
        values |= {layer: combine(self.values[layer], other.values[layer]) for layer in shared}
        norms = None
        if self.norms is not None and other.norms is not None:
            norms = {**other.norms, **self.norms}
        return replace(
            self, values=values, norms=norms, origin=self.origin or other.origin, provenance={}
        )

    def _with(self, values: Mapping[int, Tensor]) -> "SteeringVector":
        return replace(self, values=values)

    def _known_norms(self) -> Mapping[int, float]:
        if self.norms is None:
            raise ValueError(
                "the norms of the activations are not known: fit the vector with steering.fit, or "
                "give norms={layer: norm}"
            )
        return self.norms
