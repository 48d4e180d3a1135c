"""Coherence: do the pairs agree on a direction, before anything is steered?

The measures are those of Braun et al. (2025, 2505.22637): how well differences align with their
mean and with each other, and how far apart the two sides lie along it. Here each is *cross-fitted*
(no pair is measured on a direction that it helped to find) and stands beside its *null*: the same
number after the sides of random pairs were swapped. In a space of hundreds of dimensions a mean
cosine of 0.2 and an in-sample d' of 1 are what noise gives.

What it does not show: that steering works. Differences that are the same text in every pair agree
perfectly and may move an answer token only; coherence keeps rising with depth where steering stops
working, so it does not choose a layer; and values compare within one prompt type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp import viz
from interp.core.seeds import derive, generator
from steering.contrast import PairLint
from steering.reading import PairActivations
from steering.statistics import auroc, d_prime
from steering.vectors import SteeringVector

MEASURES = ("mean cosine", "pairwise cosine", "d'", "AUROC", "relative norm", "stability")
"""What is measured, each larger where pairs agree more."""
_LEVEL = 0.01
_N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number, its interval over pairs, and what it is where pairs hold nothing."""

    value: float
    """The cross-fitted value."""
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    """Upper end."""
    null: float
    """Mean after the sides of random pairs were swapped."""
    null_high: float
    """97.5 % quantile of the same."""
    p: float
    """Share of these draws that reach the value."""
    in_sample: float
    """What the papers report: measured on the pairs that gave the vector."""

    def __str__(self) -> str:
        """Value, interval and null."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], null {self.null:.2f}"


@dataclass(frozen=True, kw_only=True)
class CoherenceReport:
    """Whether the pairs of one layer agree on a direction."""

    layer: int
    """The layer."""
    n_pairs: int
    """Number of pairs."""
    measures: Mapping[str, Measure]
    """Each of `MEASURES`."""
    norm: float
    """Norm of the mean difference, in units of the activations' norm."""
    norm_variation: float
    """Standard deviation of the norms of the differences, in units of their mean."""
    answer_cosine: float | None
    """Cosine between the vectors of the pairs that one answer matches and of those that the other
    matches: near 1 for a trait, near -1 for an answer token; `None` without answers."""
    constant: bool = False
    """Whether all pairs differ in the same tokens, so that agreement proves nothing."""

    @property
    def coherent(self) -> bool:
        """Whether pairs agree, and lie apart, beyond what swapped pairs do (p < 0.01 for both)."""
        return max(self.measures[name].p for name in ("pairwise cosine", "d'")) < _LEVEL

    @property
    def verdict(self) -> str:
        """One line: whether steering is worth trying, and why."""
        d, cosine = self.measures["d'"], self.measures["pairwise cosine"]
        evidence = f"held-out d' {d}; pairwise cosine {cosine}; {self.n_pairs} pairs"
        if not self.coherent:
            return f"not worth trying: the pairs do not agree on a direction ({evidence})"
        if self.constant:
            return f"unproven: every pair differs in the same tokens ({evidence})"
        if self.answer_cosine is not None and self.answer_cosine < 0:
            return (
                f"unproven: the vector changes sign with the answer token (cosine "
                f"{self.answer_cosine:.2f} between answers; {evidence})"
            )
        return f"worth trying: {evidence}"

    def to_frame(self) -> pd.DataFrame:
        """One row for each measure."""
        rows = [{"layer": self.layer, "measure": k, **vars(m)} for k, m in self.measures.items()]
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """Every measure with its interval, and below it its null."""
        labels, values, low, high, controls = [], [], [], [], []
        for name, measure in self.measures.items():
            labels += [name, f"{name}, swapped pairs"]
            values += [measure.value, measure.null]
            low += [measure.low, measure.null]
            high += [measure.high, max(measure.null_high, measure.null)]
            controls.append(f"{name}, swapped pairs")
        return viz.bars(
            values,
            np.minimum(low, values),
            np.maximum(high, values),
            labels=labels,
            controls=controls,
            title=f"Coherence at layer {self.layer}: {self.verdict.split(':')[0]}",
            x_title="cross-fitted value (95 % interval; for swapped pairs up to 97.5 %)",
            **layout,
        )


