"""Scores of continuations in padded batches, under any intervention; gradients flow."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from steering.propensity import Continuation


@dataclass(frozen=True, kw_only=True)
class PaddedTexts:
    """Prompts with continuations, padded on the right."""

    ids: Int[Tensor, "batch pos"]
    """Token ids, 0 where there is no token."""
    mask: Bool[Tensor, "batch pos"]
    """Where there is one."""
    starts: Int[Tensor, " batch"]
    """How many tokens of each text are its prompt."""

    @property
    def scored(self) -> Bool[Tensor, "batch pos"]:
        """The tokens of the continuations."""
        columns = torch.arange(self.ids.shape[1], device=self.ids.device)[None]
        return self.mask & (columns >= self.starts[:, None])


def padded(model: HookedModel, texts: Sequence[Continuation]) -> PaddedTexts:
    """Texts as one batch on the device of the model."""
    lengths = torch.tensor([len(text.ids) for text in texts])
    ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text.ids)] = torch.tensor(text.ids)
    starts = torch.tensor([text.n_prompt for text in texts])
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    return PaddedTexts(
        ids=ids.to(model.device), mask=mask.to(model.device), starts=starts.to(model.device)
    )


def continuation_scores(
    model: HookedModel, texts: PaddedTexts, change: Intervention | None = None, *, mean: bool
) -> Float[Tensor, " batch"]:
    """Log-probability of each continuation after its prompt.

    Args:
        model: A language model.
        texts: A batch.
        change: What acts on the model; nothing by default.
        mean: Whether token log-probabilities are averaged instead of added.
    """
    columns = torch.arange(texts.ids.shape[1], device=texts.ids.device)[None].expand_as(texts.ids)
    context = nullcontext() if change is None else change.applied(model)
    with model.hooks.prompts(texts.starts.cpu()), context:
        logits = model.module(
            input_ids=texts.ids,
            attention_mask=texts.mask.long(),
            position_ids=columns,
            use_cache=False,
        ).logits
    logprobs = logits[:, :-1].float().log_softmax(-1)
    found = logprobs.gather(2, texts.ids[:, 1:, None])[..., 0]
    scored = texts.scored[:, 1:]
    total = (found * scored).sum(-1)
    return total / scored.sum(-1) if mean else total
