"""The probe of the high-stakes study: where it reads and how it is fitted, chosen on dev sets.

Every candidate is fitted to the training pairs. Its score on the development sets decides; its
cross-validated score on the training pairs stands beside it and does not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hookscope.high_stakes.sets import PLACES, HighStakesConfig, Place, StudySet
from probes.evaluation import auroc_value
from probes.folds import group_folds
from probes.linear import LinearProbe
from probes.sweeps import cross_scores

STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Strengths of the regularization among which the development sets choose."""
N_NEIGHBORS = (1, 3, 5)
"""How many neighboring stored layers a probe reads side by side."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a probe of pooled activations reads, and how it is regularized."""

    place: Place
    """Where in the text."""
    layers: tuple[int, ...]
    """Layers side by side."""
    C: float
    """Strength of the data against the regularization."""

    def matrix(self, part: StudySet) -> np.ndarray:
        """What it reads of a set, shape (example, feature)."""
        return part.matrix(self.place, self.layers)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The reading that is best on the development sets, and all others."""

    reading: Reading
    """The best one."""
    probe: LinearProbe
    """Fitted to the training pairs."""
    layer: int
    """The best single layer for the mean over the text."""
    table: list[dict[str, Any]]
    """Every reading with its scores."""

    def scores(self, part: StudySet) -> np.ndarray:
        """Log-odds of high stakes for each text of a set."""
        return self.probe.decision_function(self.reading.matrix(part))


def choose(parts: Mapping[str, StudySet], config: HighStakesConfig) -> Choice:
    """Fit every reading to the training pairs and take the best on the development sets."""
    train = parts["train"]
    folds = group_folds(train.labels, train.groups, seed=config.seed)
    dev = [part for name, part in parts.items() if name.endswith(" dev")]
    table = []
    for reading in _readings(train.store.layers):
        X, probe = reading.matrix(train), LinearProbe(C=reading.C, random_state=config.seed)
        cross = auroc_value(train.labels, cross_scores(probe, X, train.labels, folds))
        probe.fit(X, train.labels)
        rates = {
            part.name: auroc_value(part.labels, probe.decision_function(reading.matrix(part)))
            for part in dev
        }
        mean = float(np.mean(list(rates.values())))
        table.append({**asdict(reading), "cross_validated": cross, **rates, "dev_mean": mean})
    single = [r for r in table if r["place"] == "text" and len(r["layers"]) == 1]
    best, alone = (max(rows, key=lambda row: row["dev_mean"]) for rows in (table, single))
    reading = Reading(place=best["place"], layers=best["layers"], C=best["C"])
    probe = LinearProbe(C=reading.C, random_state=config.seed)
    probe.fit(reading.matrix(train), train.labels)
    return Choice(reading=reading, probe=probe, layer=alone["layers"][0], table=table)


def _readings(layers: tuple[int, ...]) -> Iterator[Reading]:
    """Every place with one layer, and the text with several neighboring layers."""
    for place in PLACES:
        for n in N_NEIGHBORS if place == "text" else (1,):
            for start in range(len(layers) - n + 1):
                for C in STRENGTHS:
                    yield Reading(place=place, layers=layers[start : start + n], C=C)
