"""What a probe's score means: the same score by words, by length, by chance.

`compare` puts a probe beside its controls on the same folds by group. A probe that does not beat
the words of the text has not shown that it reads more than words; one that scores well on shuffled
labels has memorized; one whose score falls among texts of equal length has read the length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression

from interp import Activations, Records, viz
from interp.core.seeds import derive
from probes.base import PooledProbe, encoded_groups
from probes.erasure import erased_auroc
from probes.evaluation import (
    Estimate,
    auroc,
    auroc_difference,
    auroc_value,
    binary_labels,
    bootstrap,
)
from probes.folds import group_folds
from probes.linear import LinearProbe
from probes.sweeps import checked_labels, cross_scores
from probes.text import length_matched_auroc, log_lengths, word_scores

WORDS = "words (TF-IDF)"
LENGTH = "length only"
EMBEDDING = "embedding layer"
MATCHED = "probe, texts of equal length"
SHUFFLED = "shuffled labels"
RANDOM = "random direction"
ERASED = "after erasure (LEACE)"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A probe and its controls, all on the same folds."""

    auroc: Mapping[str, Estimate]
    """AUROC by name; the intervals of shuffled labels and random directions are those of chance."""
    scores: Mapping[str, Float[np.ndarray, " example"]]
    """Held-out score of each example, where there is one score for each."""
    gain: Mapping[str, Estimate]
    """AUROC of the probe minus that of a control, over the same draws of groups."""
    labels: Int[np.ndarray, " example"]
    """Labels as 0 and 1."""
    folds: Int[np.ndarray, " example"]
    """Fold in which each example was tested."""

    @property
    def selectivity(self) -> float:
        """AUROC of the probe minus that on shuffled labels."""
        return self.auroc["probe"].value - self.auroc[SHUFFLED].value

    def to_frame(self) -> pd.DataFrame:
        """One row for the probe and for each control."""
        gains = [self.gain.get(name) for name in self.auroc]
        return pd.DataFrame(
            {
                "name": list(self.auroc),
                "auroc": [e.value for e in self.auroc.values()],
                "low": [e.low for e in self.auroc.values()],
                "high": [e.high for e in self.auroc.values()],
                "gain": [np.nan if g is None else g.value for g in gains],
                "gain_low": [np.nan if g is None else g.low for g in gains],
                "gain_high": [np.nan if g is None else g.high for g in gains],
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """One row for the probe and for each control, with intervals."""
        frame = self.to_frame()
        return viz.bars(
            frame["auroc"],
            frame["low"],
            frame["high"],
            labels=list(frame["name"]),
            controls=[name for name in frame["name"] if not name.startswith("probe")],
            title="The probe beside its controls",
            x_title="AUROC on held-out groups (95% interval)",
            references={"chance": 0.5},
            **layout,
        )


def compare(
    activations: Activations,
    records: Records,
    *,
    probe: Any = None,
    embeddings: Activations | None = None,
    variants: Mapping[str, Activations] | None = None,
    labels: np.ndarray | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> Comparison:
    """A probe at one layer beside its controls, cross-validated by group on the same folds.

    Args:
        activations: Activations of one layer with labels of two classes, pooled, or token-level
            for a `SequenceProbe`.
        records: The texts behind them, in the same order.
        probe: The probe; `LinearProbe()` by default.
        embeddings: Pooled activations of `resid_pre` at layer 0: tokens before any computation.
        variants: Activations of the same examples in another wording, such as without telling
            words (`filter_words`): scored by the probes of the original wording.
        labels: Label of each example; those of the activations by default.
        n_folds: Number of folds.
        seed: Which folds, shuffles and draws.

    Raises:
        ValueError: If labels are missing or not of two classes, or records do not fit.
    """
    if len(records) != len(activations):
        raise ValueError(f"{len(records)} records, but {len(activations)} examples of activations")
    probe = LinearProbe() if probe is None else probe
    y = binary_labels(checked_labels(activations, labels))
    groups = encoded_groups(activations.groups, len(y))
    folds = group_folds(y, groups, n_folds=n_folds, seed=seed)
    texts = [record.content for record in records]
    lengths = log_lengths(texts)
    scores = {"probe": cross_scores(probe, activations, y, folds)}
    scores[WORDS] = word_scores(texts, y, folds)
    scores[LENGTH] = cross_scores(LogisticRegression(), lengths[:, None], y, folds)
    if embeddings is not None:
        scores[EMBEDDING] = cross_scores(probe, embeddings, y, folds)
    for name, variant in (variants or {}).items():
        scores[name] = cross_scores(probe, activations, y, folds, tested=variant)
    options = {"groups": groups, "seed": seed}
    rates = {name: auroc(y, row, **options) for name, row in scores.items()}
    rates[MATCHED] = bootstrap(length_matched_auroc(lengths), y, scores["probe"], **options)
    rates[SHUFFLED] = shuffled_auroc(probe, activations, y, n_folds=n_folds, seed=seed)
    pooled = activations if activations.tokens is None else activations.pool("mean")
    linear = probe if isinstance(probe, PooledProbe) else LinearProbe()
    rates[ERASED] = erased_auroc(linear, pooled, y, folds, seed=seed)
    rates[RANDOM] = random_direction_auroc(pooled, y, folds, seed=seed)
    return Comparison(
        auroc={name: rates[name] for name in ("probe", MATCHED, *scores, ERASED, SHUFFLED, RANDOM)},
        scores=scores,
        gain={
            name: auroc_difference(y, scores["probe"], row, **options)
            for name, row in scores.items()
            if name != "probe"
        },
        labels=y,
        folds=folds,
    )


def shuffled_auroc(
    probe: Any,
    activations: Activations,
    labels: np.ndarray,
    *,
    n_folds: int = 5,
    n_shuffles: int = 5,
    seed: int = 0,
) -> Estimate:
    """Mean AUROC of a probe on shuffled labels; the interval is the range of the shuffles.

    Labels that are the same within every group are shuffled among groups, others among examples.
    """
    groups = encoded_groups(activations.groups, len(labels))
    rng = np.random.default_rng(derive(seed, "shuffle"))
    rates = []
    for _ in range(n_shuffles):
        y = _shuffled(labels, groups, rng)
        folds = group_folds(y, groups, n_folds=n_folds, seed=seed)
        rates.append(auroc_value(y, cross_scores(probe, activations, y, folds)))
    return Estimate(float(np.mean(rates)), min(rates), max(rates), float(np.std(rates)))


def random_direction_auroc(
    activations: Activations,
    labels: Int[np.ndarray, " example"],
    folds: Int[np.ndarray, " example"],
    *,
    n_directions: int = 100,
    seed: int = 0,
) -> Estimate:
    """Mean AUROC along random directions, each turned by the training folds.

    The directions are drawn for standardized activations; the interval holds 95 % of them.
    """
    X = np.asarray(activations, np.float64)
    along = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)
    rng = np.random.default_rng(derive(seed, "directions"))
    along = along @ rng.normal(size=(X.shape[1], n_directions))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        high, low = (along[train & (labels == side)].mean(0) for side in (1, 0))
        along[test] *= np.sign(high - low)
    rates = np.array([auroc_value(labels, column) for column in along.T])
    low, high = np.quantile(rates, [0.025, 0.975])
    return Estimate(float(rates.mean()), float(low), float(high), float(rates.std()))


def _shuffled(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    first = np.unique(groups, return_index=True)[1]
    if (labels == labels[first][groups]).all():
        return rng.permutation(labels[first])[groups]
    return rng.permutation(labels)
