"""Kronecker-factored curvature (K-FAC) of linear and convolution layers.

Martens and Grosse 2015 and Grosse and Martens 2016: the GGN of a layer is taken for the product of
two small matrices, one of its inputs and one of the derivatives at its outputs, and layers for
independent of each other. The second matrix is computed from the root of the loss's Hessian instead
of sampled labels. Positions of a convolution or a sequence count as independent.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import unfold

from interp.influence.influence_functions import output_roots
from interp.influence.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The two matrices of a layer."""

    inputs: Float[Tensor, "in in"]
    """Sum over positions, mean over examples, of the products of inputs; a bias is an input 1."""
    outputs: Float[Tensor, "out out"]
    """Mean over examples and positions of the products of derivatives at the outputs."""


def solve_kronecker(
    problem: Problem,
    theta: Float[Tensor, " parameter"],
    vectors: Float[Tensor, "vector parameter"],
    damping: float,
) -> Float[Tensor, "vector parameter"]:
    """Vectors divided by K-FAC curvature plus damping, exactly, in the factors' eigenvectors.

    Raises:
        ValueError: If a parameter belongs to no plain linear or convolution layer.
    """
    solution = torch.empty_like(vectors)
    places = {slot.name: slice(slot.start, slot.stop) for slot in problem.slots}
    for name, factors in kronecker_factors(problem, theta).items():
        weight, bias = places[f"{name}.weight".lstrip(".")], places.get(f"{name}.bias".lstrip("."))
        rows = len(factors.outputs)
        matrix = vectors[:, weight].unflatten(1, (rows, -1))
        if bias is not None:
            matrix = torch.cat([matrix, vectors[:, bias, None]], 2)
        solved = _divide(matrix, factors, damping)
        if bias is not None:
            solution[:, bias] = solved[:, :, -1]
            solved = solved[:, :, :-1]
        solution[:, weight] = solved.flatten(1)
    return solution


def kronecker_factors(problem: Problem, theta: Float[Tensor, " parameter"]) -> dict[str, Factors]:
    """The factors of each trained layer, by its name in the model.

    Raises:
        ValueError: If a parameter belongs to no plain linear or convolution layer.
    """
    layers = _layers(problem)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    handles = [
        layer.register_forward_hook(partial(_remember, seen[name]))
        for name, layer in layers.items()
    ]
    try:
        named = {k: v.detach().requires_grad_() for k, v in problem.named(theta).items()}
        with torch.enable_grad():
            outputs = functional_call(problem.model, named, (problem.inputs,)).flatten(1)
    finally:
        for handle in handles:
            handle.remove()
    if twice := [name for name, calls in seen.items() if len(calls) != 1]:
        raise ValueError(f"layers {twice} do not run exactly once; use solve_cg")
    return _factors(problem, layers, {name: calls[0] for name, calls in seen.items()}, outputs)


def _remember(
    calls: list[tuple[Tensor, Tensor]], _: nn.Module, args: tuple[Tensor, ...], out: Tensor
) -> None:
    calls.append((args[0].detach(), out))


def _factors(
    problem: Problem,
    layers: dict[str, nn.Module],
    calls: dict[str, tuple[Tensor, Tensor]],
    outputs: Float[Tensor, "example output"],
) -> dict[str, Factors]:
    roots = output_roots(problem, outputs.detach())
    ends = [out for _, out in calls.values()]
    squares: dict[str, Tensor | float] = dict.fromkeys(calls, 0.0)
    for column in range(roots.shape[2]):
        seeds = roots[:, :, column]
        gradients = torch.autograd.grad(outputs, ends, seeds, retain_graph=True)
        for name, gradient in zip(calls, gradients, strict=True):
            rows = _output_rows(layers[name], gradient)
            squares[name] = squares[name] + rows.T @ rows / len(rows)
    found = {}
    for name, (inputs, _) in calls.items():
        rows = _input_rows(layers[name], inputs)
        products = rows.T @ rows / problem.n_examples
        square = squares[name]
        assert isinstance(square, Tensor), "a loss has outputs"
        found[name] = Factors(inputs=products, outputs=square)
    return found


def _layers(problem: Problem) -> dict[str, nn.Module]:
    trained = {slot.name for slot in problem.slots}
    layers = {}
    for name, module in problem.model.named_modules():
        weight = f"{name}.weight".lstrip(".")
        plain = isinstance(module, nn.Linear) or (
            isinstance(module, nn.Conv1d | nn.Conv2d)
            and module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )
        if plain and weight in trained:
            layers[name] = module
            trained -= {weight, f"{name}.bias".lstrip(".")}
    if trained:
        raise ValueError(
            f"parameters {sorted(trained)[:5]} belong to no plain linear or convolution layer, "
            "which is all that K-FAC covers; use solve_cg, or do not train them"
        )
    return layers


def _input_rows(layer: nn.Module, inputs: Tensor) -> Float[Tensor, "row in"]:
    """What the weight is multiplied with, a row for each example and position."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        flat = isinstance(layer, nn.Conv1d)
        inputs = inputs[:, :, None] if flat else inputs
        names = ("kernel_size", "dilation", "padding", "stride")
        sizes = [getattr(layer, name) for name in names]
        blank = (1, 1, 0, 1)
        sizes = [(b, *s) if flat else s for b, s in zip(blank, sizes, strict=True)]
        rows = unfold(inputs, *sizes).transpose(1, 2).flatten(0, 1)
    else:
        rows = inputs.flatten(0, -2)
    has_bias = layer.bias is not None
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1) if has_bias else rows


def _output_rows(layer: nn.Module, gradients: Tensor) -> Float[Tensor, "row out"]:
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return gradients.flatten(2).transpose(1, 2).flatten(0, 1)
    return gradients.flatten(0, -2)


def _divide(
    matrix: Float[Tensor, "vector out in"], factors: Factors, damping: float
) -> Float[Tensor, "vector out in"]:
    """Solve (inputs x outputs + damping) X = matrix."""
    of_inputs, left = torch.linalg.eigh(factors.inputs.double())
    of_outputs, right = torch.linalg.eigh(factors.outputs.double())
    rotated = right.T @ matrix.double() @ left
    scale = of_outputs.clamp(min=0)[:, None] * of_inputs.clamp(min=0) + damping
    return (right @ (rotated / scale) @ left.T).to(matrix)
