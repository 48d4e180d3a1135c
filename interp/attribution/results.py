"""Results of patching: effects with intervals, and how far an estimate agrees with them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import spearmanr

from interp import viz
from interp.attribution.cells import Cell
from interp.core.seeds import derive

Source = Literal["clean", "corrupted", "zero", "mean", "resample"]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What patching does to a metric, one column for each thing that was patched."""

    values: Float[np.ndarray, "pair patch"]
    """The metric of each patched run."""
    clean: Float[np.ndarray, " pair"]
    """The metric of the clean run."""
    corrupted: Float[np.ndarray, " pair"]
    """The metric of the corrupted run."""
    source: Source
    """What was put in: "clean" activations into the corrupted run, or others into the clean one."""
    metric: str
    """Name of the metric."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        counts = len(self.values), len(self.clean), len(self.corrupted)
        if len(set(counts)) > 1:
            raise ValueError(f"values, clean and corrupted are of {counts} pairs: needed as many")

    @property
    def effects(self) -> Float[np.ndarray, " patch"]:
        """Share of the difference between the runs: of its mean over pairs.

        With clean activations the share that is restored (0 the corrupted run, 1 the clean one),
        with others the share that is destroyed. Shares may be negative or beyond 1.

        Raises:
            ValueError: If the two runs do not differ in the metric.
        """
        return self._effects(np.arange(len(self.clean))[None])[0]

    @property
    def changes(self) -> Float[np.ndarray, " patch"]:
        """Mean change of the metric, in its own unit."""
        start = self.corrupted if self.source == "clean" else self.clean
        return self.values.mean(axis=0) - start.mean()

    def intervals(
        self, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
    ) -> Float[np.ndarray, "patch 2"]:
        """Percentile bootstrap over pairs of each effect."""
        rng = np.random.default_rng(derive(seed, "patching intervals"))
        n = len(self.clean)
        samples = self._effects(rng.integers(0, n, size=(n_resamples, n)))
        return np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0).T

    def _effects(self, rows: np.ndarray) -> np.ndarray:
        """Effects of samples of pairs, shape (sample, patch)."""
        counts = np.stack([np.bincount(r, minlength=len(self.clean)) for r in rows]) / rows.shape[1]
        # weights of each pair, so that a sample needs no copy of the values
        clean, corrupted = counts @ self.clean, counts @ self.corrupted
        gap = clean - corrupted
        if not np.abs(gap).min() > 0:
            raise ValueError(
                f"clean and corrupted runs have the same {self.metric}: there is nothing to "
                "restore or to destroy"
            )
        values = counts @ self.values
        start = corrupted if self.source == "clean" else clean
        sign = 1 if self.source == "clean" else -1
        return sign * (values - start[:, None]) / gap[:, None]


@dataclass(frozen=True, kw_only=True)
class PatchingResult(Effects):
    """What patching each cell does to a metric."""

    cells: tuple[Cell, ...]
    """What was patched, one for each column of the values."""
    columns: tuple[str, ...]
    """Labels of the position axis."""
    method: str = "exact"
    """How it was found: "exact" runs, or an estimate from gradients."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        super().__post_init__()
        if self.values.shape[1] != len(self.cells):
            raise ValueError(f"values is of {self.values.shape[1]} cells, not {len(self.cells)}")

    def top(self, n: int) -> tuple[Cell, ...]:
        """The cells with the largest effects, regardless of sign."""
        return tuple(self.cells[i] for i in np.argsort(-np.abs(self.effects), kind="stable")[:n])

    def to_frame(self) -> pd.DataFrame:
        """One row for each cell: effect, its interval over pairs, and the mean metric."""
        low, high = self.intervals().T
        frame = pd.DataFrame(
            {
                "site": [cell.site for cell in self.cells],
                "layer": [cell.layer for cell in self.cells],
                "column": [cell.column for cell in self.cells],
                "token": [self._label(cell) for cell in self.cells],
                "units": [_unit_label(cell) for cell in self.cells],
                "effect": self.effects,
                "low": low,
                "high": high,
                self.metric: self.values.mean(axis=0),
            }
        )
        return frame.astype({"column": "Int64"})

    def plot(self, **layout: Any) -> viz.Figure:
        """Effects of one site as a matrix: layer by token, by head or by neuron.

        Raises:
            ValueError: If the cells belong to several sites, or do not fill a matrix.
        """
        sites = {cell.site for cell in self.cells}
        by_unit = len({cell.units for cell in self.cells}) > 1
        if len(sites) > 1 or (by_unit and len({cell.column for cell in self.cells}) > 1):
            raise ValueError("these cells do not fill one matrix: plot a sweep of one site")
        frame = self.to_frame()
        keys = frame["units"] if by_unit else frame["column"].fillna(-1).astype(int)
        x = list(dict.fromkeys(keys))
        labels = x if by_unit else [frame["token"][list(keys).index(key)] for key in x]
        layers = sorted(set(frame["layer"]))
        values = np.full((len(layers), len(x)), np.nan)
        hover = np.full(values.shape, "", dtype=object)
        ends = frame[["low", "high"]].to_numpy()
        for row, key in enumerate(keys):
            at = layers.index(frame["layer"][row]), x.index(key)
            values[at] = frame["effect"][row]
            hover[at] = f"[{ends[row, 0]:.3f}, {ends[row, 1]:.3f}] over {len(self.clean)} pairs"
        verb = "restored" if self.source == "clean" else "destroyed"
        return viz.heatmap(
            values,
            x=labels,
            y=layers,
            title=f"{sites.pop()}: share of the {self.metric} that is {verb} ({self.method})",
            x_title="unit" if by_unit else "token",
            y_title="layer",
            value_name=f"share {verb}",
            diverging=True,
            hover=hover.tolist(),
            **layout,
        )

    def _label(self, cell: Cell) -> str:
        return "all" if cell.column is None else self.columns[cell.column]


