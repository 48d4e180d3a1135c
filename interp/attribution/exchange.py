"""One batch of pairs: the run that is patched, and what is put into it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.attribution.cells import Cell, Columns, columns_of
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs
from interp.attribution.results import Source
from interp.attribution.resuming import left_padded, observe
from interp.core.errors import ModelMismatchError
from interp.core.model import HookedModel
from interp.core.seeds import derive
from interp.core.sites import Site
from interp.core.tokens import Span, Tokens

Matches = tuple[Int[np.ndarray, "_ 2"], ...]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A batch of pairs with activations of both sides at the positions of the patched run."""

    rows: Int[np.ndarray, " row"]
    """Which pairs these are."""
    batch: Mapping[str, Tensor]
    """Inputs of the run that is patched, padded on the left."""
    columns: Bool[Tensor, "column row pos"]
    """Tokens of each column."""
    matched: Bool[Tensor, "row pos"]
    """Tokens for which there is something to put in."""
    base: Mapping[Site, Tensor]
    """Activations of the run that is patched, shapes (row, pos, *feature)."""
    source: Mapping[Site, Tensor]
    """What is put in, at the same positions; anything where nothing matches."""
    base_scores: Float[Tensor, " row"]
    """The metric of the run that is patched."""
    other_scores: Float[Tensor, " row"]
    """The metric of the other run of each pair."""

    def mask(self, cell: Cell) -> Bool[Tensor, "row pos"]:
        """The tokens that a cell patches."""
        return self.matched if cell.column is None else self.columns[cell.column] & self.matched

    def put(self, value: Tensor, cell: Cell) -> Tensor:
        """A value at the cell's site, shape (row, pos, *feature), with the cell patched."""
        site = Site(cell.site, cell.layer)
        chosen = self.mask(cell).reshape(*value.shape[:2], *[1] * (value.ndim - 2))
        if cell.units is not None:
            units = torch.zeros(value.shape[2], dtype=torch.bool, device=value.device)
            units[list(cell.units)] = True
            chosen = chosen & units.reshape(-1, *[1] * (value.ndim - 3))
        return torch.where(chosen, self.source[site], value)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that is the same for all batches of a sweep."""

    model: HookedModel
    pairs: Pairs
    metric: Metric
    source: Source
    columns: Columns
    source_model: HookedModel
    """Where the other run is made."""
    matches: Matches
    """For each pair the positions in the run that is patched and in the one put in."""
    put_in: Tokens | None
    """Texts whose activations are put in; `None` for zeros and means."""

    @property
    def base_tokens(self) -> Tokens:
        """Texts of the run that is patched."""
        return self.pairs.corrupted if self.source == "clean" else self.pairs.clean

    def exchanges(
        self, base: Sequence[Site], put_in: Sequence[Site], batch_tokens: int
    ) -> Iterator[Exchange]:
        """Batches of pairs with activations at sites.

        Args:
            base: Sites to read in the run that is patched.
            put_in: Sites at which something is put in.
            batch_tokens: Tokens of a batch, padding included.
        """
        means = self._means(put_in, batch_tokens) if self.source == "mean" else {}
        for rows in self._plan(batch_tokens):
            yield self._exchange(rows, [*base, *put_in], put_in, means)

    def _exchange(
        self,
        rows: np.ndarray,
        read: Sequence[Site],
        put_in: Sequence[Site],
        means: Mapping[Site, Tensor],
    ) -> Exchange:
        batch = left_padded(self.model, self.base_tokens, rows)
        logits, base = observe(self.model, batch, read, self.metric.n_kept)
        width, device = batch["input_ids"].shape[1], self.model.device
        other = None  # the run that is put in, where it is the pair's other run
        matched = torch.zeros(len(rows), width, dtype=torch.bool, device=device)
        if self.put_in is None:
            source = {
                site: means[site].to(base[site]).expand_as(base[site])
                if means
                else torch.zeros_like(base[site])
                for site in put_in
            }
            matched |= batch["attention_mask"].bool()
        else:
            there = left_padded(self.source_model, self.put_in, rows)
            logits_there, found = observe(self.source_model, there, put_in, self.metric.n_kept)
            other = None if self.source == "resample" else logits_there
            index = self._index(rows, width, there["input_ids"].shape[1]).to(device)
            matched |= index >= 0
            source = {site: _aligned(value.to(device), index) for site, value in found.items()}
            _check_shapes(base, source)
        return Exchange(
            rows=rows,
            batch=batch,
            columns=self._column_masks(rows, width).to(device),
            matched=matched,
            base=base,
            source=source,
            base_scores=scored(self.metric, logits, rows, "without a patch"),
            other_scores=self._other_scores(rows, other),
        )

    def _other_scores(self, rows: np.ndarray, logits: Tensor | None) -> Float[Tensor, " row"]:
        """The metric of the run that is not patched; it is made if there are no logits of it."""
        if logits is None:
            batch = left_padded(self.model, self.pairs.corrupted, rows)
            logits, _ = observe(self.model, batch, (), self.metric.n_kept)
        return scored(self.metric, logits, rows, "in the other run").to(self.model.device)

    def _plan(self, batch_tokens: int) -> list[np.ndarray]:
        """Pairs of each batch, in their order."""
        size = max(1, batch_tokens // int(self.base_tokens.lengths.max()))
        return np.array_split(np.arange(len(self.pairs)), -(-len(self.pairs) // size))

    def _index(self, rows: np.ndarray, width: int, source_width: int) -> Int[Tensor, "row pos"]:
        """For each token of the patched run the column of its match, -1 without one."""
        assert self.put_in is not None
        index = torch.full((len(rows), width), -1)
        for row, pair in enumerate(rows):
            here, there = torch.from_numpy(self.matches[pair]).T
            start = width - int(self.base_tokens.lengths[pair])
            source_start = source_width - int(self.put_in.lengths[pair])
            index[row, here + start] = there + source_start
        return index

    def _column_masks(self, rows: np.ndarray, width: int) -> Bool[Tensor, "column row pos"]:
        masks = torch.zeros(len(self.columns.labels), len(rows), width, dtype=torch.bool)
        for row, pair in enumerate(rows):
            mask = torch.from_numpy(self.columns.masks[pair])
            masks[:, row, width - mask.shape[1] :] = mask
        return masks

    def _means(self, sites: Sequence[Site], batch_tokens: int) -> dict[Site, Tensor]:
        """Mean activations over the real tokens of the patched runs."""
        totals: dict[Site, Tensor] = {}
        for rows in self._plan(batch_tokens):
            batch = left_padded(self.model, self.base_tokens, rows)
            _, values = observe(self.model, batch, sites, 1)
            keep = batch["attention_mask"].bool()
            for site, value in values.items():
                totals[site] = totals.get(site, 0) + value[keep].double().sum(0)
        return {site: t / int(self.base_tokens.lengths.sum()) for site, t in totals.items()}


def make_setting(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    *,
    source: Source,
    spans: Mapping[str, Span] | None,
    source_model: HookedModel | None,
    seed: int,
) -> Setting:
    """Resolve what is put where.

    Raises:
        ValueError: If positions are not the same place in all texts and no spans are given.
        ModelMismatchError: If the two models do not read texts alike.
    """
    if source_model is not None:
        check_models(model, source_model)
    base = pairs.corrupted if source == "clean" else pairs.clean
    matches, put_in = pairs.matches, None
    if source in ("clean", "corrupted"):
        put_in = pairs.clean if source == "clean" else pairs.corrupted
        matches = tuple(m[:, ::-1].copy() for m in matches) if source == "clean" else matches
    elif source == "resample":
        partners = _partners(len(pairs), seed)
        put_in = pairs.clean.rows(partners)
        shared = np.minimum(pairs.clean.lengths, put_in.lengths)
        matches = tuple(np.repeat(np.arange(n)[:, None], 2, axis=1) for n in shared)
    return Setting(
        model=model,
        pairs=pairs,
        metric=metric,
        source=source,
        columns=columns_of(base, spans),
        source_model=model if source_model is None else source_model,
        matches=matches,
        put_in=put_in,
    )


def scored(metric: Metric, logits: Tensor, rows: np.ndarray, what: str) -> Float[Tensor, " run"]:
    """The metric of some runs.

    Raises:
        ValueError: If it has another shape than one number for each run, or is not finite.
    """
    values = metric.score(logits, torch.from_numpy(rows).to(logits.device))
    if values.shape != rows.shape:
        raise ValueError(
            f"metric {metric.name!r} gave shape {tuple(values.shape)} for {len(rows)} runs: needed "
            "one number for each run"
        )
    wrong = ~values.isfinite()
    if bool(wrong.any()):
        pair = int(rows[int(wrong.nonzero()[0, 0])])
        raise ValueError(f"metric {metric.name!r} is NaN or infinite for pair {pair} {what}")
    return values


def _partners(n: int, seed: int) -> Int[np.ndarray, " pair"]:
    """Another pair for each pair."""
    if n < 2:
        raise ValueError("source='resample' takes activations of another pair: needed two or more")
    order = np.random.default_rng(derive(seed, "resampled pairs")).permutation(n)
    partners = np.empty(n, np.int64)
    partners[order] = np.roll(order, 1)
    return partners


def _aligned(value: Tensor, index: Int[Tensor, "row pos"]) -> Tensor:
    """Values at the columns of an index, anything where it is -1."""
    rows = torch.arange(len(index), device=index.device)[:, None]
    return value[rows, index.clamp(min=0)]


def _check_shapes(base: Mapping[Site, Tensor], source: Mapping[Site, Tensor]) -> None:
    for site, value in source.items():
        if value.shape[2:] != base[site].shape[2:]:
            raise ModelMismatchError(
                f"{site} has features of shape {tuple(base[site].shape[2:])} in the model and "
                f"{tuple(value.shape[2:])} in the source model: needed models of one shape"
            )


def check_models(model: HookedModel, other: HookedModel) -> None:
    """Refuse two models that do not read texts alike.

    Raises:
        ModelMismatchError: If they differ in tokenizer, layers or width.
    """
    vocabularies = [m.tokenizer.get_vocab() for m in (model, other)]
    if vocabularies[0] != vocabularies[1]:
        raise ModelMismatchError(
            f"{model.name!r} and {other.name!r} have different tokenizers ({len(vocabularies[0])} "
            f"and {len(vocabularies[1])} tokens), so that positions are not the same"
        )
    if (model.n_layers, model.d_model) != (other.n_layers, other.d_model):
        raise ModelMismatchError(
            f"{model.name!r} has {model.n_layers} layers of width {model.d_model}, but "
            f"{other.name!r} has {other.n_layers} of width {other.d_model}"
        )
