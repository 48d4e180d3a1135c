"""One number for each pair under several conditions, some of which are controls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp import viz
from interp.core.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Means over pairs of what each condition gives, with intervals."""

    quantity: str
    """What the number is."""
    conditions: tuple[str, ...]
    """Name of each condition."""
    controls: tuple[str, ...]
    """Those of them that are controls."""
    values: Float[np.ndarray, "condition pair"]
    """The number for each pair."""

    def __post_init__(self) -> None:
        """Check that every condition has a row."""
        if len(self.values) != len(self.conditions):
            raise ValueError(
                f"values has {len(self.values)} rows, but there are {len(self.conditions)} "
                "conditions"
            )

    @property
    def means(self) -> dict[str, float]:
        """Mean over pairs of each condition."""
        return dict(zip(self.conditions, self.values.mean(axis=1).tolist(), strict=True))

    def intervals(
        self, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
    ) -> Float[np.ndarray, "condition 2"]:
        """Percentile bootstrap over pairs of each mean."""
        rng, n = np.random.default_rng(derive(seed, "comparison")), self.values.shape[1]
        samples = self.values[:, rng.integers(0, n, (n_resamples, n))].mean(axis=2)
        return np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=1).T

    def to_frame(self) -> pd.DataFrame:
        """One row for each condition: mean and interval."""
        low, high = self.intervals().T
        columns = {"condition": self.conditions, self.quantity: self.values.mean(axis=1)}
        return pd.DataFrame({**columns, "low": low, "high": high})

    def plot(self, **layout: Any) -> viz.Figure:
        """The conditions with their intervals, controls in gray."""
        return viz.bars(
            self.values.mean(axis=1),
            *self.intervals().T,
            labels=self.conditions,
            controls=self.controls,
            title=f"{self.quantity} (95 % interval over {self.values.shape[1]} pairs)",
            x_title=self.quantity,
            **layout,
        )
