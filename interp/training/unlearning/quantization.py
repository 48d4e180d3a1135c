"""Weights rounded to few bits, as by int8 and NF4 (Dettmers et al. 2023, arXiv 2305.14314).

Rounding is simulated: weights are rounded and written back in their own type, so that it runs
anywhere. It shows what the loss of precision does, not what it saves.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.model import HookedModel

Format = Literal["int8", "nf4"]
_BLOCK = 64
_OFFSET = 0.9677083  # the largest quantile of NF4, at which both of its halves begin


def quantized(model: HookedModel, to: Format) -> HookedModel:
    """A copy of a model with the matrices of its blocks rounded.

    Args:
        model: A language model.
        to: "int8" rounds each row to 255 levels of its largest value; "nf4" blocks of 64 values
            to 16 quantiles of a normal distribution.
    """
    if to not in ("int8", "nf4"):
        raise ValueError(f"to is {to!r}: needed 'int8' or 'nf4'")
    module = copy.deepcopy(model.module)
    kept = {id(e) for e in (_table(module, "input"), _table(module, "output")) if e is not None}
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2 and id(weight) not in kept:
                weight.copy_(_int8(weight) if to == "int8" else _nf4(weight))
    return HookedModel(module, tokenizer=model.tokenizer, name=f"{model.name}-{to}")


def nf4_levels() -> Float[Tensor, " 16"]:
    """The levels of NF4: quantiles of a normal distribution, scaled to [-1, 1], with a zero."""
    upper = torch.special.ndtri(torch.linspace(_OFFSET, 0.5, 9, dtype=torch.float64)[:-1])
    lower = -torch.special.ndtri(torch.linspace(_OFFSET, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([lower, torch.zeros(1, dtype=torch.float64), upper]).sort().values
    return (levels / levels.max()).float()


def _int8(weight: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round() * scale


def _nf4(weight: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    n = weight.numel()
    flat = torch.nn.functional.pad(weight.flatten(), (0, -n % _BLOCK)).reshape(-1, _BLOCK)
    scale = flat.abs().amax(1, keepdim=True).clamp(min=1e-12)
    levels = nf4_levels().to(flat)
    borders = (levels[1:] + levels[:-1]) / 2
    rounded = levels[torch.bucketize(flat / scale, borders)] * scale
    return rounded.flatten()[:n].reshape(weight.shape)


def _table(module: torch.nn.Module, which: Literal["input", "output"]) -> Tensor | None:
    """The embedding or the unembedding, which are not rounded in practice."""
    found = getattr(module, f"get_{which}_embeddings")()
    return None if found is None else found.weight
