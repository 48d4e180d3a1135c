"""Fitting a tuned lens, and how far what a lens reads is from what the model says.

Published lenses minimize the divergence from the model's own predictions by gradient descent over
hundreds of millions of tokens. Here each map is the ridge regression of the last layer's residual
stream on a layer's, in closed form: coarser, but it needs no optimizer and a few thousand tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution.lenses import TunedLens
from interp.attribution.logits import final_norm, output_head
from interp.core.extraction import extract
from interp.core.model import HookedModel
from interp.core.records import Records

_ROWS = 256  # tokens whose logits are held at once


def fit_tuned_lens(
    model: HookedModel, texts: Records | Sequence[str], *, ridge: float = 0.1
) -> TunedLens:
    """The affine map from each layer to the last one that has the least squared error.

    Args:
        model: A language model.
        texts: Texts with many more tokens than the residual stream is wide.
        ridge: How strongly maps are drawn to the identity, in units of a layer's mean variance.

    Raises:
        ValueError: If the texts have fewer tokens than the residual stream is wide.
    """
    streams = _streams(model, texts)
    n_tokens, _, width = streams.shape
    if n_tokens < width:
        raise ValueError(f"texts have {n_tokens} tokens for maps of width {width}: more are needed")
    lens = TunedLens.identity(model)
    target = streams[:, -1].double()
    for layer in range(model.n_layers - 1):  # the map of block k + 1 reads what block k leaves
        value = streams[:, layer].double()
        mean, error = value.mean(0), target - value
        centered = value - mean
        gram = centered.T @ centered / len(value)
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram, centered.T @ (error - error.mean(0)) / len(value)).T
        lens.weights[layer + 1] = weight.float()
        lens.biases[layer + 1] = (error.mean(0) - weight @ mean).float()
    return lens


def lens_divergence(
    model: HookedModel, texts: Records | Sequence[str], *, lens: TunedLens | None = None
) -> Float[np.ndarray, " layer"]:
    """Mean divergence, in nats, of what is read from each layer from what the model says.

    Args:
        model: A language model.
        texts: Texts that no lens was fitted on; all their tokens but the first are counted.
        lens: A tuned lens; without one the logit lens.
    """
    if lens is not None:
        lens.check(model)
    streams = _streams(model, texts).to(model.device)
    norm, head = final_norm(model), output_head(model)
    total = np.zeros(model.n_layers)
    with torch.no_grad():
        for rows in streams.split(_ROWS):
            said = head(norm(rows[:, -1])).float().log_softmax(-1)
            for layer in range(model.n_layers):
                value = rows[:, layer] if lens is None else lens.translate(rows[:, layer], layer)
                read = head(norm(value)).float().log_softmax(-1)
                total[layer] += float((said.exp() * (said - read)).sum())
    return total / len(streams)


def _streams(
    model: HookedModel, texts: Records | Sequence[str]
) -> Float[Tensor, "token layer d_model"]:
    """The stream behind each block at every token but the first of a text, which is unlike them."""
    found = extract(model, texts)
    tokens = found.tokens
    assert tokens is not None
    return found.values[torch.from_numpy(tokens.positions > 0)].to(model.dtype)
