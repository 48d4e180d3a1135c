"""A linear probe that tells true answers from others, trained on what a model was to keep.

If it ranks forgotten answers right as well, the model still knows that they are true.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.training.loop import Example, make_batch


def truth_probe(
    model: HookedModel,
    train: Sequence[Example],
    held: Sequence[Example],
    *,
    layer: int,
    ridge: float = 1.0,
) -> Float[np.ndarray, " held"]:
    """Whether a probe ranks each answer above the answer of another question.

    Args:
        model: A language model.
        train: Answers that the model knows, for the probe.
        held: Answers on which the probe is used.
        layer: Block behind whose last answer token the probe reads.
        ridge: Penalty on the weights, in units of the mean variance of a feature.

    Returns:
        1 where the true answer scores higher, 0.5 for a tie, 0 otherwise; chance is 0.5.

    Raises:
        ValueError: If one of the sets has fewer than two different answers.
    """
    right, wrong = (_ends(model, part, layer) for part in (train, _swapped(train)))
    rows = torch.cat([right, wrong]).double()
    labels = torch.cat([torch.ones(len(right)), -torch.ones(len(wrong))]).double()
    centered = rows - rows.mean(0)
    gram = centered @ centered.mT  # fewer rows than features: solve in the space of rows
    penalty = ridge * gram.diagonal().mean()
    inner = gram + penalty * torch.eye(len(gram), dtype=gram.dtype)
    direction = centered.mT @ torch.linalg.solve(inner, labels)
    true, other = (_ends(model, part, layer).double() for part in (held, _swapped(held)))
    margin = (true - other) @ direction
    return ((margin.sign() + 1) / 2).numpy()


def _swapped(examples: Sequence[Example]) -> list[Example]:
    """Each question with the next other answer."""
    found = []
    for k, one in enumerate(examples):
        others = [e.answer for e in (*examples[k + 1 :], *examples[:k]) if e.answer != one.answer]
        if not others:
            raise ValueError(f"all {len(examples)} answers are {one.answer!r}: needed two or more")
        found.append(replace(one, answer=others[0]))
    return found


def _ends(
    model: HookedModel, examples: Sequence[Example], layer: int
) -> Float[Tensor, "example d_model"]:
    """The residual stream at the last token of each answer."""
    batch, site = make_batch(model, examples), Site("resid_post", layer)
    body: Any = model.body
    with model.capture(site) as found, torch.no_grad():
        body(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    last = batch.mask.sum(1) - 1
    return found[site][0][torch.arange(len(last)), last].float().cpu()
