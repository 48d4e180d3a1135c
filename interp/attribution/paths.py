"""Path patching: what one head says to each later head alone.

The change of a head's writing between the runs is added to the queries (or keys, or values) of one
later head, while every other reader sees what it saw (Wang et al. 2023, arXiv 2211.00593). The work
is done by transformer-lens on a bridge, which is why this module is imported by its full name.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp import viz
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs, paired_ids
from interp.core.bridge import get_act_patch_direct_path
from interp.core.model import HookedModel


@dataclass(frozen=True, kw_only=True)
class PathResult:
    """What the paths from one head to every later head restore."""

    layer: int
    """Layer of the head that writes."""
    head: int
    """The head that writes."""
    component: str
    """Which input of the later heads: "q", "k" or "v"."""
    effects: Float[np.ndarray, "layer head"]
    """Share of the mean difference between the runs that each path restores; NaN up to the layer
    of the head that writes."""
    metric: str
    """Name of the metric."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each path."""
        rows = np.argwhere(np.isfinite(self.effects))
        return pd.DataFrame(
            {"layer": rows[:, 0], "head": rows[:, 1], "effect": self.effects[tuple(rows.T)]}
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """Effects as a matrix: layer by head that reads."""
        n_layers, n_heads = self.effects.shape
        return viz.heatmap(
            self.effects,
            x=range(n_heads),
            y=range(n_layers),
            title=f"Paths from head {self.layer}.{self.head} to the {self.component} of each head",
            x_title="head that reads",
            y_title="layer",
            value_name=f"share of the {self.metric} restored",
            diverging=True,
            **layout,
        )


def patch_paths(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    *,
    layer: int,
    head: int,
    component: Literal["q", "k", "v"] = "q",
) -> PathResult:
    """Patch the direct path from one head to every later head, one run each.

    Args:
        model: A language model whose attention writes to the residual stream without a norm.
        pairs: Clean and corrupted texts, all of one length.
        metric: What to judge a run by.
        layer: Layer of the head that writes.
        head: The head that writes.
        component: Which input of the later heads; heads that share keys have only "q".

    Raises:
        ValueError: If texts differ in length, the runs do not differ in the metric, or
            transformer-lens does not support the architecture (the message says why).
    """
    clean, corrupted = (ids.to(model.device) for ids in paired_ids(pairs))
    bridge: Any = model.bridge()
    rows = torch.arange(len(pairs), device=model.device)

    def score(logits: Tensor) -> Tensor:
        return metric.score(logits[:, -metric.n_kept :].float(), rows).mean()

    name = f"blocks.{layer}.attn.hook_z"
    with torch.no_grad():
        (there, clean_cache), (here, corrupted_cache) = (
            bridge.run_with_cache(ids, names_filter=name) for ids in (clean, corrupted)
        )
        start, gap = float(score(here)), float(score(there)) - float(score(here))
        if gap == 0:
            raise ValueError(f"clean and corrupted runs have the same {metric.name}")
        found = get_act_patch_direct_path(
            bridge,
            corrupted,
            clean_cache,
            corrupted_cache,
            score,
            src_layer=layer,
            src_head=head,
            component=component,
            verbose=False,
        )
    effects = (found.cpu().double().numpy() - start) / gap
    effects[: layer + 1] = np.nan
    return PathResult(
        layer=layer, head=head, component=component, effects=effects, metric=metric.name
    )