@dataclass(frozen=True, kw_only=True)
class GroupResult(Effects):
    """What patching groups of cells, each group in one run, does to a metric."""

    labels: tuple[str, ...]
    """Name of each group, one for each column of the values."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each group: effect, its interval over pairs, and the mean metric."""
        low, high = self.intervals().T
        columns = {"group": self.labels, "effect": self.effects, "low": low, "high": high}
        return pd.DataFrame({**columns, self.metric: self.values.mean(axis=0)})

    def plot(self, **layout: Any) -> viz.Figure:
        """The effect of each group with its interval over pairs."""
        verb = "restored" if self.source == "clean" else "destroyed"
        return viz.bars(
            self.effects,
            *self.intervals().T,
            labels=self.labels,
            title=f"Share of the {self.metric} that is {verb}",
            x_title=f"share {verb}",
            **layout,
        )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far an estimate of effects agrees with exact patching on the same cells."""

    cells: tuple[Cell, ...]
    """The cells that were compared."""
    estimated: Float[np.ndarray, " cell"]
    """Estimated effects."""
    exact: Float[np.ndarray, " cell"]
    """Effects of patching exactly."""
    n_top: int
    """How many of the largest cells `recall` speaks of."""

    @property
    def spearman(self) -> float:
        """Rank correlation over cells."""
        return float(spearmanr(self.estimated, self.exact)[0])  # pyright: ignore

    @property
    def pearson(self) -> float:
        """Correlation over cells."""
        return float(np.corrcoef(self.estimated, self.exact)[0, 1])

    @property
    def slope(self) -> float:
        """Least-squares factor from estimates to exact effects; above 1 if they are too small."""
        return float(self.estimated @ self.exact / (self.estimated @ self.estimated))

    @property
    def recall(self) -> float:
        """Share of the cells with the largest exact effects among those estimated largest."""
        exact, estimated = (
            set(np.argsort(-np.abs(values), kind="stable")[: self.n_top].tolist())
            for values in (self.exact, self.estimated)
        )
        return len(exact & estimated) / len(exact)

    def to_frame(self) -> pd.DataFrame:
        """One row for each cell."""
        return pd.DataFrame(
            {
                "site": [cell.site for cell in self.cells],
                "layer": [cell.layer for cell in self.cells],
                "column": pd.array([cell.column for cell in self.cells], dtype="Int64"),
                "units": [_unit_label(cell) for cell in self.cells],
                "estimated": self.estimated,
                "exact": self.exact,
            }
        )


def compare(estimate: PatchingResult, exact: PatchingResult, *, n_top: int = 20) -> Agreement:
    """Compare two results on the cells of the second.

    Args:
        estimate: Estimated effects; it must hold all cells of `exact`.
        exact: Effects of patching exactly.
        n_top: For how many of the largest cells the recall is counted.

    Raises:
        ValueError: If a cell of `exact` was not estimated.
    """
    known = dict(zip(estimate.cells, estimate.effects, strict=True))
    missing = [cell for cell in exact.cells if cell not in known]
    if missing:
        raise ValueError(f"{len(missing)} cells were not estimated, the first is {missing[0]}")
    return Agreement(
        cells=exact.cells,
        estimated=np.array([known[cell] for cell in exact.cells]),
        exact=exact.effects,
        n_top=n_top,
    )


def _unit_label(cell: Cell) -> str:
    if cell.units is None:
        return "all"
    shown = ",".join(map(str, cell.units[:4]))
    return shown if len(cell.units) <= 4 else f"{shown},… ({len(cell.units)})"
