"""Reading pairs: the activations of both sides at all layers, from one pass over shared tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from interp.core.activations import Activations
from interp.core.extraction import extract
from interp.core.hooks import Stop
from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.core.tokens import Selection, Tokens
from steering.contrast import Pairs
from steering.trees import TREE_TOKENS, TokenTree, check_trees, plant


@dataclass(frozen=True, kw_only=True, eq=False)
class PairActivations:
    """Activations of the two sides of pairs."""

    positive: Activations
    """One row for each pair."""
    negative: Activations
    """Likewise, in the same order."""
    norms: Mapping[int, float]
    """Mean norm of the activations of single tokens that were read, by layer."""
    answers: tuple[str, ...] | None = None
    """Answer that shows the trait in each pair, where pairs are about answers."""

    def __post_init__(self) -> None:
        """Check that the sides belong together."""
        if len(self.positive) != len(self.negative):
            raise ValueError(
                f"{len(self.positive)} positive and {len(self.negative)} negative rows: pairs need "
                "as many of each"
            )
        if self.positive.layers != self.negative.layers or self.positive.tokens is not None:
            raise ValueError("both sides need pooled activations of the same layers")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.positive)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "PairActivations":
        """The pairs at a slice, a list of indices or a boolean mask."""
        chosen = np.arange(len(self))[index]
        answers = None if self.answers is None else tuple(self.answers[i] for i in chosen)
        return PairActivations(
            positive=self.positive[chosen],
            negative=self.negative[chosen],
            norms=self.norms,
            answers=answers,
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that were read."""
        return self.positive.layers

    def sides(self, layer: int) -> tuple[Tensor, Tensor]:
        """Positive and negative activations of a layer, float32, shape (pair, *feature)."""
        return self.positive.at(layer).matrix.float(), self.negative.at(layer).matrix.float()

    def differences(self, layer: int) -> Float[Tensor, "pair ..."]:
        """Positive minus negative activations of a layer."""
        positive, negative = self.sides(layer)
        return positive - negative


def extract_pairs(
    model: HookedModel,
    pairs: Pairs,
    *,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    read: Selection = "last",
    share_prefixes: bool = True,
    max_tokens: int = TREE_TOKENS,
    progress: bool = False,
) -> PairActivations:
    """Activations of both sides of pairs; where several tokens are read, their mean.

    Args:
        model: A language model.
        pairs: The pairs.
        layers: One layer or several, negative ones from the end; `None` for all.
        site: Name of the site.
        read: Which tokens: the last one of the content by default; `Span(turn=-1)` is the whole
            last message, `Span(text=...)` a piece of it.
        share_prefixes: Compute tokens that texts have in common once.
        max_tokens: Tokens that run together.
        progress: Show a progress bar.

    Raises:
        HookNotFoundError: If the model lacks the site or a layer.
        ValueError: If a text is too long, no token of a text is read, or a value is not finite.
    """
    tokens = [model.tokenize(records) for records in (pairs.positive, pairs.negative)]
    keeps = [table.mask(read) for table in tokens]
    chosen = range(model.n_layers) if layers is None else layers
    chosen = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    sites = model.sites.at(site, chosen)
    if share_prefixes:
        values, norms = _read_trees(model, tokens, keeps, sites, max_tokens, progress)
    else:
        values, norms = _read_single(model, tokens, keeps, sites, progress)
    layer_labels = tuple(s.layer or 0 for s in sites)
    sides = [
        Activations(tensors={site: side}, layers=layer_labels, pooling="mean", origin=model.origin)
        for side in values
    ]
    return PairActivations(
        positive=sides[0],
        negative=sides[1],
        norms=dict(zip(layer_labels, norms.tolist(), strict=True)),
        answers=pairs.answers,
    )


def _read_trees(
    model: HookedModel,
    tokens: list[Tokens],
    keeps: list[np.ndarray],
    sites: tuple[Site, ...],
    max_tokens: int,
    progress: bool,
) -> tuple[list[Tensor], Float[Tensor, " layer"]]:
    """Means over the tokens that are read, for both sides, and the mean norm of such a token."""
    sequences, reads = [], []
    for table, keep in zip(tokens, keeps, strict=True):
        for start, stop in zip(table.offsets[:-1], table.offsets[1:], strict=True):
            wanted = np.flatnonzero(keep[start:stop])
            reads.append(wanted)
            sequences.append(table.ids[start : start + wanted[-1] + 1].tolist())
    check_trees(model, layer=max(site.layer or 0 for site in sites))
    rows: list[Tensor | None] = [None] * len(sequences)
    total, n_read = torch.zeros(len(sites)), 0
    for tree in tqdm(
        plant(sequences, max_tokens=max_tokens), disable=not progress, desc="extract pairs"
    ):
        values = _run_tree(model, tree, sites)
        for number, path in zip(tree.sequences, tree.paths, strict=True):
            read = values[torch.from_numpy(path[reads[number]])]
            rows[number] = read.mean(dim=0)
            total += read.flatten(2).norm(dim=-1).sum(dim=0)
            n_read += len(read)
    stacked = torch.stack([row for row in rows if row is not None])
    _check_finite(stacked)
    n = len(tokens[0])
    return [stacked[:n], stacked[n:]], total / n_read


def _run_tree(
    model: HookedModel, tree: TokenTree, sites: tuple[Site, ...]
) -> Float[Tensor, "node layer *feature"]:
    """Values at the sites for each node, stopped as soon as everything has been read."""
    found: dict[Site, Tensor] = {}

    def read(value: Tensor, site: Site) -> None:
        found[site] = value[0].detach().float().cpu()
        if len(found) == len(set(sites)):
            raise Stop

    reads = [(site, lambda value, call, site=site: read(value, site)) for site in set(sites)]
    with torch.no_grad(), model.hooks.attached(reads=reads):
        try:
            model.body(**tree.inputs(model), use_cache=False)
        except Stop:
            pass
    return torch.stack([found[site] for site in sites], dim=1)


def _read_single(
    model: HookedModel,
    tokens: list[Tokens],
    keeps: list[np.ndarray],
    sites: tuple[Site, ...],
    progress: bool,
) -> tuple[list[Tensor], Float[Tensor, " layer"]]:
    """The same as `_read_trees` through the core's extraction."""
    values, norms = [], []
    for table, keep in zip(tokens, keeps, strict=True):
        layers = [site.layer or 0 for site in sites]
        acts = extract(model, table, layers=layers, sites=sites[0].name, progress=progress)
        rows = acts.values[torch.from_numpy(keep)]
        lengths = np.bincount(table.examples[keep], minlength=len(table)).tolist()
        values.append(torch.stack([part.mean(dim=0) for part in rows.split(lengths)]))
        norms.append(rows.flatten(2).norm(dim=-1))
    return values, torch.cat(norms).mean(dim=0)


def _check_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError("activations of these pairs are not finite: use float32")