def coherence(
    activations: PairActivations,
    *,
    layer: int | None = None,
    lint: PairLint | None = None,
    n_null: int = 200,
    n_resamples: int = 200,
    seed: int = 0,
) -> CoherenceReport:
    """Measure whether pairs agree on a direction.

    Args:
        activations: Both sides of the pairs.
        layer: Layer; may be left out if there is only one.
        lint: What `steering.lint` says of the pairs.
        n_null: Draws of swapped pairs.
        n_resamples: Bootstrap draws of pairs.
        seed: Seed of folds and draws.

    Raises:
        ValueError: If there are fewer than ten pairs.
    """
    if len(activations) < 2 * _N_FOLDS:
        raise ValueError(f"{len(activations)} pairs: coherence needs {2 * _N_FOLDS} or more")
    layer = activations.positive.layer if layer is None else layer
    positive, negative = (side.flatten(1).double().numpy() for side in activations.sides(layer))
    n, random = len(positive), np.random.default_rng(derive(seed, "coherence"))
    products = _Products.of(positive, negative)
    folds = random.permutation(np.arange(n) % _N_FOLDS)
    everyone, plain = np.arange(n), np.ones(n)
    draws = random.integers(0, 2**31, 3)
    values = _measured(products, everyone, plain, folds, int(draws[0]))
    in_sample = _in_sample(products)
    nulls = [
        _measured(products, everyone, random.choice([-1.0, 1.0], n), folds, int(draws[1]) + k)
        for k in range(n_null)
    ]
    boots = [
        _measured(products, random.integers(0, n, n), plain, folds, int(draws[2]) + k)
        for k in range(n_resamples)
    ]
    differences = positive - negative
    norms = np.linalg.norm(differences, axis=1)
    return CoherenceReport(
        layer=layer,
        n_pairs=n,
        measures={
            name: _measure(
                values[name], in_sample[name], [b[name] for b in boots], [x[name] for x in nulls]
            )
            for name in MEASURES
        },
        norm=float(np.linalg.norm(differences.mean(0)) / activations.norms[layer]),
        norm_variation=float(norms.std() / norms.mean()),
        answer_cosine=_answer_cosine(differences, activations.answers),
        constant=False if lint is None else lint.constant,
    )


def swapped(activations: PairActivations, *, seed: int = 0) -> PairActivations:
    """The same pairs with the two sides of random ones exchanged: what holds no direction.

    Args:
        activations: Both sides of the pairs.
        seed: Which pairs are exchanged, each with probability one half.
    """
    flip = torch.rand(len(activations), generator=generator(seed, "swapped pairs")) < 0.5
    sides = ({}, {})
    for site, positive in activations.positive.tensors.items():
        negative = activations.negative.tensors[site]
        chosen = flip.reshape(-1, *[1] * (positive.ndim - 1))
        sides[0][site] = torch.where(chosen, negative, positive)
        sides[1][site] = torch.where(chosen, positive, negative)
    return replace(
        activations,
        positive=replace(activations.positive, tensors=sides[0]),
        negative=replace(activations.negative, tensors=sides[1]),
    )


@dataclass(frozen=True)
class _Products:
    """Inner products of differences d with each other and with both sides."""

    dd: Float[np.ndarray, "pair pair"]
    pd: Float[np.ndarray, "pair pair"]
    nd: Float[np.ndarray, "pair pair"]

    @classmethod
    def of(cls, positive: np.ndarray, negative: np.ndarray) -> "_Products":
        # a common shift of both sides changes no measure, and keeps the products small
        center = (positive.mean(0) + negative.mean(0)) / 2
        p, n = positive - center, negative - center
        return cls((p - n) @ (p - n).T, p @ (p - n).T, n @ (p - n).T)


def _measured(
    products: _Products, rows: np.ndarray, signs: np.ndarray, folds: np.ndarray, seed: int
) -> dict[str, float]:
    """All measures on some pairs, of which those with sign -1 have their sides swapped.

    A pair that was drawn twice stays in one fold, and is never compared with itself.
    """
    s, fold = signs[rows], folds[rows]
    dd = products.dd[np.ix_(rows, rows)] * np.outer(s, s)
    sizes = np.sqrt(np.maximum(np.diag(dd), 1e-30))
    other = fold[:, None] != fold[None, :]
    in_fold = (fold[:, None] == np.arange(_N_FOLDS)).astype(np.float64)
    across = in_fold.T @ dd @ in_fold  # inner products of the sums of the folds
    outside = across.sum() - across.sum(0) - across.sum(1) + np.diag(across)
    scale = np.sqrt(np.maximum(outside, 1e-30))[fold]
    cosines = (dd * other).sum(1) / (sizes * scale)
    upper, lower = (
        ((table[np.ix_(rows, rows)] * s[None, :]) * other).sum(1) / scale
        for table in (products.pd, products.nd)
    )
    high, low = np.where(s > 0, upper, lower), np.where(s > 0, lower, upper)
    apart = rows[:, None] != rows[None, :]
    unit = dd / np.outer(sizes, sizes)
    return {
        "mean cosine": float(cosines.mean()),
        "pairwise cosine": float(unit[apart].mean()),
        "d'": d_prime(high, low),
        "AUROC": auroc(high, low),
        "relative norm": float(np.sqrt(max(dd[apart].sum(), 0)) / len(rows) / sizes.mean()),
        "stability": _stability(dd, rows, seed),
    }


