"""Edges: how much of the difference passes from one component straight to another.

Edge attribution patching (Syed et al. 2023, arXiv 2310.10348) estimates for every component that
writes and every one that reads later what patching this path alone would restore: the change of the
writing times the gradient at the reader's input. `verify_edges` then keeps the largest edges, puts
the corrupted run into all others, and sees exactly how much remains, beside as many random edges
(Hanna et al. 2024 call that faithfulness, arXiv 2403.17806). An estimate errs as all first-order
estimates do; `interp.attribution.paths` patches single paths exactly.

The work is done by transformer-lens on a bridge, which is why this module is imported by its full
name. It refuses models in which heads share keys and values (Llama, Gemma), or normalize what they
write: there a head has no path of its own.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp import viz
from interp.attribution.cells import columns_of
from interp.attribution.comparisons import Comparison
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs, paired_ids
from interp.attribution.results import Effects
from interp.core.circuits import EdgeAttributionConfig, Node, attribution_patch, faithfulness
from interp.core.model import HookedModel
from interp.core.seeds import derive

_WRITERS = {"embed": "embedding", "attn_head_out": "head", "mlp_out": "MLP"}
_READERS = {
    "q_input": "queries",
    "k_input": "keys",
    "v_input": "values",
    "mlp_in": "MLP",
    "logits": "logits",
}


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A path from one component to another at one token."""

    writer: str
    """"embedding", "head 0.1" (layer and head) or "MLP 0"."""
    reader: str
    """"queries 1.2", "keys 1.2" or "values 1.2" of a head, "MLP 1", or "logits"."""
    column: int
    """Position of the token."""


