"""A model, a loss and training data as functions of one flat vector of parameters.

Training many models at once, and differentiating through training, both need the model as a pure
function. Parameters that require a gradient form the vector; the others (a frozen base under LoRA)
stay as they are.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from interp.core.seeds import generator

PerExample = Callable[[Tensor, Tensor], Tensor]
"""From outputs (example, ...) and targets (example, ...) to one number for each example."""


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Examples at which trained models are measured."""

    inputs: Shaped[Tensor, "query ..."]
    """Inputs of the model."""
    targets: Shaped[Tensor, "..."]
    """What `measure` compares the outputs with."""
    measure: PerExample
    """The measurement, differentiable in the outputs: a loss, a margin, an output itself."""

    def __post_init__(self) -> None:
        """Check the lengths."""
        _check_lengths("queries", self.inputs, self.targets)

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.inputs)


@dataclass(frozen=True)
class Slot:
    """Where a parameter stands in the flat vector."""

    name: str
    """Name of the parameter in the model."""
    start: int
    """Its first place."""
    shape: torch.Size
    """Its shape."""

    @property
    def stop(self) -> int:
        """The place after its last."""
        return self.start + self.shape.numel()


class Problem:
    """What is trained: a model, a loss, and training examples.

    Args:
        model: Any deterministic module that treats examples independently. It is copied; what
            requires a gradient is trained.
        loss: From outputs and targets to the loss of each example, such as
            `partial(cross_entropy, reduction="none")`.
        inputs: Training inputs, one row each.
        targets: Training targets, one row each.

    Raises:
        ValueError: If the model draws random numbers or mixes examples (dropout in training mode,
            batch norm), has nothing to train, or the loss is not one number for each example.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: PerExample,
        inputs: Shaped[Tensor, "example ..."],
        targets: Shaped[Tensor, "..."],
    ) -> None:
        _check_lengths("training set", inputs, targets)
        _check_modules(model)
        self.model = copy.deepcopy(model)
        self.loss, self.inputs, self.targets = loss, inputs, targets
        self.slots = _slots(self.model)
        self._check_behavior()

    @property
    def n_examples(self) -> int:
        """Number of training examples."""
        return len(self.inputs)

    @property
    def n_parameters(self) -> int:
        """Length of the parameter vector."""
        return self.slots[-1].stop

    def named(self, theta: Float[Tensor, " parameter"]) -> dict[str, Tensor]:
        """The parts of a parameter vector by the names of the model."""
        return {s.name: theta[s.start : s.stop].reshape(s.shape) for s in self.slots}

    def outputs(
        self, theta: Float[Tensor, " parameter"], inputs: Shaped[Tensor, "example ..."]
    ) -> Shaped[Tensor, "example ..."]:
        """Outputs of the model with these parameters."""
        return functional_call(self.model, self.named(theta), (inputs,))

    def losses(
        self,
        theta: Float[Tensor, " parameter"],
        inputs: Shaped[Tensor, "example ..."],
        targets: Shaped[Tensor, "example ..."],
    ) -> Float[Tensor, " example"]:
        """Loss of each example."""
        return self.loss(self.outputs(theta, inputs), targets)

    def measured(
        self, theta: Float[Tensor, " parameter"], queries: Queries
    ) -> Float[Tensor, " query"]:
        """Measurement at each query."""
        return queries.measure(self.outputs(theta, queries.inputs), queries.targets)

    def parameters(self) -> Float[Tensor, " parameter"]:
        """The parameters that the model came with."""
        state = dict(self.model.named_parameters())
        return torch.cat([state[slot.name].detach().flatten() for slot in self.slots])

    def draw(self, seed: int) -> Float[Tensor, " parameter"]:
        """New parameters: uniform within one over the root of the fan-in, as torch draws layers.

        A bias takes the fan-in of the weight beside it. Vectors without such a weight (the scales
        of a layer norm) are not drawn but kept.
        """
        theta, random = self.parameters(), generator(seed, "initial", device=self.inputs.device)
        shapes = {slot.name: slot.shape for slot in self.slots}
        for slot in self.slots:
            beside = slot.name.removesuffix("bias") + "weight"
            matrix = slot.shape if len(slot.shape) > 1 else shapes.get(beside, torch.Size())
            if len(matrix) > 1:
                bound = 1 / math.sqrt(matrix[1:].numel())
                theta[slot.start : slot.stop].uniform_(-bound, bound, generator=random)
        return theta

    def _check_behavior(self) -> None:
        """Run two examples, apart and together, and look at the loss."""
        few = min(2, self.n_examples)
        with torch.no_grad():
            both = self.model(self.inputs[:few])
            again, alone = self.model(self.inputs[:few]), self.model(self.inputs[:1])
            losses = self.loss(both, self.targets[:few])
        if not torch.equal(both, again):
            raise ValueError(
                "the model gave two answers to one input: training must be a function of "
                "parameters and batches; call model.eval() or remove what draws random numbers"
            )
        if not torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-5):
            raise ValueError(
                "the output of an example depends on the others in its batch, so that it has no "
                "influence of its own; replace what mixes examples, as batch norm does"
            )
        if losses.shape != (few,):
            raise ValueError(
                f"loss gave shape {tuple(losses.shape)} for {few} examples: needed one number for "
                'each; pass reduction="none"'
            )


def _check_lengths(name: str, inputs: Tensor, targets: Tensor) -> None:
    if not len(inputs) or len(inputs) != len(targets):
        raise ValueError(
            f"{name}: {len(inputs)} inputs and {len(targets)} targets; needed as many, at least one"
        )


def _check_modules(model: nn.Module) -> None:
    """Refuse by name what is known to be random or to mix examples."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _NormBase) and "Batch" in kind and module.training:
            raise ValueError(
                f"{name!r} is {kind} in training mode: the output of an example depends on its "
                "batch and the running means are not parameters; use layer or group norm, or "
                "freeze it with .eval()"
            )
        if isinstance(module, _DropoutNd) and module.p > 0 and module.training:
            raise ValueError(
                f"{name!r} is {kind}(p={module.p}) in training mode: its random masks are no "
                "function of parameters and batches; set p to 0 or call .eval()"
            )


def _slots(model: nn.Module) -> tuple[Slot, ...]:
    slots, start = [], 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slots.append(Slot(name, start, parameter.shape))
            start = slots[-1].stop
    if not slots:
        raise ValueError("no parameter of the model requires a gradient; there is nothing to train")
    return tuple(slots)
