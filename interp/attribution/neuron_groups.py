"""Which neurons carry a change along a direction between two models.

Yang et al. 2025 (arXiv 2411.06424) ask how preference training makes a model less toxic: every
neuron's mean activation times the projection of its value vector is compared before and after, and
the neurons that reduce toxicity fall into four groups, by the sign of the value vector's alignment
(T with the direction, A against it) and the sign of the activation before (P, N).

The groups say less than they seem to. Shrinking all activations by one factor, for whatever reason,
puts every reduction into TP and AN along any direction (`shrunk` is that null), and in gated MLPs
half of all neurons lie in each group by chance. The sums are of terms of either sign, of which most
cancel: look at `balance`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from interp import viz
from interp.attribution.cells import Cell
from interp.attribution.exchange import check_models
from interp.attribution.neurons import Alignment, align, mean_activations
from interp.core.directions import Direction
from interp.core.errors import ModelMismatchError
from interp.core.extraction import BATCH_TOKENS
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.seeds import derive
from interp.core.tokens import Selection

GROUPS = ("TP", "AN", "TN", "AP")
"""Aligned and active above zero; against and below; aligned and below; against and above."""


@dataclass(frozen=True, kw_only=True)
class NeuronGroups:
    """How much of a reduction each group of neurons carries."""

    reductions: Mapping[str, float]
    """Sum of the changes of each group's neurons that reduce the projection, positive."""
    increases: Mapping[str, float]
    """Sum of the changes of its neurons that increase the projection, negative."""
    n_reducing: Mapping[str, int]
    """How many neurons of each group reduce it."""
    n_neurons: Mapping[str, int]
    """How many neurons each group has."""

    @property
    def shares(self) -> dict[str, float]:
        """Share of the whole reduction that each group carries; they sum to 1."""
        return reduction_shares(self.reductions)

    @property
    def balance(self) -> float:
        """What remains of the reductions after the increases, as a share of the reductions."""
        gross = sum(self.reductions.values())
        return (gross + sum(self.increases.values())) / gross if gross else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """One row for each group."""
        return pd.DataFrame(
            {
                "group": GROUPS,
                "n_neurons": [self.n_neurons[g] for g in GROUPS],
                "n_reducing": [self.n_reducing[g] for g in GROUPS],
                "reduction": [self.reductions[g] for g in GROUPS],
                "increase": [self.increases[g] for g in GROUPS],
                "share": [self.shares[g] for g in GROUPS],
            }
        )


