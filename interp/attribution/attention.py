"""Estimated effects of queries and keys, through the softmax of attention.

Attribution patching is at its worst there: where attention is saturated, the gradient is nearly
zero although another query would look elsewhere. AtP* (Kramar et al. 2024, arXiv 2403.00745)
computes the attention pattern that a patched query or key would give, and takes the gradient only
from the pattern on. What lies behind the pattern is still taken as linear.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp import viz
from interp.attribution.cells import columns_of
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs, paired_ids
from interp.core.model import HookedModel


@dataclass(frozen=True, kw_only=True)
class AttentionEstimate:
    """What patching each clean query or key into the corrupted run would restore, estimated."""

    queries: Float[np.ndarray, "layer head pos"]
    """Share of the mean difference between the runs, for each query."""
    keys: Float[np.ndarray, "layer key_head pos"]
    """The same for each key; there may be fewer heads of keys."""
    columns: tuple[str, ...]
    """Labels of the position axis."""
    metric: str
    """Name of the metric."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each query and each key."""
        rows = [
            {"component": name, "layer": layer, "head": head, "column": column, "effect": effect}
            for name, table in (("q", self.queries), ("k", self.keys))
            for (layer, head, column), effect in np.ndenumerate(table)
        ]
        return pd.DataFrame(rows)

    def plot(self, component: Literal["q", "k"] = "q", **layout: Any) -> viz.Figure:
        """The largest effect of each head over positions, layer by head, with its token."""
        table = self.queries if component == "q" else self.keys
        best = np.abs(table).argmax(axis=2)
        kind = "queries" if component == "q" else "keys"
        return viz.heatmap(
            np.take_along_axis(table, best[..., None], 2)[..., 0],
            x=range(table.shape[1]),
            y=range(table.shape[0]),
            title=f"{kind}: largest share of the {self.metric} restored (estimated)",
            x_title="head",
            y_title="layer",
            value_name="share restored",
            diverging=True,
            hover=[[f"at {k}:{self.columns[k]}" for k in row] for row in best],
            **layout,
        )


def attribute_attention(
    model: HookedModel, pairs: Pairs, metric: Metric, *, corrected: bool = True
) -> AttentionEstimate:
    """Estimate what clean queries and keys would restore in the corrupted run.

    Args:
        model: A language model that a transformer-lens bridge can open.
        pairs: Clean and corrupted texts, all of one length.
        metric: What to judge a run by.
        corrected: Compute the patched attention pattern; otherwise its first-order change, which is
            plain attribution patching.

    Raises:
        ValueError: If texts differ in length, the runs do not differ in the metric, or attention
            scores are not products of queries and keys (as where they are capped).
    """
    clean, corrupted = (ids.to(model.device) for ids in paired_ids(pairs))
    bridge: Any = model.bridge()
    layers = range(model.n_layers)
    rows = torch.arange(len(pairs), device=model.device)
    hooks = [f"blocks.{k}.attn.hook_{name}" for k in layers for name in _HOOKS]
    with torch.no_grad():
        there, source = bridge.run_with_cache(clean, names_filter=lambda n: n in hooks)
        here, base = bridge.run_with_cache(corrupted, names_filter=lambda n: n in hooks)
        scores = [metric.score(x[:, -metric.n_kept :].float(), rows) for x in (there, here)]
    gap = float((scores[0] - scores[1]).mean())
    if gap == 0:
        raise ValueError(f"clean and corrupted runs have the same {metric.name}")
    gradients = _pattern_gradients(bridge, corrupted, metric, base, layers)
    found = [_layer_effects(source, base, gradients[layer], layer, corrected) for layer in layers]
    queries, keys = (
        torch.stack(parts).cpu().double().numpy() / gap for parts in zip(*found, strict=True)
    )
    return AttentionEstimate(
        queries=queries,
        keys=keys,
        columns=columns_of(pairs.corrupted).labels,
        metric=metric.name,
    )


_HOOKS = ("q", "k", "rot_q", "rot_k", "attn_scores", "pattern")


def _pattern_gradients(
    bridge: Any, ids: Tensor, metric: Metric, base: Any, layers: range
) -> list[Float[Tensor, "pair head query key"]]:
    """Gradient of the metric with respect to each layer's attention pattern."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
    leaves = {name: torch.zeros_like(base[name], requires_grad=True) for name in names}
    hooks = [(n, lambda value, hook, n=n: value + leaves[n]) for n in names]
    with torch.enable_grad():
        logits = bridge.run_with_hooks(ids, fwd_hooks=hooks)[:, -metric.n_kept :].float()
        total = metric.score(logits, torch.arange(len(ids), device=ids.device)).sum()
        return list(torch.autograd.grad(total, list(leaves.values())))


def _layer_effects(
    source: Any, base: Any, gradient: Tensor, layer: int, corrected: bool
) -> tuple[Float[Tensor, "head pos"], Float[Tensor, "key_head pos"]]:
    """Mean estimated change of the metric for each query and each key of a layer."""
    scores = base[f"blocks.{layer}.attn.hook_attn_scores"]
    pattern = base[f"blocks.{layer}.attn.hook_pattern"]
    q, q_clean = (_heads_first(cache, layer, "q") for cache in (base, source))
    k, k_clean = (_heads_first(cache, layer, "k") for cache in (base, source))
    n_shared = q.shape[1] // k.shape[1]
    k, k_clean = (x.repeat_interleave(n_shared, dim=1) for x in (k, k_clean))
    known = scores > 0.5 * torch.finfo(scores.dtype).min  # the rest is masked, and stays so
    scale = _scale(scores[known], (q @ k.mT)[known], layer)
    by_query = torch.where(known, (q_clean - q) @ k.mT * scale, 0)
    by_key = torch.where(known, q @ (k_clean - k).mT * scale, 0)
    if corrected:
        queries = (((scores + by_query).softmax(-1) - pattern) * gradient).sum(-1)
        columns = []
        for column in range(scores.shape[-1]):
            patched = scores.clone()
            patched[..., column] += by_key[..., column]
            columns.append(((patched.softmax(-1) - pattern) * gradient).sum((-2, -1)))
        keys = torch.stack(columns, dim=-1)
    else:
        slope = pattern * (gradient - (pattern * gradient).sum(-1, keepdim=True))
        queries, keys = (slope * by_query).sum(-1), (slope * by_key).sum(-2)
    return queries.mean(0), keys.unflatten(1, (-1, n_shared)).sum(2).mean(0)


def _heads_first(cache: Any, layer: int, name: str) -> Float[Tensor, "pair head pos d_head"]:
    """Queries or keys as they enter the scores, behind the rotation by position if there is one."""
    rotated = f"blocks.{layer}.attn.hook_rot_{name}"
    value = cache[rotated] if rotated in cache else cache[f"blocks.{layer}.attn.hook_{name}"]
    return value.transpose(1, 2)


def _scale(scores: Float[Tensor, " n"], products: Float[Tensor, " n"], layer: int) -> float:
    """The factor between scores and products of queries and keys."""
    scale = float((scores * products).sum() / (products * products).sum())
    error = float((scores - scale * products).abs().max())
    if error > 1e-3 * max(1.0, float(scores.abs().max())):
        raise ValueError(f"attention scores of layer {layer} are not products of queries and keys")
    return scale
