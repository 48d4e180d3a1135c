"""Exponential moving average of parameters: the slow twin of a model in training.

Kim et al. 2025 (arXiv 2508.12531) keep it while fine-tuning, so that benign data do less harm to
safety. The average begins at the weights before training, and after every step
`average = decay * average + (1 - decay) * weights`. After T steps the starting weights still have
the share `decay ** T`: an average is partly a plain interpolation towards the start, and what it
does beyond that must be shown at equal distance from the start.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class Ema:
    """The moving average of some tensors.

    Examples:
        >>> weight = torch.zeros(1)
        >>> ema = Ema([weight], decay=0.9)
        >>> ema.update([weight + 1])
        >>> ema.averages[0]
        tensor([0.1000])
    """

    def __init__(self, tensors: Sequence[Float[Tensor, "..."]], *, decay: float) -> None:
        """Begin at these values.

        Args:
            tensors: The weights before training.
            decay: Share of the old average that stays at each step, in [0, 1).

        Raises:
            ValueError: If the decay is out of range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay!r}: needed 0 <= decay < 1")
        self.decay = decay
        self.averages = [tensor.detach().clone() for tensor in tensors]

    @torch.no_grad()
    def update(self, tensors: Sequence[Float[Tensor, "..."]]) -> None:
        """Move towards the values after a step."""
        for average, tensor in zip(self.averages, tensors, strict=True):
            average.mul_(self.decay).add_(tensor.detach(), alpha=1 - self.decay)

    @torch.no_grad()
    def copy_to(self, tensors: Sequence[Float[Tensor, "..."]]) -> None:
        """Write the averages into tensors."""
        for average, tensor in zip(self.averages, tensors, strict=True):
            tensor.copy_(average)
