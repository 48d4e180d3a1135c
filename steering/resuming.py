"""Resuming a forward pass at a layer: blocks below it are passed over, their output is put in.

A sweep steers the same texts many times at the same layer. What is below that layer does not
change, so it is computed once. While `Resuming.behind` is open, the lower blocks hand on what they
are given and the output of the last of them is replaced; they are as before when it ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.core.hooks import Call, Stop
from interp.core.model import HookedModel
from interp.core.sites import Site


class Resuming:
    """A model whose forward pass can begin behind any of its blocks."""

    def __init__(self, model: HookedModel) -> None:
        """Find the blocks, and out how they return their value."""
        self._model = model
        self._blocks = [
            model.module.get_submodule(model.sites[Site("resid_post", layer)].path)
            for layer in range(model.n_layers)
        ]
        self._in_tuple = self._observe()

    @contextmanager
    def behind(self, layer: int, value: Float[Tensor, "batch pos d_model"]) -> Iterator[None]:
        """Run the model from behind a block on.

        Args:
            layer: The block whose output is given; -1 runs everything and changes nothing.
            value: The residual stream behind that block; the model's inputs must have its shape.
        """
        lower = self._blocks[: layer + 1]
        for block in lower:
            # an attribute of the instance goes before the method of its class
            block.forward = self._hand_on
        edits = [(Site("resid_post", layer), _putting(value))] if lower else []
        try:
            with self._model.hooks.attached(edits=edits):
                yield
        finally:
            for block in lower:
                del block.forward

    def _hand_on(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The forward of a block that is passed over."""
        return (hidden_states,) if self._in_tuple else hidden_states

    def _observe(self) -> bool:
        """Whether blocks return tuples, seen on one short text."""
        found: list[bool] = []

        def look(module: nn.Module, args: object, output: object) -> None:
            found.append(isinstance(output, tuple))
            raise Stop

        handle = self._blocks[0].register_forward_hook(look)
        try:
            with torch.no_grad():
                self._model.body(torch.tensor([[0, 1]], device=self._model.device), use_cache=False)
        except Stop:
            pass
        finally:
            handle.remove()
        return found[0]


def _putting(value: Tensor) -> Callable[[Tensor, Call], Tensor]:
    return lambda old, call: value.to(old)
