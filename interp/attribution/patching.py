"""Activation patching: run a model with activations of another run, and see what comes back.

Clean activations in a corrupted run (denoising) show which components suffice to restore an answer;
corrupted ones in a clean run (noising), and ablation, show which are necessary. The two need not
agree: of two components that each suffice, noising finds neither (Heimersheim and Nanda 2024,
arXiv 2404.15255). A cell with an effect carries what differs between the runs; it need not be
where that is computed, and other components may take over when it is missing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp.attribution.cells import Cell, grid
from interp.attribution.exchange import Exchange, Setting, make_setting, scored
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs
from interp.attribution.results import GroupResult, PatchingResult, Source
from interp.attribution.resuming import last_logits, returns_tuples, skipped
from interp.core.hooks import Call, Edit
from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.core.tokens import Span

BATCH_TOKENS = 1024
"""Tokens that run together by default, padding included."""


def patch_sweep(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    site: str = "resid_pre",
    *,
    layers: int | Sequence[int] | None = None,
    source: Source = "clean",
    spans: Mapping[str, Span] | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = False,
) -> PatchingResult:
    """Patch every layer at every position, or at every span.

    Args:
        model: A language model.
        pairs: Clean and corrupted texts.
        metric: What to judge a run by, such as `logit_diff(pairs)`.
        site: Site to patch.
        layers: One layer or several, negative ones from the end; `None` for all.
        source: What is put in: "clean" activations into the corrupted run, or into the clean run
            "corrupted" ones, "zero", the "mean" over texts and tokens, or "resample": those of
            another pair's clean text.
        spans: Patch these spans instead of single positions; needed for texts of unequal length.
        batch_tokens: Tokens that run together, padding included.
        progress: Show a progress bar.

    Raises:
        HookNotFoundError: If the model lacks the site or a layer.
        ValueError: If texts differ in length without spans, or the metric is not finite.
    """
    setting = make_setting(
        model, pairs, metric, source=source, spans=spans, source_model=None, seed=0
    )
    cells = grid(model, site, layers=layers, columns=range(len(setting.columns.labels)))
    return _patch(setting, cells, batch_tokens, progress)


def patch_cells(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    cells: Sequence[Cell],
    *,
    source: Source = "clean",
    spans: Mapping[str, Span] | None = None,
    source_model: HookedModel | None = None,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = False,
) -> PatchingResult:
    """Patch chosen cells, each in a run of its own: heads, neurons, groups of them, spans.

    Args:
        model: The language model that is patched.
        pairs: Clean and corrupted texts.
        metric: What to judge a run by.
        cells: What to patch, as `grid(model, "z", units=range(n_heads))` gives it.
        source: What is put in, as in `patch_sweep`.
        spans: The columns that cells name; single positions by default.
        source_model: Make the other run in this model: one with the same tokenizer and shapes,
            such as the same model after fine-tuning. With `same_texts`, only the models differ.
        seed: Seed of "resample".
        batch_tokens: Tokens that run together, padding included.
        progress: Show a progress bar.

    Raises:
        HookNotFoundError: If the model lacks a site or a layer.
        ModelMismatchError: If the two models differ in tokenizer or shape.
        ValueError: If texts differ in length without spans, or the metric is not finite.
    """
    setting = make_setting(
        model, pairs, metric, source=source, spans=spans, source_model=source_model, seed=seed
    )
    return _patch(setting, tuple(cells), batch_tokens, progress)


def patch_groups(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    groups: Mapping[str, Sequence[Cell]],
    *,
    source: Source = "clean",
    spans: Mapping[str, Span] | None = None,
    source_model: HookedModel | None = None,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> GroupResult:
    """Patch groups of cells, all cells of a group in one run: circuits, neurons of many layers.

    Texts may be of unequal length as long as cells name no column.

    Args:
        model: The language model that is patched.
        pairs: Clean and corrupted texts.
        metric: What to judge a run by.
        groups: Cells by the name of their group.
        source: What is put in, as in `patch_sweep`.
        spans: The columns that cells name; single positions by default.
        source_model: Make the other run in this model.
        seed: Seed of "resample".
        batch_tokens: Tokens that run together, padding included.

    Raises:
        HookNotFoundError: If the model lacks a site or a layer.
        ModelMismatchError: If the two models differ in tokenizer or shape.
        ValueError: If a group is empty, or the metric is not finite.
    """
    everything = [cell for cells in groups.values() for cell in cells]
    whole = {} if all(cell.column is None for cell in everything) else None
    setting = make_setting(
        model,
        pairs,
        metric,
        source=source,
        spans=whole if spans is None else spans,
        source_model=source_model,
        seed=seed,
    )
    for cells in groups.values():
        check_cells(setting, cells)
    sites = list(dict.fromkeys(Site(cell.site, cell.layer) for cell in everything))
    values = np.empty((len(pairs), len(groups)))
    base, other = np.empty(len(pairs)), np.empty(len(pairs))
    for exchange in setting.exchanges([], sites, batch_tokens):
        rows = exchange.rows
        base[rows], other[rows] = exchange.base_scores.cpu(), exchange.other_scores.cpu()
        for column, cells in enumerate(groups.values()):
            values[rows, column] = _run_together(setting, exchange, cells).cpu()
    clean, corrupted = (other, base) if source == "clean" else (base, other)
    return GroupResult(
        values=values,
        clean=clean,
        corrupted=corrupted,
        source=source,
        metric=metric.name,
        labels=tuple(groups),
    )


def _run_together(setting: Setting, exchange: Exchange, cells: Sequence[Cell]) -> Tensor:
    """The metric of one run with all these cells patched, shape (row)."""
    edits: list[tuple[Site, Edit]] = [
        (Site(cell.site, cell.layer), lambda value, call, cell=cell: exchange.put(value, cell))
        for cell in cells
    ]
    with torch.no_grad(), setting.model.hooks.attached(edits=edits):
        logits = last_logits(setting.model, dict(exchange.batch), setting.metric.n_kept)
    return scored(setting.metric, logits, exchange.rows, "with a group patched")


def _patch(
    setting: Setting, cells: tuple[Cell, ...], batch_tokens: int, progress: bool
) -> PatchingResult:
    """Every cell of every pair: batches of pairs, and in them cells of one site and layer."""
    check_cells(setting, cells)
    sites = list(dict.fromkeys(Site(cell.site, cell.layer) for cell in cells))
    starts = list(dict.fromkeys(_start(site) for site in sites))
    values = np.empty((len(setting.pairs), len(cells)))
    base, other = np.empty(len(values)), np.empty(len(values))
    as_tuple = returns_tuples(setting.model)
    with tqdm(total=values.size, unit="run", disable=not progress, desc="patch") as bar:
        for exchange in setting.exchanges(starts, sites, batch_tokens):
            rows = exchange.rows
            base[rows] = exchange.base_scores.cpu()
            other[rows] = exchange.other_scores.cpu()
            values[rows] = base[rows][:, None]  # what changes nothing needs no run
            for group in _groups(cells, exchange, batch_tokens):
                scores = _run(setting, exchange, [cells[i] for i in group], as_tuple)
                values[np.ix_(rows, np.array(group))] = scores.T.cpu()
                bar.update(scores.numel())
        bar.update(values.size - bar.n)
    return result_of(setting, cells, values, (base, other), "exact")


def check_cells(setting: Setting, cells: Sequence[Cell]) -> None:
    """Refuse cells that are not on the model or among the columns.

    Raises:
        HookNotFoundError: If the model lacks a site.
        ValueError: If there are no cells, or a column does not exist.
    """
    if not cells:
        raise ValueError("no cells: needed at least one")
    n_columns = len(setting.columns.labels)
    for cell in cells:
        setting.model.sites[Site(cell.site, cell.layer)]
        if cell.column is not None and not 0 <= cell.column < n_columns:
            raise ValueError(f"{cell} is in column {cell.column}, but there are {n_columns}")


def result_of(
    setting: Setting,
    cells: tuple[Cell, ...],
    values: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    method: str,
) -> PatchingResult:
    """A result, from the metric of the patched run and of the other run."""
    base, other = scores
    clean, corrupted = (other, base) if setting.source == "clean" else (base, other)
    return PatchingResult(
        cells=cells,
        values=values,
        clean=clean,
        corrupted=corrupted,
        columns=setting.columns.labels,
        source=setting.source,
        metric=setting.metric.name,
        method=method,
    )


def _start(site: Site) -> Site:
    """From where a run goes on when this site is patched."""
    return site if site.name == "resid_post" else Site("resid_pre", site.layer)


def _groups(cells: Sequence[Cell], exchange: Exchange, batch_tokens: int) -> list[list[int]]:
    """Cells of one site and layer that run together; cells that change nothing do not run."""
    by_site: dict[Site, list[int]] = {}
    for index, cell in enumerate(cells):
        site = Site(cell.site, cell.layer)
        if not torch.equal(exchange.put(exchange.base[site], cell), exchange.base[site]):
            by_site.setdefault(site, []).append(index)
    size = max(1, batch_tokens // exchange.matched.numel())
    return [
        found[start : start + size]
        for found in by_site.values()
        for start in range(0, len(found), size)
    ]


def _run(setting: Setting, exchange: Exchange, cells: Sequence[Cell], as_tuple: bool) -> Tensor:
    """The metric of cells of one site and layer in one forward pass, shape (cell, row)."""
    model, n_rows = setting.model, len(exchange.rows)
    site = Site(cells[0].site, cells[0].layer)

    def change(value: Tensor, call: Call) -> Tensor:
        runs = value.unflatten(0, (len(cells), n_rows))
        return torch.cat([exchange.put(run, cell) for run, cell in zip(runs, cells, strict=True)])

    start = _start(site)
    n_blocks = (start.layer or 0) + (start.name == "resid_post")
    if model.hooks.active:  # an intervention on a block that is left out would act twice
        n_blocks = 0
    value = exchange.base[start].repeat(len(cells), 1, 1)
    batch = {name: tensor.repeat(len(cells), 1) for name, tensor in exchange.batch.items()}
    with (
        torch.no_grad(),
        model.hooks.attached(edits=[(site, change)]),
        skipped(model, n_blocks, value, as_tuple=as_tuple),
    ):
        logits = last_logits(model, batch, setting.metric.n_kept)
    rows = np.tile(exchange.rows, len(cells))
    return scored(setting.metric, logits, rows, f"with {site} patched").unflatten(
        0, (len(cells), n_rows)
    )
