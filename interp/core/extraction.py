"""Extraction: activations of many examples at many sites, at the speed of the bare forward.

Only the decoder body runs, never the unembedding, and it stops behind the last site that is needed.
Examples of similar length share a batch of bounded size. What is read is reduced inside the hook,
so that nothing larger than what was asked for outlives its layer.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from interp.core.activations import Activations, Pooling, pool_rows
from interp.core.hooks import Stop
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.sites import Site
from interp.core.tokens import Selection, Tokens

BATCH_TOKENS = 1024
"""Tokens of a batch, padding included, by default."""


def extract(
    model: HookedModel,
    records: Records | Sequence[str] | Tokens,
    *,
    layers: int | Sequence[int] | None = None,
    sites: str | Sequence[str] = "resid_post",
    positions: Selection | None = None,
    pooling: Pooling | None = None,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int = BATCH_TOKENS,
    truncate: bool = False,
    progress: bool = False,
) -> Activations:
    """Activations of examples at several layers and sites, in one pass over the examples.

    Args:
        model: A language model.
        records: Examples; tokens if they are already tokenized.
        layers: One layer or several, negative ones from the end; `None` for all.
        sites: One site or several, of `model.sites.names`.
        positions: Which tokens to read. By default every token when they are kept, and when they
            are pooled the content without the first token and without the chat template.
        pooling: How the tokens of an example become one vector; `None` keeps each token.
        dtype: Type of the result.
        batch_tokens: Tokens of a batch, padding included; more for a GPU, fewer to save memory.
        truncate: Cut texts that are longer than the context instead of refusing them.
        progress: Show a progress bar.

    Returns:
        Activations on the CPU in the order of the records, whatever the batches were.

    Raises:
        HookNotFoundError: If the model lacks a site or a layer.
        ValueError: If a text is too long, if no token of an example is selected, or if activations
            are not finite (with the first such example and site).
    """
    tokens = records if isinstance(records, Tokens) else model.tokenize(records, truncate=truncate)
    reader = Reader(model, tokens, layers, sites, positions, pooling, dtype)
    tensors: dict[str, Tensor] = {}
    for examples, values in reader.read(reader.plan(batch_tokens), progress):
        rows = torch.from_numpy(reader.rows(examples))
        for site, value in values.items():
            name, column = site.name, reader.layers.index(site.layer or 0)
            if name not in tensors:
                shape = (reader.n_rows, len(reader.layers), *value.shape[1:])
                tensors[name] = torch.empty(shape, dtype=dtype)
            tensors[name][rows, column] = value
    labelled = isinstance(records, Records)
    labels = records.labels if labelled else None
    return Activations(
        tensors={name: tensors[name] for name in reader.names},
        layers=reader.layers,
        labels=None if labels is None or (labels == None).all() else labels,  # noqa: E711
        groups=records.groups if labelled else None,
        tokens=reader.kept,
        pooling=None if pooling is None else getattr(pooling, "__name__", str(pooling)),
        origin=model.origin,
    )


class Reader:
    """One pass over examples: what is read, and in which batches."""

    def __init__(
        self,
        model: HookedModel,
        tokens: Tokens,
        layers: int | Sequence[int] | None,
        sites: str | Sequence[str],
        positions: Selection | None,
        pooling: Pooling | None,
        dtype: torch.dtype,
    ) -> None:
        """Resolve sites, layers and tokens, before anything runs."""
        self.names = (sites,) if isinstance(sites, str) else tuple(sites)
        chosen = range(model.n_layers) if layers is None else layers
        chosen = (chosen,) if isinstance(chosen, int) else tuple(chosen)
        self.sites = [site for name in self.names for site in model.sites.at(name, chosen)]
        self.layers = tuple(dict.fromkeys(site.layer or 0 for site in self.sites))
        self.pooling = pooling
        self._model, self._tokens, self._dtype = model, tokens, dtype
        default = "all" if pooling is None else "content"
        self._keep = tokens.mask(default if positions is None else positions)
        self.kept = tokens.take(self._keep) if pooling is None else None
        self.n_rows = len(tokens) if self.kept is None else len(self.kept.ids)

    def plan(self, batch_tokens: int) -> list[np.ndarray]:
        """Examples of each batch: similar lengths together, longest batch first."""
        order = np.argsort(-self._tokens.lengths, kind="stable")
        batches, start = [], 0
        while start < len(order):
            width = self._tokens.lengths[order[start]]
            stop = start + max(1, int(batch_tokens // width))
            batches.append(order[start:stop])
            start = stop
        return batches

    def rows(self, examples: np.ndarray) -> np.ndarray:
        """Rows of the result that belong to these examples, in their order."""
        if self.kept is None:
            return examples
        offsets = self.kept.offsets
        return np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in examples])

    def read(
        self, plan: Sequence[np.ndarray], progress: bool
    ) -> Iterator[tuple[np.ndarray, dict[Site, Tensor]]]:
        """Run the batches of a plan: examples, and values of their rows at each site."""
        device, offsets = self._model.device, self._tokens.offsets
        n_tokens = int(self._tokens.lengths[np.concatenate(plan)].sum()) if len(plan) else 0
        with tqdm(total=n_tokens, unit="tok", disable=not progress, desc="extract") as bar:
            for examples in plan:
                batch = self._tokens.batch(examples)
                keep = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
                keep[batch["attention_mask"].bool()] = torch.from_numpy(
                    np.concatenate([self._keep[offsets[i] : offsets[i + 1]] for i in examples])
                )
                yield examples, self._run({k: v.to(device) for k, v in batch.items()}, keep.to(device))
                bar.update(int(batch["attention_mask"].sum()))

    def _run(self, batch: dict[str, Tensor], keep: Bool[Tensor, "batch pos"]) -> dict[Site, Tensor]:
        """One forward pass of the body, stopped as soon as everything has been read."""
        found: dict[Site, Tensor] = {}

        def read(value: Tensor, call: object, site: Site) -> None:
            found[site] = self._reduced(value.detach(), keep, site)
            if len(found) == len(self.sites):
                raise Stop

        reads = [(s, lambda value, call, s=s: read(value, call, s)) for s in self.sites]
        lengths = batch["attention_mask"].sum(-1)
        with torch.no_grad(), self._model.hooks.attached(reads=reads), self._model.hooks.prompts(lengths):
            try:
                self._model.body(**batch, use_cache=False)
            except Stop:
                pass
        return found

    def _reduced(self, value: Tensor, keep: Bool[Tensor, "batch pos"], site: Site) -> Tensor:
        """What is kept of a site's value: pooled or chosen rows, on the CPU, never a view."""
        kept = value[keep] if self.pooling is None else pool_batch(value, keep, self.pooling)
        kept = kept.to(self._dtype)
        if not bool(torch.isfinite(kept).all()):
            raise ValueError(
                f"activations at {site} are not finite in {self._dtype}: the model gives "
                f"{'finite' if bool(torch.isfinite(value[keep]).all()) else 'NaN or infinite'} "
                "values there; use float32 if they overflow"
            )
        return kept.cpu()


def pool_batch(
    value: Tensor, keep: Bool[Tensor, "batch pos"], pooling: Pooling
) -> Tensor:
    """One vector for each text of a batch, from the tokens that are kept.

    Args:
        value: Activations, shape (batch, pos, *feature).
        keep: Which tokens to pool, at least one for each text.
        pooling: How to pool.
    """
    flat = value.flatten(2)
    if pooling == "mean":
        weights = keep.to(torch.float32)
        weights = weights / weights.sum(-1, keepdim=True)
        pooled = torch.bmm(weights[:, None], flat.float())[:, 0]
    elif pooling == "last":
        last = (keep * torch.arange(keep.shape[1], device=keep.device)).argmax(-1)
        pooled = flat[torch.arange(len(flat), device=flat.device), last]
    elif pooling == "max":
        pooled = flat.masked_fill(~keep[..., None], -torch.inf).amax(dim=1)
    else:
        return torch.stack([pool_rows(row[k], pooling) for row, k in zip(value, keep, strict=True)])
    return pooled.unflatten(-1, value.shape[2:])
