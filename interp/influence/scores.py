"""Scores of training examples, one for each seed, query and example.

A score is a derivative: how much the measurement at a query changes with the weight of an example's
loss, in one training run. Everything about distributions is computed from such arrays, whoever made
them: those of a language model may come from another program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from interp.core.files import load_tensors, save_tensors

_SCHEMA = "hookscope.influence_scores/1"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Derivatives of measurements in the weights of training examples."""

    values: Float[np.ndarray, "seed query example"]
    """Derivative of the measurement in the example's weight, at weight 1."""
    measured: Float[np.ndarray, "..."]
    """The measurement of each run, shape (seed, query)."""
    method: str = "imported"
    """How the values came about."""

    def __post_init__(self) -> None:
        """Check that the arrays belong together and are numbers."""
        if self.values.shape[:2] != self.measured.shape:
            raise ValueError(
                f"values has {self.values.shape[:2]} seeds and queries, but measured has "
                f"{self.measured.shape}"
            )
        if not (np.isfinite(self.values).all() and np.isfinite(self.measured).all()):
            raise ValueError(f"scores of {self.method!r} are not all finite")

    @property
    def n_examples(self) -> int:
        """Number of training examples."""
        return self.values.shape[2]

    def predict(
        self, removed: Bool[np.ndarray, "subset example"]
    ) -> Float[np.ndarray, "subset seed query"]:
        """Measurements of the same runs, had they been trained without some examples.

        Without K of N examples, those that remain are drawn N/(N-K) times as often; the prediction
        counts that too.

        Raises:
            ValueError: If `removed` has another number of examples or removes all of them.
        """
        _check_removed(removed, self.n_examples)
        share = removed.sum(1, keepdims=True) / self.n_examples
        change = np.where(removed, -1.0, share / (1 - share))  # of each weight
        return self.measured + np.einsum("sqn,mn->msq", self.values, change)

    def at(self, seeds: slice) -> "Scores":
        """Scores of some seeds."""
        return Scores(values=self.values[seeds], measured=self.measured[seeds], method=self.method)

    def to_frame(self) -> pd.DataFrame:
        """One row for each seed, query and example."""
        names = ["seed", "query", "example"]
        index = pd.MultiIndex.from_product([range(n) for n in self.values.shape], names=names)
        return pd.DataFrame({"score": self.values.ravel()}, index=index).reset_index()

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        tensors = {"values": self.values, "measured": self.measured}
        return save_tensors(
            path,
            {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in tensors.items()},
            {"schema": _SCHEMA, "method": self.method},
        )

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read what `save` wrote."""
        tensors, header = load_tensors(path, schema=_SCHEMA)
        return cls(
            values=tensors["values"].numpy(),
            measured=tensors["measured"].numpy(),
            method=header["method"],
        )


def _check_removed(removed: Bool[np.ndarray, "subset example"], n_examples: int) -> None:
    if removed.shape[1] != n_examples or removed.all(1).any():
        raise ValueError(
            f"removed has shape {removed.shape}: needed a column for each of {n_examples} "
            "examples, and no row that removes all"
        )


def without_each(
    examples: Sequence[int] | Int[np.ndarray, " subset"], n_examples: int
) -> Bool[np.ndarray, "subset example"]:
    """Masks that remove one of the examples each."""
    return np.arange(n_examples) == np.asarray(examples)[:, None]


def random_subsets(
    n_subsets: int, n_removed: int, n_examples: int, *, seed: int = 0
) -> Bool[np.ndarray, "subset example"]:
    """Masks that remove as many random examples each."""
    ranks = np.random.default_rng(seed).random((n_subsets, n_examples)).argsort(1).argsort(1)
    return ranks < n_removed
