"""Baking: a vector written into the weights, so that it acts without hooks and is saved with them.

Adding a constant at every token is a bias of the last map of the block. Ablating a direction
everywhere is projecting it out of every matrix that writes to the residual stream (Arditi et al.
2024, 2406.11717). Both are checked against hooks when they are made, and undone by the same value.
What depends on positions, gates or the activations themselves cannot be baked.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.core.directions import Direction
from interp.core.hooks import Intervention
from interp.core.interventions import ablate
from interp.core.model import HookedModel
from interp.core.sites import Site
from steering.applying import in_order
from steering.vectors import SteeringVector


@dataclass(kw_only=True)
class Baked:
    """Weights that were changed, and what they were."""

    undoings: list[Callable[[], None]] = field(default_factory=list)
    """How to take back each change, in the order in which they were made."""

    def undo(self) -> None:
        """Put the old weights back; a second call does nothing."""
        while self.undoings:
            self.undoings.pop()()


def bake_addition(model: HookedModel, vector: SteeringVector, *, coefficient: float = 1.0) -> Baked:
    """Fold a vector into the bias of the map that ends each of its blocks.

    Args:
        model: The model, changed in place until `undo`.
        vector: A vector at `resid_post` or `mlp_out`.
        coefficient: Factor on the vector.

    Raises:
        ValueError: If the vector is at another site, or the model does something to the output of
            that map (another norm) so that a bias is not this vector; nothing is changed then.
        ModelMismatchError: If the vector was found in another model.
    """
    vector.check(model)
    if vector.site not in ("resid_post", "mlp_out"):
        raise ValueError(
            f"a vector at {vector.site!r} is no bias: needed 'resid_post' or 'mlp_out'"
        )
    baked = Baked()

    def change() -> None:
        for layer, value in vector.values.items():
            module = _writer(model, Site("mlp_post", layer))
            old = getattr(module, "bias", None)
            shift = (coefficient * value.detach()).to(model.device, model.dtype)
            bias = shift if old is None else old.detach() + shift
            _set(baked, module, "bias", nn.Parameter(bias))

    _checked(model, baked, change, vector.steering(coefficient=coefficient))
    return baked


def bake_ablation(model: HookedModel, direction: Direction | Float[Tensor, " feature"]) -> Baked:
    """Project a direction out of everything that writes to the residual stream.

    Embeddings that are tied to the unembedding are untied first: the unembedding only reads.

    Args:
        model: The model, changed in place until `undo`.
        direction: The direction; its layer does not matter.

    Raises:
        ValueError: If the model does something to what is written (another norm), so that the
            weights alone cannot keep the direction out; nothing is changed then.
    """
    vector = direction.vector if isinstance(direction, Direction) else direction
    unit = (vector.detach() / vector.norm()).to(model.device, torch.float32)
    baked = Baked()

    def change() -> None:
        body: Any = model.body
        for embedding in [m for m in body.children() if isinstance(m, nn.Embedding)]:
            _project(baked, embedding, "weight", unit, last=True)
        config: Any = model.module.config
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
            baked.undoings.append(lambda: setattr(config, "tie_word_embeddings", True))
        for name in ("z", "mlp_post"):
            for layer in range(model.n_layers):
                module = _writer(model, Site(name, layer))
                # nn.Linear keeps (out, in), the transposed Conv1D of GPT-2 (in, out)
                _project(baked, module, "weight", unit, last=not isinstance(module, nn.Linear))
                if getattr(module, "bias", None) is not None:
                    _project(baked, module, "bias", unit, last=True)

    layers = tuple(range(model.n_layers))
    sites = [("resid_pre", layers[:1]), ("resid_mid", layers), ("resid_post", layers)]
    oracle = in_order(
        *(ablate(unit.cpu(), layers=which, site=s) for s, which in sites if s in model.sites.names)
    )
    _checked(model, baked, change, oracle)
    return baked


@contextmanager
def baked_addition(
    model: HookedModel, vector: SteeringVector, *, coefficient: float = 1.0
) -> Iterator[None]:
    """`bake_addition` for the length of a block."""
    baked = bake_addition(model, vector, coefficient=coefficient)
    try:
        yield
    finally:
        baked.undo()


def _writer(model: HookedModel, site: Site) -> nn.Module:
    """The map that reads this site and writes to the residual stream."""
    return model.module.get_submodule(model.sites[site].path)


def _set(baked: Baked, module: nn.Module, name: str, new: nn.Parameter) -> None:
    """Put a parameter in the place of another, and remember how to take it back."""
    old = getattr(module, name)
    baked.undoings.append(lambda: setattr(module, name, old))
    setattr(module, name, new)


def _project(baked: Baked, module: nn.Module, name: str, unit: Tensor, *, last: bool) -> None:
    """Project a direction out of a parameter along its last or its first axis."""
    old = getattr(module, name)
    rows = old.detach().float() if last else old.detach().float().mT
    new = rows - (rows @ unit)[..., None] * unit
    _set(baked, module, name, nn.Parameter((new if last else new.mT).to(old.dtype).contiguous()))


def _checked(
    model: HookedModel, baked: Baked, change: Callable[[], None], oracle: Intervention
) -> None:
    """Make a change and compare it with hooks; take it back if the two differ.

    Raises:
        ValueError: If they differ.
    """
    config: Any = model.module.config
    ids = (torch.arange(3, 15) % config.get_text_config().vocab_size)[None].to(model.device)
    with torch.no_grad():
        with oracle.applied(model):
            expected = model.module(input_ids=ids, use_cache=False).logits.float()
        try:
            change()
            got = model.module(input_ids=ids, use_cache=False).logits.float()
        except BaseException:
            baked.undo()
            raise
    scale = expected.std().clamp(min=1e-6)
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    if not bool(((got - expected).abs() <= tolerance * scale).all()):
        baked.undo()
        raise ValueError(
            f"in {model.name!r} a change of these weights is not the same as the hooks (largest "
            f"difference {float((got - expected).abs().max()):.2g} logits): steer with hooks"
        )
