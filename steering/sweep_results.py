"""What a sweep measured: propensities, slopes, and how many examples move the wrong way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from interp import viz
from steering.statistics import Estimate, mean_estimate, slopes, trait_and_bias_estimates


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """Log-probabilities of both continuations of each example at each coefficient."""

    coefficients: Float[np.ndarray, " coefficient"]
    """Factors on the vector."""
    positive: Float[np.ndarray, "example coefficient"]
    """Score of the continuation that shows the trait, in nats (per token, for statements)."""
    negative: Float[np.ndarray, "example coefficient"]
    """Score of the other continuation."""
    first_answer: Bool[np.ndarray, " example"] | None = None
    """Whether the first of two fixed answers is the positive one."""
    layers: tuple[int, ...] = ()
    """Layers that were steered together."""

    def __post_init__(self) -> None:
        """Check that the axes fit together."""
        shape = (len(self.positive), len(self.coefficients))
        if self.positive.shape != shape or self.negative.shape != shape:
            raise ValueError(
                f"scores of shapes {self.positive.shape}, {self.negative.shape}: needed {shape}"
            )

    @property
    def propensity(self) -> Float[np.ndarray, "example coefficient"]:
        """Positive minus negative score."""
        return self.positive - self.negative

    @property
    def slopes(self) -> Float[np.ndarray, " example"]:
        """Least-squares slope of each example, in nats per unit of the coefficient."""
        return slopes(self.coefficients, self.propensity)

    @property
    def slope(self) -> Estimate:
        """Mean slope with its interval over examples."""
        return mean_estimate(self.slopes)

    @property
    def anti_steerable(self) -> Estimate:
        """Share of examples that move the wrong way."""
        return mean_estimate((self.slopes < 0).astype(np.float64))

    @property
    def trait(self) -> Estimate:
        """Mean slope without what a preference for one answer contributes."""
        if self.first_answer is None:
            return self.slope
        return trait_and_bias_estimates(self.slopes, self.first_answer)[0]

    @property
    def bias(self) -> Estimate | None:
        """How much the vector prefers the first answer, `None` where answers are not fixed."""
        if self.first_answer is None:
            return None
        return trait_and_bias_estimates(self.slopes, self.first_answer)[1]

    def to_frame(self) -> pd.DataFrame:
        """One row for each example and coefficient."""
        n, m = self.positive.shape
        return pd.DataFrame(
            {
                "example": np.repeat(np.arange(n), m),
                "coefficient": np.tile(self.coefficients, n),
                "positive": self.positive.ravel(),
                "negative": self.negative.ravel(),
                "propensity": self.propensity.ravel(),
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """Mean propensity over coefficients with its interval, and the quarters of the examples."""
        change = self.propensity - self.propensity[:, [int(np.abs(self.coefficients).argmin())]]
        means = [mean_estimate(column) for column in change.T]
        lines = {
            "mean": viz.Curve(
                x=self.coefficients,
                y=[mean.value for mean in means],
                low=[mean.low for mean in means],
                high=[mean.high for mean in means],
                emphasis=True,
            )
        }
        for share in (0.1, 0.9):
            lines[f"{share:.0%} of examples"] = viz.Curve(
                x=self.coefficients, y=np.quantile(change, share, axis=0), control=True
            )
        return viz.curves(
            lines,
            title=f"Steering: slope {self.slope}; {self.anti_steerable.value:.0%} go the wrong way",
            x_title="coefficient",
            y_title="change of propensity (nats)",
            **layout,
        )


def merged(results: Sequence[SweepResult]) -> SweepResult:
    """The examples of several sweeps over the same coefficients.

    Raises:
        ValueError: If coefficients differ.
    """
    first = results[0]
    if any(not np.array_equal(r.coefficients, first.coefficients) for r in results):
        raise ValueError("sweeps over different coefficients do not merge")
    answers = [r.first_answer for r in results if r.first_answer is not None]
    return replace(
        first,
        positive=np.concatenate([r.positive for r in results]),
        negative=np.concatenate([r.negative for r in results]),
        first_answer=np.concatenate(answers) if len(answers) == len(results) else None,
    )
