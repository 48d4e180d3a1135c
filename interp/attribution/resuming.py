"""Forward passes that begin at a later block, from a residual stream that is already known."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.sites import Site
from interp.core.tokens import Tokens


@contextmanager
def skipped(
    model: HookedModel, n_blocks: int, value: Tensor, *, as_tuple: bool = False
) -> Iterator[None]:
    """Run the model without its first blocks for the length of the `with` block.

    Hooks on the last block that is left out still see and edit the value that it is given, as
    they would in a full run.

    Args:
        model: A language model.
        n_blocks: How many blocks are left out.
        value: The residual stream behind them, shape (batch, pos, d_model).
        as_tuple: Whether blocks of this model return tuples, as `returns_tuples` tells.

    Raises:
        ValueError: If a block already runs a forward of its own, as in an enclosing `skipped`.
    """
    blocks = [block_at(model, layer) for layer in range(n_blocks)]
    if any("forward" in vars(block) for block in blocks):
        raise ValueError("blocks of this model have a replaced forward: they cannot be skipped")
    try:
        for block in blocks:
            block.forward = _constant((value,) if as_tuple else value)
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def last_logits(
    model: HookedModel, batch: dict[str, Tensor], n_kept: int
) -> Float[Tensor, "batch n_kept d_vocab"]:
    """Float32 logits of the last tokens, without computing the others.

    Args:
        model: A language model.
        batch: Inputs, padded on the left.
        n_kept: How many tokens at the end.
    """
    module: Any = model.module
    limited = "logits_to_keep" in inspect.signature(module.forward).parameters
    keep = {"logits_to_keep": n_kept} if limited else {}
    return module(**batch, use_cache=False, **keep).logits[:, -n_kept:].float()


def observe(
    model: HookedModel, batch: dict[str, Tensor], sites: Iterable[Site], n_kept: int
) -> tuple[Float[Tensor, "batch n_kept d_vocab"], dict[Site, Tensor]]:
    """Logits of the last tokens, and values at sites, shapes (batch, pos, *feature)."""
    with torch.no_grad(), model.capture(sites) as found:
        logits = last_logits(model, batch, n_kept)
    return logits, {site: values[0] for site, values in found.items()}


def left_padded(
    model: HookedModel, tokens: Tokens, rows: Sequence[int] | np.ndarray
) -> dict[str, Int[Tensor, "batch pos"]]:
    """Inputs of some texts on the model's device, so that each ends in the last column."""
    batch = tokens.batch(rows, side="left")
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def returns_tuples(model: HookedModel) -> bool:
    """Whether the blocks of a model return tuples, found by a forward of one token."""
    kinds: list[bool] = []
    handle = block_at(model, 0).register_forward_hook(
        lambda module, args, output: kinds.append(isinstance(output, tuple))
    )
    try:
        with torch.no_grad():
            model.body(
                input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False
            )
    finally:
        handle.remove()
    return kinds[0]


def block_at(model: HookedModel, layer: int) -> Any:
    """The module of a block."""
    return model.module.get_submodule(model.sites[Site("resid_post", layer)].path)


def _constant(value: object) -> Callable[..., object]:
    """A forward of a block that gives a value, whatever comes in."""
    return lambda *args, **kwargs: value