@dataclass(frozen=True, kw_only=True)
class NeuronChange:
    """Every neuron's projection on a direction in two models, over the same prompts."""

    layers: tuple[int, ...]
    """Layers of the rows."""
    before: Float[np.ndarray, "prompt layer neuron"]
    """Mean activation in each prompt, in the first model."""
    after: Float[np.ndarray, "prompt layer neuron"]
    """The same in the second model."""
    projection_before: Float[np.ndarray, "layer neuron"]
    """Length of the value vectors along the direction, in the first model."""
    projection_after: Float[np.ndarray, "layer neuron"]
    """The same in the second model."""
    cosine: Float[np.ndarray, "layer neuron"]
    """Cosine of value vector and direction, in the first model."""

    @property
    def reduction(self) -> Float[np.ndarray, "layer neuron"]:
        """How much less each neuron adds along the direction; negative where it adds more."""
        return _reduction(self, self.before.mean(0), self.after.mean(0))

    def group(self, name: str) -> Bool[np.ndarray, "layer neuron"]:
        """The neurons of a group, of which `reduction > 0` are those that reduce.

        Raises:
            ValueError: If there is no such group.
        """
        if name not in GROUPS:
            raise ValueError(f"no group {name!r}: groups are {', '.join(GROUPS)}")
        return _masks(self.cosine, self.before.mean(0))[name]

    def groups(self) -> NeuronGroups:
        """Sums and numbers of the four groups."""
        before = self.before.mean(0)
        return group_changes(self.cosine, before, _reduction(self, before, self.after.mean(0)))

    def intervals(
        self, *, level: float = 0.95, n_resamples: int = 200, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Percentile bootstrap over prompts of each group's share; signs are found anew."""
        rng = np.random.default_rng(derive(seed, "neuron groups"))
        n, samples = len(self.before), []
        for _ in range(n_resamples):
            counts = np.bincount(rng.integers(0, n, n), minlength=n) / n
            before, after = (np.tensordot(counts, x, 1) for x in (self.before, self.after))
            change = _reduction(self, before, after)
            samples.append(group_changes(self.cosine, before, change).shares)
        ends = ((1 - level) / 2, (1 + level) / 2)
        shares = {g: np.quantile([sample[g] for sample in samples], ends) for g in GROUPS}
        return {g: (float(low), float(high)) for g, (low, high) in shares.items()}

    def share_of(self, neurons: Bool[np.ndarray, "layer neuron"]) -> float:
        """Share of the whole reduction carried by those of the chosen neurons that reduce."""
        gains = np.clip(self.reduction, 0, None)
        return float(gains[neurons].sum() / gains.sum())

    def dampened(self, n: int) -> Bool[np.ndarray, "layer neuron"]:
        """The neurons of TP that reduce, as many as asked for, most aligned ones first."""
        found = self.group("TP") & (self.reduction > 0)
        cosines = np.where(found, self.cosine, -np.inf).ravel()
        chosen = np.zeros(found.size, bool)
        chosen[np.argsort(-cosines, kind="stable")[: min(n, int(found.sum()))]] = True
        return chosen.reshape(found.shape)

    def shrunk(self) -> "NeuronChange":
        """The null: every layer's activations times the factor that fits the second model best."""
        squares = (self.before**2).sum((0, 2))
        factor = (self.before * self.after).sum((0, 2)) / np.where(squares > 0, squares, 1)
        return replace(
            self,
            after=self.before * factor[None, :, None].astype(self.before.dtype),
            projection_after=self.projection_before,
        )

    def along(self, before: Alignment, after: Alignment) -> "NeuronChange":
        """The same activations along another direction.

        Args:
            before: The first model's value vectors and the direction, as `align` gives it.
            after: The second model's.

        Raises:
            ValueError: If they are of other layers.
        """
        if not self.layers == before.layers == after.layers:
            raise ValueError(
                f"layers are {self.layers}, but the alignments' {before.layers} and {after.layers}"
            )
        return replace(
            self,
            projection_before=before.projection,
            projection_after=after.projection,
            cosine=before.cosine,
        )

    def cells(self, neurons: Bool[np.ndarray, "layer neuron"]) -> tuple[Cell, ...]:
        """Chosen neurons as cells, one for each layer, for `patch_groups`."""
        return tuple(
            Cell(site="mlp_post", layer=layer, units=tuple(np.flatnonzero(row).tolist()))
            for layer, row in zip(self.layers, neurons, strict=True)
            if row.any()
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """The share of each group, with intervals over prompts, beside uniform shrinkage."""
        shares, ends, null = self.groups().shares, self.intervals(), self.shrunk().groups().shares
        names = [f"{g}, all activations shrunk" for g in GROUPS]
        return viz.bars(
            [*(shares[g] for g in GROUPS), *(null[g] for g in GROUPS)],
            [*(ends[g][0] for g in GROUPS), *(null[g] for g in GROUPS)],
            [*(ends[g][1] for g in GROUPS), *(null[g] for g in GROUPS)],
            labels=[*GROUPS, *names],
            controls=names,
            title="Which neurons carry the reduction",
            x_title="share of the reduction",
            **layout,
        )


def attribute_change(
    before: HookedModel,
    after: HookedModel,
    direction: Direction,
    prompts: Records | Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    positions: Selection | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = False,
) -> NeuronChange:
    """Which neurons changed what two models write along a direction.

    Args:
        before: The model before fine-tuning.
        after: The same model afterwards.
        direction: Such as that of a toxicity probe.
        prompts: Texts that both models read.
        layers: Which layers; all by default.
        positions: Over which tokens activations are averaged; by default the content without the
            first token.
        batch_tokens: Tokens of a batch, padding included.
        progress: Show a progress bar.

    Raises:
        ModelMismatchError: If the models differ in tokenizer or shape.
    """
    check_models(before, after)
    tokens = before.tokenize(prompts)
    found: list[np.ndarray] = []
    sides: list[Alignment] = []
    for model in (before, after):
        activity = mean_activations(
            model,
            tokens,
            layers=layers,
            positions=positions,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        found.append(activity.tensors["mlp_post"].numpy())
        sides.append(align(model, direction, layers=activity.layers))
    if found[0].shape != found[1].shape:
        raise ModelMismatchError(
            f"{before.name!r} has {found[0].shape[-1]} neurons a layer, but {after.name!r} has "
            f"{found[1].shape[-1]}"
        )
    return NeuronChange(
        layers=sides[0].layers,
        before=found[0],
        after=found[1],
        projection_before=sides[0].projection,
        projection_after=sides[1].projection,
        cosine=sides[0].cosine,
    )


def group_changes(
    cosine: Float[np.ndarray, "layer neuron"],
    activation: Float[np.ndarray, "layer neuron"],
    reduction: Float[np.ndarray, "layer neuron"],
) -> NeuronGroups:
    """Sums of the four groups.

    Args:
        cosine: Of value vector and direction, before.
        activation: Mean activation before.
        reduction: Projection before minus projection after.
    """
    masks = _masks(cosine, activation)
    less, more = np.clip(reduction, 0, None), np.clip(reduction, None, 0)
    return NeuronGroups(
        reductions={g: float(less[mask].sum(dtype=np.float64)) for g, mask in masks.items()},
        increases={g: float(more[mask].sum(dtype=np.float64)) for g, mask in masks.items()},
        n_reducing={g: int((less[mask] > 0).sum()) for g, mask in masks.items()},
        n_neurons={g: int(mask.sum()) for g, mask in masks.items()},
    )


def reduction_shares(reductions: Mapping[str, float]) -> dict[str, float]:
    """Each group's share of the sum of all.

    Examples:
        >>> reduction_shares({"TP": 3.0, "AN": 1.0})
        {'TP': 0.75, 'AN': 0.25}
    """
    total = sum(reductions.values())
    return {g: value / total if total else float("nan") for g, value in reductions.items()}


def edited_activations(
    alignment: Alignment,
    activation: Float[np.ndarray, "layer neuron"],
    *,
    strength: float = 0.05,
    fraction: float = 0.5,
) -> tuple[Bool[np.ndarray, "layer neuron"], Float[np.ndarray, "layer neuron"]]:
    """Neurons and constants of the edit that imitates training without any (Yang et al. 2025).

    Of TP and AN the most aligned neurons are held below their mean activation, of AP and TN the
    least aligned ones above it.

    Args:
        alignment: Of the value vectors with the direction.
        activation: Mean activation of each neuron.
        strength: By which share of the mean.
        fraction: Which share of each group.

    Returns:
        Which neurons, and the constants at which `ablate_neurons(neurons, values=...)` holds them.
    """
    sizes = np.abs(alignment.cosine)
    chosen = np.zeros(sizes.shape, bool)
    values = activation.copy()
    for name, mask in _masks(alignment.cosine, activation).items():
        if not mask.any():
            continue
        most = name in ("TP", "AN")
        ranked = np.quantile(sizes[mask], 1 - fraction if most else fraction)
        part = mask & (sizes >= ranked if most else sizes <= ranked)
        chosen |= part
        values[part] *= 1 - strength if most else 1 + strength
    return chosen, values


def _masks(cosine: np.ndarray, activation: np.ndarray) -> dict[str, np.ndarray]:
    """The four groups, which share no neuron and leave none out; zero counts as below."""
    aligned, positive = cosine > 0, activation > 0
    return {
        "TP": aligned & positive,
        "AN": ~aligned & ~positive,
        "TN": aligned & ~positive,
        "AP": ~aligned & positive,
    }


def _reduction(change: NeuronChange, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return before * change.projection_before - after * change.projection_after
