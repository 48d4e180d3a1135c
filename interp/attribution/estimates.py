"""Estimates of patching effects from gradients: all cells for the price of a few runs.

Attribution patching (Nanda 2023) takes the first-order term: what is put in minus what was there,
times the gradient of the metric in the patched run. It errs where the metric is not linear in
between: attention that saturates hides effects, and effects that cancel along two ways vanish.
`"grad_drop"` is the correction of AtP* for the second (Kramar et al. 2024, arXiv 2403.00745): the
mean absolute value of estimates in each of which one layer passes no gradient. `"integrated"`
averages the gradient along the straight way between the two runs' embeddings (Hanna et al. 2024,
arXiv 2403.17806), the correction of the first. Neither proves anything: `verify` patches the
largest cells, and random ones, exactly.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interp.attribution.cells import Cell
from interp.attribution.exchange import Exchange, Setting, make_setting, scored
from interp.attribution.metrics import Metric
from interp.attribution.pairs import Pairs
from interp.attribution.patching import BATCH_TOKENS, check_cells, patch_cells, result_of
from interp.attribution.results import Agreement, PatchingResult, Source, compare
from interp.attribution.resuming import last_logits
from interp.core.hooks import Edit
from interp.core.model import HookedModel
from interp.core.seeds import derive
from interp.core.sites import Site
from interp.core.tokens import Span

Method = Literal["gradient", "integrated", "grad_drop"]


def attribute_cells(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    cells: Sequence[Cell],
    *,
    method: Method = "integrated",
    n_steps: int = 5,
    source: Source = "clean",
    spans: Mapping[str, Span] | None = None,
    source_model: HookedModel | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> PatchingResult:
    """Estimate what patching each cell would do.

    Args:
        model: The language model that would be patched.
        pairs: Clean and corrupted texts.
        metric: What to judge a run by; it must be differentiable.
        cells: What would be patched.
        method: "gradient" for attribution patching, "integrated" for integrated gradients, or
            "grad_drop", whose effects have no sign.
        n_steps: Points on the way, of integrated gradients.
        source: What would be put in, as in `patch_sweep`.
        spans: The columns that cells name; single positions by default.
        source_model: Make the other run in this model.
        batch_tokens: Tokens that run together, padding included.

    Returns:
        A result whose values are the metric of the patched run plus the estimate.

    Raises:
        ValueError: If integrated gradients are asked for a source that is not another text, or
            for two models: there is no way from one to the other through the embeddings.
    """
    if method == "integrated" and (
        source in ("zero", "mean") or source_model is not None or n_steps < 1
    ):
        raise ValueError(
            f"method='integrated' with source={source!r}, n_steps={n_steps} and "
            f"{'a' if source_model else 'no'} source model: it goes from the embeddings of one "
            "text to those of another in one model, in one step or more; use method='gradient'"
        )
    setting = make_setting(
        model, pairs, metric, source=source, spans=spans, source_model=source_model, seed=0
    )
    check_cells(setting, cells)
    sites = list(dict.fromkeys(Site(cell.site, cell.layer) for cell in cells))
    values = np.empty((len(pairs), len(cells)))
    base, other = np.empty(len(pairs)), np.empty(len(pairs))
    entry = [Site("resid_pre", 0)] if method == "integrated" else []
    for exchange in setting.exchanges([], [*entry, *sites], batch_tokens):
        rows = exchange.rows
        base[rows], other[rows] = exchange.base_scores.cpu(), exchange.other_scores.cpu()
        estimate = _estimate(setting, exchange, sites, cells, method, n_steps)
        values[rows] = base[rows][:, None] + estimate.cpu().numpy()
    return result_of(setting, tuple(cells), values, (base, other), method)


def verify(
    model: HookedModel,
    pairs: Pairs,
    metric: Metric,
    estimate: PatchingResult,
    *,
    n_top: int = 20,
    n_random: int = 20,
    spans: Mapping[str, Span] | None = None,
    seed: int = 0,
) -> Agreement:
    """Patch the cells with the largest estimates exactly, and random others as a control.

    Args:
        model: The model of the estimate.
        pairs: Its pairs.
        metric: Its metric.
        estimate: Result of `attribute_cells` on one model.
        n_top: How many of the largest cells.
        n_random: How many of the others: effects that the estimate missed show there.
        spans: Its spans.
        seed: Seed of the choice.
    """
    top = estimate.top(n_top)
    others = [cell for cell in estimate.cells if cell not in set(top)]
    rng = np.random.default_rng(derive(seed, "verified cells"))
    chosen = rng.permutation(len(others))[:n_random]
    cells = [*top, *(others[i] for i in sorted(chosen))]
    exact = patch_cells(model, pairs, metric, cells, source=estimate.source, spans=spans)
    return compare(estimate, exact, n_top=n_top)


def _estimate(
    setting: Setting,
    exchange: Exchange,
    sites: Sequence[Site],
    cells: Sequence[Cell],
    method: Method,
    n_steps: int,
) -> Tensor:
    """Estimated change of the metric, shape (row, cell)."""
    if method == "grad_drop":
        n_layers = setting.model.n_layers
        drops = [_first_order(setting, exchange, sites, cells, drop=k) for k in range(n_layers)]
        own = torch.tensor([[cell.layer == k for cell in cells] for k in range(n_layers)])
        sizes = torch.stack(drops).abs().masked_fill(own[:, None].to(drops[0].device), 0)
        return sizes.sum(0) / max(1, n_layers - 1)
    if method == "gradient":
        return _first_order(setting, exchange, sites, cells)
    points = [(step + 0.5) / n_steps for step in range(n_steps)]
    total = sum(_first_order(setting, exchange, sites, cells, point=p) for p in points)
    return torch.as_tensor(total) / n_steps


def _first_order(
    setting: Setting,
    exchange: Exchange,
    sites: Sequence[Site],
    cells: Sequence[Cell],
    *,
    point: float = 0.0,
    drop: int | None = None,
) -> Tensor:
    """Difference times gradient, summed over each cell, shape (row, cell).

    Args:
        setting: What is put where.
        exchange: A batch of pairs.
        sites: The cells' sites.
        cells: What would be patched.
        point: Where on the way between the embeddings the gradient is taken.
        drop: Layer whose attention and MLP pass no gradient.
    """
    gradients = _gradients(setting, exchange, sites, point, drop)
    change = {s: (exchange.source[s] - exchange.base[s]) * gradients[s] for s in sites}
    columns = []
    for cell in cells:
        terms = change[Site(cell.site, cell.layer)]
        if cell.units is not None:
            terms = terms[:, :, list(cell.units)]
        columns.append((terms.flatten(2).sum(-1) * exchange.mask(cell)).sum(-1))
    return torch.stack(columns, dim=1)


def _gradients(
    setting: Setting,
    exchange: Exchange,
    sites: Sequence[Site],
    point: float,
    drop: int | None,
) -> dict[Site, Tensor]:
    """Gradient of the metric with respect to the values at sites."""
    leaves = {site: torch.zeros_like(exchange.base[site], requires_grad=True) for site in sites}
    edits: list[tuple[Site, Edit]] = [
        (s, lambda value, call, s=s: value + leaves[s]) for s in sites
    ]
    if point:
        edits.insert(0, (Site("resid_pre", 0), _moved(exchange, point)))
    model = setting.model
    with (
        torch.enable_grad(),
        _frozen(model),
        model.hooks.attached(edits=[*edits, *_stops(model, drop)]),
    ):
        logits = last_logits(model, dict(exchange.batch), setting.metric.n_kept)
        scores = scored(setting.metric, logits, exchange.rows, "in the gradient's run")
        if not scores.requires_grad and drop is None:
            raise ValueError(f"metric {setting.metric.name!r} has no gradient: use patch_cells")
        total = scores.sum() + sum(0 * leaf.sum() for leaf in leaves.values())
        found = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def _moved(exchange: Exchange, point: float) -> Edit:
    """An edit that moves the embeddings a part of the way to those of the other text."""
    site = Site("resid_pre", 0)
    way = (exchange.source[site] - exchange.base[site]) * exchange.matched[..., None]
    return lambda value, call: value + point * way


def _stops(model: HookedModel, layer: int | None) -> list[tuple[Site, Edit]]:
    """Edits that keep gradients from passing through one layer's attention and MLP."""
    sites = [Site(name, layer) for name in ("attn_out", "mlp_out")]
    return [(site, lambda value, call: value.detach()) for site in sites if site in model.sites]


@contextmanager
def _frozen(model: HookedModel) -> Iterator[None]:
    """No gradients of the weights for the length of the block, which halves the cost."""
    wanted = [p for p in model.module.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
