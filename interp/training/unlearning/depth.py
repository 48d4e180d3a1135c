"""How deep unlearning goes: what of the answers is still inside the model.

The unlearning depth score (arXiv 2605.24614) patches the residual stream of the unlearned model
into the model that knows, at the tokens that predict the answer, one layer at a time. Where the
answer gets as unlikely as with the stream of a model that never learned it, it is gone from that
layer. The logit lens reads each layer as if it were the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.interventions import replace
from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.training.loop import (
    Batch,
    Example,
    answer_probability,
    make_batch,
    predictions,
    sequence_losses,
)

THRESHOLD = 0.05
"""Nats per token by which a layer of the retrained model must lower the answer to count."""


@dataclass(frozen=True, kw_only=True)
class DepthResult:
    """What of the answers is gone from each layer."""

    retrained: Float[np.ndarray, "layer example"]
    """Fall of each answer's mean log-probability with the retrained model's stream, in nats."""
    unlearned: Float[np.ndarray, "layer example"]
    """The same with the unlearned model's stream."""
    layers: tuple[int, ...]
    """The layers behind which the stream was patched."""

    @property
    def by_example(self) -> Float[np.ndarray, " example"]:
        """Score of each example; NaN where no layer of the retrained model lowers the answer."""
        counted = self.retrained > THRESHOLD
        share = np.clip(self.unlearned / np.where(counted, self.retrained, 1.0), 0, 1)
        total = (self.retrained * counted).sum(0)
        gone = (self.retrained * share * counted).sum(0)
        return np.where(total > 0, gone / np.where(total > 0, total, 1.0), np.nan)

    @property
    def score(self) -> float:
        """Mean over examples: 0 is as the model that knows, 1 as the retrained one."""
        return float(np.nanmean(self.by_example))

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer and example."""
        layer, example = np.indices(self.retrained.shape)
        return pd.DataFrame(
            {
                "layer": np.array(self.layers)[layer.ravel()],
                "example": example.ravel(),
                "retrained": self.retrained.ravel(),
                "unlearned": self.unlearned.ravel(),
            }
        )


def unlearning_depth(
    model: HookedModel,
    base: HookedModel,
    retrained: HookedModel,
    examples: Sequence[Example],
    *,
    layers: Sequence[int] | None = None,
) -> DepthResult:
    """The unlearning depth score of a model.

    Args:
        model: The unlearned model.
        base: The model before unlearning, which knows the answers.
        retrained: A model that never learned them.
        examples: What was to be forgotten.
        layers: Blocks behind which to patch, all by default.
    """
    layers = tuple(range(base.n_layers)) if layers is None else tuple(layers)
    batch = make_batch(base, examples)
    before = _mean_logprob(base, batch)
    falls = [before - _patched(base, source, batch, layers) for source in (retrained, model)]
    return DepthResult(retrained=falls[0], unlearned=falls[1], layers=layers)


def logit_lens(
    model: HookedModel, examples: Sequence[Example], *, layers: Sequence[int] | None = None
) -> Float[np.ndarray, "layer example"]:
    """Probability of each answer as every layer would predict it if it were the last.

    Args:
        model: A language model.
        examples: Prompts and answers.
        layers: Blocks behind which to read, all by default.

    Returns:
        Geometric means over the answer's tokens.
    """
    layers = tuple(range(model.n_layers)) if layers is None else tuple(layers)
    batch, last = make_batch(model, examples), model.n_layers - 1
    streams = _streams(model, batch, layers)
    found = []
    for values in streams:
        with model.intervene(replace(values, layers=last)), torch.no_grad():
            found.append(answer_probability(predictions(model.module, batch)))
    return torch.stack(found).cpu().numpy()


def predicting(batch: Batch) -> Bool[Tensor, "example pos"]:
    """The tokens at which answer tokens are predicted: each one before an answer token."""
    return torch.cat([batch.answer[:, 1:], torch.zeros_like(batch.answer[:, :1])], dim=1)


def _streams(
    model: HookedModel, batch: Batch, layers: Sequence[int]
) -> list[Float[Tensor, "example pos d_model"]]:
    """The residual stream behind some blocks."""
    sites = [Site("resid_post", layer) for layer in layers]
    body: Any = model.body
    with model.capture(sites) as found, torch.no_grad():
        body(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    return [found[site][0] for site in sites]


def _patched(
    base: HookedModel, source: HookedModel, batch: Batch, layers: Sequence[int]
) -> Float[np.ndarray, "layer example"]:
    """Mean log-probability of the answers with the source's stream at each layer."""
    at, found = predicting(batch), []
    for layer, values in zip(layers, _streams(source, batch, layers), strict=True):
        with base.intervene(replace(values, layers=layer, positions=at)):
            found.append(_mean_logprob(base, batch))
    return np.stack(found)


def _mean_logprob(model: HookedModel, batch: Batch) -> Float[np.ndarray, " example"]:
    with torch.no_grad():
        found = predictions(model.module, batch)
        return (-sequence_losses(found) / found.counted.sum(-1)).cpu().numpy()
