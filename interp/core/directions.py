"""Directions: unit vectors at a site, the value that probes hand to steering and attribution."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.files import load_tensors, save_tensors
from interp.core.origin import Origin

_SCHEMA = "hookscope.direction/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """A unit vector in the activations of one site.

    Examples:
        >>> direction = Direction(vector=torch.tensor([3.0, 4.0]), layer=2)
        >>> direction.vector
        tensor([0.6000, 0.8000])
        >>> round(direction.cosine(torch.tensor([0.0, 2.0])), 6)
        0.8
    """

    vector: Float[Tensor, " feature"]
    """Given with any length, kept as a float32 vector of norm 1 on the CPU."""
    layer: int
    """Layer of the site."""
    site: str = "resid_post"
    """Name of the site."""
    origin: Origin | None = None
    """The model in which it was found."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How it was found: method, data, scores; anything that JSON holds."""

    def __post_init__(self) -> None:
        """Bring the vector to norm 1."""
        vector = self.vector.detach().to("cpu", torch.float32)
        if vector.ndim != 1 or not bool(vector.isfinite().all()) or not bool(vector.norm() > 0):
            raise ValueError(
                f"vector has shape {tuple(vector.shape)} and norm {float(vector.norm()):.3g}: "
                "needed one finite, non-zero axis"
            )
        object.__setattr__(self, "vector", vector / vector.norm())

    def __neg__(self) -> "Direction":
        """The opposite direction."""
        return replace(self, vector=-self.vector)

    def cosine(self, other: "Direction | Float[Tensor, ' feature']") -> float:
        """Cosine with another direction or vector."""
        vector = other.vector if isinstance(other, Direction) else other.to("cpu", torch.float32)
        return float(torch.cosine_similarity(self.vector, vector, dim=0))

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with a JSON header; returns its path."""
        header = {
            "schema": _SCHEMA,
            "site": self.site,
            "layer": self.layer,
            "origin": None if self.origin is None else asdict(self.origin),
            "provenance": dict(self.provenance),
        }
        return save_tensors(path, {"vector": self.vector}, header)

    @classmethod
    def load(cls, path: str | Path, *, origin: Origin | None = None) -> "Direction":
        """Read a file that `save` wrote.

        Args:
            path: The file.
            origin: `model.origin` of the model on which it is to be used.

        Raises:
            ValueError: If the file holds something else.
            ModelMismatchError: If it was made with another model than `origin`.
        """
        tensors, header = load_tensors(path, schema=_SCHEMA)
        made_with = None if header["origin"] is None else Origin(**header["origin"])
        if origin is not None and made_with is not None:
            made_with.check(origin, f"direction {Path(path).name}")
        return cls(
            vector=tensors["vector"],
            layer=header["layer"],
            site=header["site"],
            origin=made_with,
            provenance=header["provenance"],
        )
