"""What the reliability study says: by prompt type, across data sets, and out of sample."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from interp import viz
from steering.coherence import CosineTable, vector_cosines
from steering.contrast import PROMPT_TYPES
from steering.statistics import (
    Estimate,
    leave_one_out_r2,
    mean_estimate,
    spearman_estimate,
)
from steering.vectors import SteeringVector
from steering.verdicts import Kind

STATEMENT = "statement"
"""The type of vectors from statements, beside the seven prompt types."""
Propensity = Literal["statement", "choice"]
_PREDICTORS = {
    "mean cosine": "held_out",
    "pairwise cosine": "held_out",
    "d'": "held_out",
    "AUROC": "held_out",
    "in-sample mean cosine": "in_sample",
    "in-sample d'": "in_sample",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyResult:
    """The rows of a study, one for each data set and type."""

    rows: tuple[Mapping[str, Any], ...]
    """As `run_study` wrote them."""
    folder: Path
    """Where they and the vectors are."""

    def __post_init__(self) -> None:
        """Check that there are rows."""
        if not self.rows:
            raise ValueError(f"no results in {str(self.folder)!r}: run the study first")

    @classmethod
    def load(cls, folder: str | Path, *, names: Sequence[str] | None = None) -> "StudyResult":
        """Read the rows of a folder.

        Args:
            folder: The folder of a study.
            names: Data sets; all by default.
        """
        folder = Path(folder)
        files = sorted(folder.glob("*/*.json"))
        rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        kept = [row for row in rows if names is None or row["dataset"] in names]
        return cls(rows=tuple(kept), folder=folder)

    def to_frame(self) -> pd.DataFrame:
        """One row for each data set and type, without the slopes of single examples."""
        flat = []
        for row in self.rows:
            line = {k: v for k, v in row.items() if not isinstance(v, (dict, list))}
            for key, value in row.items():
                if isinstance(value, dict):
                    line |= {f"{key}_{k}" if k != "value" else key: v for k, v in value.items()}
            flat.append(line)
        return pd.DataFrame(flat)

    @property
    def types(self) -> tuple[str, ...]:
        """Types that were run, statements last."""
        found = {row["type"] for row in self.rows}
        return tuple(name for name in (*PROMPT_TYPES, STATEMENT) if name in found)

    def of_type(self, name: str) -> list[Mapping[str, Any]]:
        """The rows of one type, one for each data set.

        Raises:
            ValueError: If the type was not run.
        """
        found = [row for row in self.rows if row["type"] == name]
        if not found:
            raise ValueError(f"type {name!r} was not run: there are {self.types}")
        return found

    def by_type(self) -> pd.DataFrame:
        """Effect and anti-steerable share of each type, with intervals over data sets.

        `wins` counts the data sets on which a type has the largest slope, of those with all types.
        """
        frames = []
        for propensity in ("statement", "choice"):
            slopes = self._table(f"{propensity}_slope")
            best = list(slopes.dropna().idxmax(axis=1))
            for name in self.types:
                rows = self.of_type(name)
                line: dict[str, Any] = {"type": name, "propensity": propensity, "n": len(rows)}
                for column in ("slope", "anti"):
                    values = [row[f"{propensity}_{column}"]["value"] for row in rows]
                    line |= _columns(column, _mean(values))
                line["positive"] = float(
                    np.mean([row[f"{propensity}_slope"]["value"] > 0 for row in rows])
                )
                line["wins"] = best.count(name)
                frames.append(line)
        return pd.DataFrame(frames)

    def ranks(self, propensity: Propensity = "statement") -> pd.DataFrame:
        """On how many data sets each type (row) has each rank (column), 1 for the largest slope."""
        table = self._table(f"{propensity}_slope").dropna()
        ranks = table.rank(axis=1, ascending=False, method="first").to_numpy()
        places = np.arange(1, len(table.columns) + 1)
        counts = (ranks.T[:, :, None] == places).sum(axis=1)
        return pd.DataFrame(counts, index=table.columns, columns=list(places))

    def cosines(self) -> CosineTable:
        """Cosine between the vectors of two types, averaged over data sets that have both.

        Raises:
            ValueError: If no vectors are in the folder.
        """
        names, tables = self.types, []
        for dataset in dict.fromkeys(row["dataset"] for row in self.rows):
            paths = {name: self.folder / dataset / f"{name}.safetensors" for name in names}
            vectors = {n: SteeringVector.load(p) for n, p in paths.items() if p.exists()}
            if vectors:
                table = np.full((len(names), len(names)), np.nan)
                where = np.ix_(*[[names.index(name) for name in vectors]] * 2)
                table[where] = vector_cosines(vectors, layer=self.rows[0]["layer"]).cosines
                tables.append(table)
        if not tables:
            raise ValueError(f"no vectors in {str(self.folder)!r}")
        known = np.isfinite(tables)
        total = np.where(known, tables, 0).sum(0)
        means = np.divide(total, known.sum(0), out=np.full_like(total, np.nan), where=known.any(0))
        return CosineTable(names=names, cosines=means, layer=self.rows[0]["layer"])

    def verdicts(self, propensity: Propensity = "statement") -> pd.DataFrame:
        """On how many data sets each type (row) got each verdict (column).

        The column "permuted pairs incoherent" is the share of data sets on which the same pairs
        with randomly exchanged sides were found incoherent, as they must be.
        """
        column, lines = "verdict" if propensity == "statement" else "choice_verdict", []
        for name in self.types:
            rows = self.of_type(name)
            line: dict[str, Any] = {"type": name}
            line |= {kind: sum(row[column] == kind for row in rows) for kind in get_args(Kind)}
            incoherent = [not row["permuted_coherent"] for row in rows]
            lines.append(line | {"permuted pairs incoherent": float(np.mean(incoherent))})
        return pd.DataFrame(lines)

    def predictors(
        self, *, types: Sequence[str] | None = None, propensity: Propensity = "statement"
    ) -> pd.DataFrame:
        """Rank correlation of each measure of coherence with the effect, across data sets.

        Args:
            types: Types, each on its own: coherence does not compare across them.
            propensity: Whose slopes and anti-steerable shares.
        """
        lines = []
        for name in types or self.types:
            rows = self.of_type(name)
            for target in ("slope", "anti"):
                y = [row[f"{propensity}_{target}"]["value"] for row in rows]
                for label, kind in _PREDICTORS.items():
                    x = [row[kind][label.removeprefix("in-sample ")] for row in rows]
                    line = {"type": name, "predictor": label, "target": target, "n": len(rows)}
                    lines.append(line | _columns("rho", spearman_estimate(x, y)))
        return pd.DataFrame(lines)

    def out_of_sample(
        self, *, type: str = STATEMENT, propensity: Propensity = "statement"
    ) -> pd.DataFrame:
        """How well coherence on a few pairs predicts the effect on a data set never seen.

        R2 of leave-one-data-set-out predictions: 1 is perfect, 0 is no better than the mean of the
        other data sets, less is worse.

        Args:
            type: Which vectors.
            propensity: Whose slopes.
        """
        rows = self.of_type(type)
        y = np.array([row[f"{propensity}_slope"]["value"] for row in rows])
        lines = []
        for label, names in {
            "pairwise cosine": ("pairwise cosine",),
            "d'": ("d'",),
            "both": ("pairwise cosine", "d'"),
        }.items():
            x = np.array([[row["few"][name] for name in names] for row in rows])
            enough = len(rows) >= x.shape[1] + 3
            found = leave_one_out_r2(x, y) if enough else Estimate(np.nan, np.nan, np.nan)
            lines.append({"predictor": label, "n": len(rows), **_columns("r2", found)})
        return pd.DataFrame(lines)

    def against_published(
        self,
        published: Sequence[Mapping[str, Any]],
        *,
        type: str = "prefilled",
        propensity: Propensity = "choice",
    ) -> pd.DataFrame:
        """Rank correlations with published values of another model, and within these.

        Args:
            published: Rows with `dataset`, `mean_per_sample_steerability`, `frac_anti_steerable`.
            type: Which of our vectors to compare with.
            propensity: Whose slopes.
        """
        theirs = {row["dataset"]: row for row in published}
        rows = [row for row in self.of_type(type) if row["dataset"] in theirs]
        columns = {
            "steerability": ("mean_per_sample_steerability", "slope"),
            "anti-steerable": ("frac_anti_steerable", "anti"),
        }
        lines = []
        for label, (their, our) in columns.items():
            x = [theirs[row["dataset"]][their] for row in rows]
            y = [row[f"{propensity}_{our}"]["value"] for row in rows]
            lines.append({"pair": f"{label}: published, ours", "n": len(rows)})
            lines[-1] |= _columns("rho", spearman_estimate(x, y))
        inside = [[row[their] for row in published] for their, _ in columns.values()]
        lines.append({"pair": "published: steerability, anti-steerable", "n": len(published)})
        lines[-1] |= _columns("rho", spearman_estimate(*inside))
        return pd.DataFrame(lines)

    def checks(self) -> dict[str, float]:
        """The numbers that say whether steering by statements works at all on this model.

        They are taken over the data sets whose items are statements (over all if there are none).
        """
        rows = self.of_type(STATEMENT)
        persona = [row for row in rows if not row["lettered"]] or rows
        slopes = np.array([row["statement_slope"]["value"] for row in persona])
        random = np.array([row["random_slope"] for row in persona])
        mean = _mean(slopes.tolist())
        rho = spearman_estimate([row["held_out"]["d'"] for row in persona], slopes)
        return {
            "n_datasets": float(len(persona)),
            "positive": float((slopes > 0).mean()),
            "mean_slope": mean.value,
            "mean_slope_low": mean.low,
            "mean_slope_high": mean.high,
            "above_random": float((slopes > random).mean()),
            "rho_d_prime": rho.value,
            "rho_d_prime_low": rho.low,
            "rho_d_prime_high": rho.high,
            "cpu_minutes": sum(row["seconds"] for row in self.rows) / 60,
        }

    def to_dict(self, *, published: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Rows and conclusions as plain values for JSON."""
        made: dict[str, Any] = {
            "rows": [dict(row) for row in self.rows],
            "by_type": self.by_type().to_dict("records"),
            "ranks": {name: self.ranks(name).T.to_dict() for name in get_args(Propensity)},
            "verdicts": {
                name: self.verdicts(name).to_dict("records") for name in get_args(Propensity)
            },
            "predictors": {
                name: self.predictors(propensity=name).to_dict("records")
                for name in get_args(Propensity)
            },
        }
        if any(self.folder.glob("*/*.safetensors")):
            made["cosines"] = {"names": self.types, "cosines": self.cosines().cosines.tolist()}
        if STATEMENT in self.types:
            made["out_of_sample"] = self.out_of_sample().to_dict("records")
            made["checks"] = self.checks()
        if published is not None:
            made["published"] = {
                name: self.against_published(
                    published, type=self._compared(name), propensity=name
                ).to_dict("records")
                for name in get_args(Propensity)
            }
        return _plain(made)

    def plot_types(self, propensity: Propensity = "statement", **layout: Any) -> viz.Figure:
        """Mean slope of each type with its interval over data sets."""
        frame = self.by_type()
        frame = frame[frame["propensity"] == propensity]
        return viz.bars(
            frame["slope"],
            frame["slope_low"],
            frame["slope_high"],
            labels=list(frame["type"]),
            title=f"Effect of steering by prompt type ({propensity} propensity)",
            x_title="mean slope over data sets (nats per unit of the coefficient)",
            references={"no effect": 0.0},
            **layout,
        )

    def plot_predictors(self, *, type: str = STATEMENT, **layout: Any) -> viz.Figure:
        """Rank correlation of every measure of coherence with the slope, with its interval."""
        frame = self.predictors(types=[type])
        frame = frame[(frame["target"] == "slope") & frame["rho"].notna()]
        return viz.bars(
            frame["rho"],
            frame["rho_low"],
            frame["rho_high"],
            labels=list(frame["predictor"]),
            title=f"What predicts the effect across {len(self.of_type(type))} data sets ({type})",
            x_title="Spearman's rho with the slope (95 % interval)",
            references={"nothing": 0.0},
            **layout,
        )

    def plot_scatter(
        self, measure: str = "d'", *, type: str = STATEMENT, **layout: Any
    ) -> viz.Figure:
        """The effect on each data set against a measure of the coherence of its pairs.

        Args:
            measure: One of `steering.coherence.MEASURES`.
            type: Which vectors.
            **layout: For `Figure.update_layout`.
        """
        rows = self.of_type(type)
        x = [row["held_out"][measure] for row in rows]
        y = [row["statement_slope"]["value"] for row in rows]
        ends = {int(np.argmin(y)), int(np.argmax(y)), int(np.argmin(x)), int(np.argmax(x))}
        margin = 0.2 * (max(x) - min(x)) or 1.0  # names at both ends need room
        layout = {"xaxis_range": [min(x) - margin, max(x) + margin], **layout}
        return viz.scatter(
            x,
            y,
            labels=[row["dataset"] for row in rows],
            named=[rows[k]["dataset"] for k in ends],
            title=f"Effect against {measure} on {len(rows)} data sets ({type}): Spearman's rho "
            f"{spearman_estimate(x, y)}",
            x_title=f"held-out {measure} of the training pairs",
            y_title="slope (nats per token and coefficient)",
            **layout,
        )

    def _compared(self, propensity: Propensity) -> str:
        """The type whose vectors are compared with published ones, where it was run."""
        wanted = "prefilled" if propensity == "choice" else STATEMENT
        return wanted if wanted in self.types else self.types[0]

    def _table(self, column: str) -> pd.DataFrame:
        """Values by data set (row) and type (column)."""
        cells = {(row["dataset"], row["type"]): row[column]["value"] for row in self.rows}
        series = pd.Series(cells)
        return series.unstack().reindex(columns=list(self.types))


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    low, high = f"{name}_low", f"{name}_high"
    return {name: estimate.value, low: estimate.low, high: estimate.high}


def _plain(value: Any) -> Any:
    """Plain values for JSON, which has no NaN; five digits are more than the intervals bear."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 5)
    return value


def _mean(values: Sequence[float]) -> Estimate:
    if len(values) < 2:
        return Estimate(float(np.mean(values)), np.nan, np.nan)
    return mean_estimate(np.array(values))