def _stability(dd: np.ndarray, rows: np.ndarray, seed: int, n: int = 25) -> float:
    """Mean cosine between the vectors of two disjoint sets of pairs, at most 25 in each."""
    random, unique = np.random.default_rng(seed), np.unique(rows, return_index=True)[1]
    size = min(n, len(unique) // 2)
    orders = unique[random.random((20, len(unique))).argsort(axis=1)]
    sets = np.zeros((2, 20, len(dd)))
    for which, chosen in enumerate((orders[:, :size], orders[:, size : 2 * size])):
        np.put_along_axis(sets[which], chosen, 1.0, axis=1)
    a, b = sets[0] @ dd, sets[1] @ dd
    within = (a * sets[0]).sum(1) * (b * sets[1]).sum(1)
    return float(((a * sets[1]).sum(1) / np.sqrt(np.maximum(within, 1e-30))).mean())


def _in_sample(products: _Products) -> dict[str, float]:
    """The measures on the pairs that gave the vector, as published."""
    n = len(products.dd)
    length = np.sqrt(max(products.dd.sum(), 1e-30))
    sizes = np.sqrt(np.maximum(np.diag(products.dd), 1e-30))
    unit = products.dd / np.outer(sizes, sizes)
    high, low = products.pd.sum(1) / length, products.nd.sum(1) / length
    random, vectors = np.random.default_rng(0), np.zeros((100, n))
    for row in vectors:  # 100 sets of 25 pairs, which overlap
        row[random.permutation(n)[: min(25, n)]] = 1.0
    gram = vectors @ products.dd @ vectors.T
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-30))
    return {
        "mean cosine": float((products.dd.sum(1) / (sizes * length)).mean()),
        "pairwise cosine": float((unit.sum() - n) / (n * (n - 1))),
        "d'": d_prime(high, low),
        "AUROC": auroc(high, low),
        "relative norm": float(length / n / sizes.mean()),
        "stability": float((gram / np.outer(scale, scale))[~np.eye(100, dtype=bool)].mean()),
    }


def _measure(value: float, in_sample: float, boots: list[float], nulls: list[float]) -> Measure:
    # pairs drawn twice shrink a set, which shifts its measures: the interval is centered anew
    spread = np.quantile(boots, [0.025, 0.975]) - np.median(boots)
    return Measure(
        value=value,
        low=float(value + spread[0]),
        high=float(value + spread[1]),
        null=float(np.mean(nulls)),
        null_high=float(np.quantile(nulls, 0.975)),
        p=float((1 + np.sum(np.array(nulls) >= value)) / (1 + len(nulls))),
        in_sample=in_sample,
    )


def _answer_cosine(differences: np.ndarray, answers: tuple[str, ...] | None) -> float | None:
    names = sorted(set(answers or ()))
    if len(names) != 2:
        return None
    column = np.array(answers)
    a, b = (differences[column == name].mean(0) for name in names)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class CosineTable:
    """Cosines between vectors of one layer."""

    names: tuple[str, ...]
    """Names of the vectors."""
    cosines: Float[np.ndarray, "vector vector"]
    """Their cosines."""
    layer: int
    """The layer."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each ordered pair."""
        n = len(self.names)
        return pd.DataFrame(
            {
                "first": np.repeat(self.names, n),
                "second": np.tile(self.names, n),
                "cosine": self.cosines.ravel(),
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """The table as a heatmap."""
        return viz.heatmap(
            self.cosines,
            x=self.names,
            y=self.names,
            title=f"Cosine between vectors at layer {self.layer}",
            x_title="vector",
            y_title="vector",
            value_name="cosine",
            diverging=True,
            limits=(-1.0, 1.0),
            **layout,
        )


def vector_cosines(vectors: Mapping[str, SteeringVector], *, layer: int) -> CosineTable:
    """Cosines between named vectors, such as those of the seven prompt types.

    Args:
        vectors: The vectors.
        layer: A layer that all of them have.
    """
    names: Sequence[str] = tuple(vectors)
    rows = np.stack([vectors[n].direction(layer).vector.double().numpy() for n in names])
    return CosineTable(names=tuple(names), cosines=rows @ rows.T, layer=layer)
