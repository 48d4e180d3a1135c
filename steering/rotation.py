"""Rotations whose angle depends on the activation (HPR, Pham and Nguyen 2024, 2409.10053).

A probe without intercept, normal w, says on which side of a plane through the origin an activation
lies. Those on the negative side turn towards their mirror image (h reflected by the Householder
matrix 1 - 2 w w^T / |w|^2) by an angle that a small network predicts from the activation; those on
the positive side stay. Lengths are kept. The network is trained on the angle between the two sides
of each pair for negative activations, and 0 for positive ones; it reads directions only, scaled to
one length, where the paper's reads activations as they are.

A plane through the origin may separate badly what a shifted one separates well, and a network of
this size memorizes few pairs: look at held-out angles before steering.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from interp.core.seeds import generator
from steering.operators import turn


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoRotation:
    """The map of Householder pseudo-rotation."""

    normal: Float[Tensor, " feature"]
    """Normal of the plane, on the positive side."""
    layers: tuple[Float[Tensor, "..."], ...]
    """Weights and biases of the network: hidden weight and bias, output weight and bias."""

    def angles(self, value: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch 1"]:
        """Predicted angles in radians, between 0 and pi."""
        weight, bias, out, shift = (part.to(value) for part in self.layers)
        return torch.pi * torch.sigmoid(
            nn.functional.gelu(_directions(value) @ weight.mT + bias) @ out.mT + shift
        )

    def __call__(self, value: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The map on activations."""
        normal = self.normal.to(value)
        is_negative = (value @ normal < 0)[..., None]
        return torch.where(is_negative, turn(value, normal, self.angles(value)), value)


def fit_pseudo_rotation(
    positive: Float[Tensor, "pair feature"],
    negative: Float[Tensor, "pair feature"],
    *,
    hidden: int = 32,
    n_steps: int = 200,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> PseudoRotation:
    """Fit the plane and the angles to pairs.

    Args:
        positive: Activations that show the concept.
        negative: Their counterparts, in the same order.
        hidden: Width of the network.
        n_steps: Steps of Adam, each on all pairs.
        learning_rate: Of Adam.
        seed: Start of the network.
    """
    both = torch.cat([positive, negative])
    labels = [1] * len(positive) + [0] * len(negative)
    probe = LogisticRegression(fit_intercept=False, max_iter=2000)
    scale = both.norm(dim=-1).mean()
    normal = torch.from_numpy(probe.fit((both / scale).double().numpy(), labels).coef_[0]).float()
    cosines = torch.cosine_similarity(positive, negative, dim=-1).clamp(-1, 1)
    targets = torch.cat([torch.zeros(len(positive)), cosines.acos()])[:, None]
    random, d = generator(seed, "pseudo-rotation"), both.shape[1]
    layers = (
        torch.randn(hidden, d, generator=random) / d**0.5,
        torch.zeros(hidden),
        torch.randn(1, hidden, generator=random) / hidden**0.5,
        torch.zeros(1),
    )
    found = PseudoRotation(normal=normal, layers=layers)
    optimizer = torch.optim.Adam([part.requires_grad_() for part in layers], lr=learning_rate)
    for _ in range(n_steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(found.angles(both), targets).backward()
        optimizer.step()
    return PseudoRotation(normal=normal, layers=tuple(part.detach() for part in layers))


def _directions(value: Tensor) -> Tensor:
    """Activations at the length root d."""
    return nn.functional.normalize(value, dim=-1) * value.shape[-1] ** 0.5
