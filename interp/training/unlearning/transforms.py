"""Gradient transforms, of which unlearning methods are compositions.

A gradient is a dictionary of tensors by name of the weight, to be descended. MUDMAN is
`normalize(mask_disruption(g, kept), like=g)` taken at an adversary, RepSelect is
`collapse_components(g)` taken at an adversary; a new combination is one more line.

Sources: MUDMAN (Sondej et al. 2025, arXiv 2506.12484), CIR (Sondej et al. 2025, arXiv 2509.11816),
RepSelect (Sondej et al. 2026, arXiv 2606.17168).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Gradients = dict[str, Tensor]
Collapse = Literal["soft", "hard", "quadratic"]
Loss = Callable[[], Float[Tensor, ""]]


def gradient(loss: Loss, weights: Mapping[str, nn.Parameter]) -> Gradients:
    """Gradient of a loss with respect to some weights, which are left without one.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    value = loss()
    if not bool(value.isfinite()):
        raise FloatingPointError(f"the loss is {float(value.detach())}")
    found: Any = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if part is None else part
        for (name, weight), part in zip(weights.items(), found, strict=True)
    }


def combine(*parts: tuple[float, Gradients]) -> Gradients:
    """Weighted sum of gradients."""
    (factor, first), *others = parts
    total = {name: factor * part for name, part in first.items()}
    for factor, gradients in others:
        for name, part in gradients.items():
            total[name] += factor * part
    return total


def norm(gradients: Gradients) -> float:
    """Euclidean length over all weights."""
    return float(sum(part.square().sum() for part in gradients.values())) ** 0.5


def normalize(gradients: Gradients, *, like: Gradients | None = None) -> Gradients:
    """A gradient divided by its length, or by that of another one.

    Args:
        gradients: What to divide.
        like: Whose length divides, such as the gradient before it was masked.
    """
    length = norm(gradients if like is None else like)
    return {name: part / max(length, 1e-30) for name, part in gradients.items()}


def mask_disruption(gradients: Gradients, kept: Gradients) -> Gradients:
    """Only the entries whose step does not go against what is to be kept.

    Args:
        gradients: Gradient of the loss that unlearns.
        kept: Gradient of the loss that retains, or its moving average; entries of another sign are
            set to 0.
    """
    return {name: part * (part.sign() == kept[name].sign()) for name, part in gradients.items()}


def collapse_components(
    gradients: Gradients,
    *,
    n: int = 64,
    how: Collapse = "soft",
    basis: Gradients | None = None,
    seed: int = 0,
) -> Gradients:
    """Shrink what a gradient shares with its largest components, on both of its sides.

    The largest singular directions of a gradient hold what the forget set shares with everything
    else, and what a relearning attack moves first.

    Args:
        gradients: Matrices by name.
        n: Singular directions that are shrunk.
        how: "hard" removes them, "soft" divides each by its singular value over the least of them,
            "quadratic" by the square of that.
        basis: Gradients whose components are used instead, such as those of the retain set.
        seed: Seed of the randomized decomposition.
    """
    basis = gradients if basis is None else basis
    collapsed = {}
    for name, part in gradients.items():
        left, scale, right = _components(basis[name], n, seed)
        part = _collapse(part, right, scale, how)  # noqa: PLW2901
        collapsed[name] = _collapse(part.mT, left, scale, how).mT
    return collapsed


def project_out(
    rows: Float[Tensor, "row feature"], *, n: int, seed: int = 0
) -> Float[Tensor, "row feature"]:
    """Rows without their mean direction and their n largest principal components."""
    mean = rows.mean(0)
    unit = mean / mean.norm().clamp(min=1e-30)
    _, _, components = _components(rows - mean, n, seed)
    basis, _ = torch.linalg.qr(torch.cat([unit[:, None], components], dim=1))
    return rows - rows @ basis @ basis.mT


def _components(matrix: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The n largest singular directions and values."""
    q = min(n, *matrix.shape)
    if 3 * q >= min(matrix.shape):  # nearly all of them: exact costs no more
        left, scale, right = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, :q], scale[:q], right[:q].mT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # svd_lowrank draws from the global generator
        left, scale, right = torch.svd_lowrank(matrix, q=q + 8)  # some more, to get these right
    return left[:, :q], scale[:q], right[:, :q]


def _collapse(matrix: Tensor, basis: Tensor, scale: Tensor, how: Collapse) -> Tensor:
    """A matrix (out, in) with its components on the input side shrunk."""
    along = matrix @ basis
    if how == "hard":
        left = torch.zeros_like(along)
    elif how in ("soft", "quadratic"):
        ratio = scale / scale.min().clamp(min=1e-30)
        left = along / (ratio if how == "soft" else ratio.square())
    else:
        raise ValueError(f"how is {how!r}: needed 'soft', 'hard' or 'quadratic'")
    return matrix - (along - left) @ basis.mT


@contextmanager
def restored(weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Whatever happens to the weights in the block, afterwards they are as before."""
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        yield
    finally:
        write(weights, before)


@torch.no_grad()
def write(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Set weights to values."""
    for name, weight in weights.items():
        weight.copy_(values[name])


@torch.no_grad()
def move(weights: Mapping[str, nn.Parameter], gradients: Gradients, *, rate: float) -> None:
    """Descend: weights minus the rate times the gradient."""
    for name, weight in weights.items():
        weight.sub_(gradients[name], alpha=rate)


@contextmanager
def adversary(
    module: nn.Module, names: list[str], *, rank: int, seed: int = 0
) -> Iterator[dict[str, nn.Parameter]]:
    """Low-rank adapters on linear maps, active in the block and gone after it.

    Args:
        module: The model.
        names: The linear maps, by module path.
        rank: Of the adapters, whose product is 0 at first.
        seed: Seed of the factors that are drawn.

    Yields:
        The factors by name, to be trained to relearn what is unlearned.
    """
    generator = torch.Generator().manual_seed(seed)
    factors, handles = {}, []
    for name in names:
        linear: nn.Linear = module.get_submodule(name)  # pyright: ignore[reportAssignmentType]
        bound = linear.in_features**-0.5
        down = (2 * torch.rand(linear.in_features, rank, generator=generator) - 1) * bound
        one = nn.Parameter(down.to(linear.weight))
        two = nn.Parameter(one.new_zeros(rank, linear.out_features))
        factors |= {f"{name}.down": one, f"{name}.up": two}
        handles.append(
            linear.register_forward_hook(
                lambda _, inputs, output, one=one, two=two: output + inputs[0] @ one @ two
            )
        )
    try:
        yield factors
    finally:
        for handle in handles:
            handle.remove()