@dataclass(frozen=True, kw_only=True)
class EdgeResult(Effects):
    """What patching each edge would restore, estimated."""

    edges: tuple[Edge, ...]
    """The edges, one for each column of the values."""
    columns: tuple[str, ...]
    """Labels of the position axis."""

    def top(self, n: int) -> tuple[Edge, ...]:
        """The edges with the largest effects, regardless of sign."""
        return tuple(self.edges[i] for i in np.argsort(-np.abs(self.effects), kind="stable")[:n])

    def to_frame(self) -> pd.DataFrame:
        """One row for each edge: effect, and its interval over pairs."""
        low, high = self.intervals().T
        return pd.DataFrame(
            {
                "writer": [edge.writer for edge in self.edges],
                "reader": [edge.reader for edge in self.edges],
                "column": [edge.column for edge in self.edges],
                "token": [self.columns[edge.column] for edge in self.edges],
                "effect": self.effects,
                "low": low,
                "high": high,
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """The effect of each writer on each reader, summed over tokens."""
        frame = self.to_frame()
        table = frame.pivot_table(
            index="writer", columns="reader", values="effect", aggfunc="sum", sort=False
        )
        return viz.heatmap(
            table.to_numpy(),
            x=list(table.columns),
            y=list(table.index),
            title=f"Edges: share of the {self.metric} restored (estimated, summed over tokens)",
            x_title="reads",
            y_title="writes",
            value_name="share restored",
            diverging=True,
            **layout,
        )


@dataclass(frozen=True, kw_only=True)
class CircuitResult(Comparison):
    """How much of the difference remains when everything outside a circuit is corrupted."""

    edges: tuple[Edge, ...]
    """The circuit."""
    n_edges: int
    """How many edges the whole model has."""


def attribute_edges(model: HookedModel, pairs: Pairs, metric: Metric) -> EdgeResult:
    """Estimate what every edge would restore if the clean run were put into it.

    Args:
        model: A language model in which every head has keys and values of its own.
        pairs: Clean and corrupted texts, all of one length.
        metric: What to judge a run by; it must be differentiable.

    Raises:
        ValueError: If texts differ in length, or transformer-lens does not support the
            architecture (the message says why).
    """
    clean, corrupted = (ids.to(model.device) for ids in paired_ids(pairs))
    bridge: Any = model.bridge()
    settings = EdgeAttributionConfig(granularity="edge")
    rows = [
        attribution_patch(
            bridge, clean[[pair]], corrupted[[pair]], _score_of(metric, pair), settings
        ).edge_scores
        for pair in range(len(pairs))
    ]
    scores = [_scores(bridge, metric, ids) for ids in (clean, corrupted)]
    changes = np.array([list(row.values()) for row in rows])
    return EdgeResult(
        values=scores[1][:, None] + changes,
        clean=scores[0],
        corrupted=scores[1],
        source="clean",
        metric=metric.name,
        edges=tuple(_edge(*ends) for ends in rows[0]),
        columns=columns_of(pairs.corrupted).labels,
    )


def verify_edges(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    estimate: EdgeResult,
    *,
    n_top: int = 20,
    n_random: int = 2,
    seed: int = 0,
) -> CircuitResult:
    """Keep the edges with the largest estimates, corrupt all others, and see what remains.

    Args:
        model: The model of the estimate.
        pairs: Pairs of its kind, better others than those of the estimate.
        metric: What to judge a run by.
        estimate: Result of `attribute_edges`.
        n_top: How many edges are kept.
        n_random: How many random circuits of this size are the control.
        seed: Seed of their choice.

    Raises:
        ValueError: If texts differ in length from those of the estimate, or a pair's two runs do
            not differ in the metric.
    """
    clean, corrupted = (ids.to(model.device) for ids in paired_ids(pairs))
    bridge: Any = model.bridge()
    circuits = {"largest estimates": estimate.top(n_top)}
    rng = np.random.default_rng(derive(seed, "random circuits"))
    for k in range(n_random):
        chosen = rng.choice(len(estimate.edges), n_top, replace=False)
        circuits[f"random edges {k}"] = tuple(estimate.edges[i] for i in chosen)
    values = [
        [
            faithfulness(
                bridge, clean[[pair]], corrupted[[pair]], _score_of(metric, pair), nodes
            ).recovered
            for pair in range(len(pairs))
        ]
        for nodes in ([_nodes(e, model.n_layers) for e in kept] for kept in circuits.values())
    ]
    return CircuitResult(
        quantity=f"share of the {metric.name} that remains",
        conditions=tuple(circuits),
        controls=tuple(circuits)[1:],
        values=np.array(values),
        edges=circuits["largest estimates"],
        n_edges=len(estimate.edges),
    )


def _score_of(metric: Metric, pair: int) -> Any:
    """The metric of one run of a pair, from its logits."""

    def score(logits: Tensor) -> Tensor:
        rows = torch.tensor([pair], device=logits.device)
        return metric.score(logits[:, -metric.n_kept :].float(), rows)[0]

    return score


def _scores(bridge: Any, metric: Metric, ids: Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = bridge(ids)[:, -metric.n_kept :].float()
        rows = torch.arange(len(ids), device=ids.device)
        return metric.score(logits, rows).double().cpu().numpy()


def _edge(writer: Node, reader: Node) -> Edge:
    return Edge(
        writer=_name(_WRITERS[writer.kind], writer),
        reader=_READERS[reader.kind]
        if reader.kind == "logits"
        else _name(_READERS[reader.kind], reader),
        column=writer.position,
    )


def _name(kind: str, node: Node) -> str:
    place = [str(number) for number in (node.layer, node.head) if number is not None]
    return " ".join([kind, ".".join(place)]) if place else kind


def _nodes(edge: Edge, n_layers: int) -> tuple[Node, Node]:
    writer = _node(edge.writer, edge.column, _WRITERS)
    if edge.reader == "logits":
        return writer, Node(kind="logits", position=edge.column, layer=n_layers - 1)
    return writer, _node(edge.reader, edge.column, _READERS)


def _node(name: str, column: int, kinds: dict[str, str]) -> Node:
    kind: Any = next(key for key, word in kinds.items() if word == name.split(maxsplit=1)[0])
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    places = dict(zip(("layer", "head"), numbers, strict=False))
    return Node(kind=kind, position=column, **places)
