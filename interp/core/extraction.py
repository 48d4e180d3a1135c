"""Extraction: activations of many examples at many sites, at the speed of the bare forward.

Only the decoder body runs, never the unembedding, and it stops behind the last site that is needed.
Examples of similar length share a batch of bounded size. What is read is reduced inside the hook,
so that nothing larger than what was asked for outlives its layer.
"""

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from interp.core.activations import Activations, Pooling, pool_rows, pooling_name
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
    return Activations(
        tensors={name: tensors[name] for name in reader.names},
        layers=reader.layers,
        labels=labels_of(records),
        groups=records.groups if isinstance(records, Records) else None,
        tokens=reader.kept,
        pooling=pooling_name(pooling),
        origin=model.origin,
    )


def labels_of(records: Records | Sequence[str] | Tokens) -> np.ndarray | None:
    """Labels of records, `None` if there are none."""
    if not isinstance(records, Records) or all(record.label is None for record in records):
        return None
    return records.labels


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
        found = [site for name in self.names for site in model.sites.at(name, chosen)]
        self.sites = list(dict.fromkeys(found))
        if not self.sites:
            raise ValueError("no layers or no sites: needed at least one of each")
        self.layers = tuple(dict.fromkeys(site.layer or 0 for site in self.sites))
        self.pooling: Pooling | None = pooling
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
        return examples if self.kept is None else self.kept.rows_of(examples)

    def read(
        self, plan: Sequence[np.ndarray], progress: bool
    ) -> Iterator[tuple[np.ndarray, dict[Site, Tensor]]]:
        """Run the batches of a plan: examples, and values of their rows at each site."""
        device = self._model.device
        n_tokens = int(self._tokens.lengths[np.concatenate(plan)].sum()) if len(plan) else 0
        with tqdm(total=n_tokens, unit="tok", disable=not progress, desc="extract") as bar:
            for examples in plan:
                batch = self._tokens.batch(examples)
                keep = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
                rows = self._tokens.rows_of(examples)
                keep[batch["attention_mask"].bool()] = torch.from_numpy(self._keep[rows])
                batch = {name: tensor.to(device) for name, tensor in batch.items()}
                yield examples, self._run(examples, batch, keep.to(device))
                bar.update(int(batch["attention_mask"].sum()))

    def _run(
        self, examples: np.ndarray, batch: dict[str, Tensor], keep: Bool[Tensor, "batch pos"]
    ) -> dict[Site, Tensor]:
        """One forward pass of the body, stopped as soon as everything has been read."""
        found: dict[Site, Tensor] = {}

        def read(value: Tensor, call: object, site: Site) -> None:
            found[site] = self._reduced(value.detach(), keep, site, examples)
            if len(found) == len(self.sites):
                raise Stop

        reads = [(s, lambda value, call, s=s: read(value, call, s)) for s in self.sites]
        hooks = self._model.hooks
        lengths, rows = torch.from_numpy(self._tokens.lengths), torch.from_numpy(examples)
        with torch.no_grad(), hooks.attached(reads=reads), hooks.prompts(lengths, rows=rows):
            try:
                self._model.body(**batch, use_cache=False)
            except Stop:
                pass
        return found

    def _reduced(
        self, value: Tensor, keep: Bool[Tensor, "batch pos"], site: Site, examples: np.ndarray
    ) -> Tensor:
        """What is kept of a site's value: pooled or chosen rows, on the CPU, never a view."""
        kept = value[keep] if self.pooling is None else pool_batch(value, keep, self.pooling)
        kept = kept.to(self._dtype)
        if not bool(torch.isfinite(kept).all()):
            self._refuse(value, keep, site, examples)
        return kept.cpu()

    def _refuse(
        self, value: Tensor, keep: Bool[Tensor, "batch pos"], site: Site, examples: np.ndarray
    ) -> NoReturn:
        """Say which example is not finite, and whether it is the model's fault or the dtype's."""
        wrong = ~value.isfinite().flatten(2).all(-1) & keep
        if bool(wrong.any()):
            example = int(examples[int(wrong.any(-1).nonzero()[0])])
            raise ValueError(
                f"activations at {site} are NaN or infinite in example {example}: the model "
                "itself, or an intervention on it, gives these values"
            )
        raise ValueError(
            f"activations at {site} are not finite as {self._dtype}, though the model's are: "
            "they overflow, so use float32 or bfloat16, or the pooling function is at fault"
        )


def pool_batch(value: Tensor, keep: Bool[Tensor, "batch pos"], pooling: Pooling) -> Tensor:
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
        rows = zip(value, keep, strict=True)
        return torch.stack([pool_rows(row[chosen], pooling) for row, chosen in rows])
    return pooled.unflatten(-1, value.shape[2:])
