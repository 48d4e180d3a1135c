"""Discovered vectors: those that change later activations most, without labels (MELBO).

After Mack and Turner (2024). What such a vector does must be read off the texts that it gives; most
do nothing that has a name.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.seeds import generator
from interp.core.sites import Site
from steering.applying import Steering
from steering.vectors import SteeringVector


def discover_vectors(
    model: HookedModel,
    prompts: Records | Sequence[str],
    *,
    layer: int,
    target_layer: int,
    n_vectors: int = 4,
    radius: float = 0.3,
    n_steps: int = 40,
    seed: int = 0,
) -> list[SteeringVector]:
    """Vectors that change later activations most, found without labels, mutually orthogonal.

    What they do must be read off the texts that they give; most do nothing that has a name.

    Args:
        model: A language model; it is not changed.
        prompts: Some prompts.
        layer: Layer after whose block they are added.
        target_layer: Layer whose activations they change.
        n_vectors: How many.
        radius: Norm of each, in units of the residual norm.
        n_steps: Steps of gradient ascent.
        seed: Where the ascent begins.

    Raises:
        ValueError: If the target layer is not above the layer.
    """
    if target_layer <= layer:
        raise ValueError(f"target_layer={target_layer} is not above layer={layer}")
    tokens = model.tokenize(prompts, add_generation_prompt=True)
    batch = {name: x.to(model.device) for name, x in tokens.batch(range(len(tokens))).items()}
    mask = batch["attention_mask"].bool()
    mask[:, 0] = False  # the first token is unlike all others
    plain, scale = _target(model, batch, None, layer, target_layer, mask)
    found: list[Tensor] = []
    for number in range(n_vectors):
        start = torch.empty(plain.shape[-1]).normal_(generator=generator(seed, "melbo", number))
        vector = _on_sphere(start, found, radius * scale)
        for _ in range(n_steps):
            vector.requires_grad_()
            steered, _ = _target(model, batch, vector, layer, target_layer, mask)
            (slope,) = torch.autograd.grad((steered - plain).norm(dim=-1).mean(), [vector])
            ahead = vector.detach() + 0.3 * radius * scale * slope / slope.norm().clamp(min=1e-12)
            vector = _on_sphere(ahead, found, radius * scale)
        found.append(vector.detach())
    return [
        SteeringVector(
            values={layer: vector},
            norms={layer: scale},
            origin=model.origin,
            provenance={"method": "unsupervised", "number": number, "target_layer": target_layer},
        )
        for number, vector in enumerate(found)
    ]


def _target(
    model: HookedModel,
    batch: dict[str, Tensor],
    vector: Tensor | None,
    layer: int,
    target_layer: int,
    mask: Tensor,
) -> tuple[Float[Tensor, "token d_model"], float]:
    """Activations of the target layer at the chosen tokens, and the residual norm at the layer."""
    found: dict[int, Tensor] = {}
    reads = [
        (Site("resid_post", k), lambda value, call, k=k: found.__setitem__(k, value))
        for k in (layer, target_layer)
    ]
    values = torch.zeros(int(model.d_model or 0)) if vector is None else vector
    with (
        torch.set_grad_enabled(vector is not None),
        Steering(values={layer: values}).applied(model),
        model.hooks.attached(reads=reads),
    ):
        model.body(**batch, use_cache=False)
    norm = float(found[layer].detach()[mask].float().norm(dim=-1).mean())
    return found[target_layer][mask].float(), norm


def _on_sphere(vector: Tensor, others: list[Tensor], norm: float) -> Tensor:
    """A vector orthogonal to others, with a norm."""
    vector = vector.detach().clone()
    for other in others:
        vector -= (vector @ other) / (other @ other) * other
    return vector * (norm / vector.norm())
