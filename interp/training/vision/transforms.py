"""Changes of the weights before training on what is retained.

The first three are Siddiqui et al.'s (2025, arXiv 2505.22310) and know nothing of what is
forgotten; selective synaptic dampening (SSD, Foster et al. 2024) compares gradients.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from interp.core.seeds import generator
from interp.training.vision.networks import Network, Networks
from interp.training.vision.tasks import Task

_BATCH = 128


def distort(
    networks: Networks, task: Task, *, seeds: Sequence[int], scale: float = 0.02
) -> Networks:
    """Normal noise with this standard deviation on every weight."""
    noise = [torch.randn(n, generator=generator(s, "noise")) for n, s in _sizes(networks, seeds)]
    return replace(networks, weights=networks.weights + scale * torch.stack(noise))


def attenuate(
    networks: Networks, task: Task, *, seeds: Sequence[int], factor: float = 0.5
) -> Networks:
    """Every weight times a factor."""
    return replace(networks, weights=networks.weights * factor)


def drop(networks: Networks, task: Task, *, seeds: Sequence[int], share: float = 0.2) -> Networks:
    """A random share of the weights set to 0."""
    kept = [
        torch.rand(n, generator=generator(s, "drop")) >= share for n, s in _sizes(networks, seeds)
    ]
    return replace(networks, weights=networks.weights * torch.stack(kept))


def dampen(
    networks: Networks, task: Task, *, seeds: Sequence[int], strength: float = 1.0
) -> Networks:
    """Each weight times F_retain / (strength F_forget), at most 1: what forgetting needs shrinks.

    F is the sum over batches of the squared gradient of the loss.
    """
    kept, gone = (
        squared_gradients(networks, task, "retain"),
        squared_gradients(networks, task, "forget"),
    )
    return replace(
        networks, weights=networks.weights * (kept / (strength * gone + 1e-6)).clamp(0, 1)
    )


def squared_gradients(networks: Networks, task: Task, part: str) -> Float[Tensor, "run parameter"]:
    """Sum over batches of the squared gradient of the mean cross entropy, in evaluation mode."""
    rows = task.retain if part == "retain" else task.forget

    def loss(weights: Tensor, statistics: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(Network(networks.cnn, weights, statistics)(x).logits, y)

    total = torch.zeros_like(networks.weights)
    for batch in rows.split(_BATCH, 1):
        x, y = task.images.pixels[batch], task.images.labels[batch]
        total += vmap(grad(loss))(networks.weights, networks.statistics, x, y).square()
    return total


def _sizes(networks: Networks, seeds: Sequence[int]) -> list[tuple[int, int]]:
    return [(networks.weights.shape[1], seed) for seed in seeds]
