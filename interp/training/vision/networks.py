"""Small convolutional networks, many at once, as pure functions of flat weights.

Three convolutions with batch normalization, a hidden layer and a classifier. The weights of a
network are one vector, so that distances, interpolation and noise are elementwise; running means
and variances of batch normalization are a second one, since they change without a gradient.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, linear, relu

from interp.core.seeds import generator

_MOMENTUM = 0.1
"""Weight of a new batch in the running statistics."""


@dataclass(frozen=True, kw_only=True)
class Cnn:
    """Shape of a network."""

    side: int = 8
    """Height and width of the images, which have one channel."""
    stride: int = 1
    """Stride of the first convolution; that of the two others is 2."""
    channels: tuple[int, int, int] = (8, 16, 32)
    """Channels after each convolution."""
    d_hidden: int = 48
    """Width of the hidden layer."""
    n_classes: int = 10
    """Classes."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each tensor in the flat weights, in order."""
        convolutions = [
            shape
            for d_in, d_out in pairwise((1, *self.channels))
            for shape in ((d_out, d_in, 3, 3), (d_out,), (d_out,))
        ]
        side = self.side
        for stride in (self.stride, 2, 2):
            side = (side - 1) // stride + 1
        d_in = self.channels[-1] * side**2
        head = [(self.d_hidden, d_in), (self.d_hidden,), (self.n_classes, self.d_hidden)]
        return [*convolutions, *head, (self.n_classes,)]

    def unflatten(self, weights: Float[Tensor, " parameter"]) -> list[Tensor]:
        """The tensors of one network."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return [
            part.view(shape) for part, shape in zip(weights.split(sizes), self.shapes, strict=True)
        ]

    def draw(self, seeds: Sequence[int]) -> "Networks":
        """Untrained networks, one for each seed."""
        if not seeds:
            raise ValueError("no seeds: needed one for each network")
        weights = torch.stack([self._draw(seed) for seed in seeds])
        one = torch.cat([torch.tensor([0.0, 1.0]).repeat_interleave(c) for c in self.channels])
        return Networks(cnn=self, weights=weights, statistics=one.repeat(len(seeds), 1))

    def _draw(self, seed: int) -> Tensor:
        """Uniform weights as torch draws them; scales are 1, and biases 0."""
        random = generator(seed, "weights")
        parts, norm_scale = [], True
        for shape in self.shapes:
            if len(shape) > 1:
                bound = math.prod(shape[1:]) ** -0.5
                parts.append((torch.rand(shape, generator=random) * 2 - 1) * bound)
                norm_scale = len(shape) == 4
            else:  # after a convolution come scales, then biases
                parts.append(torch.full(shape, float(norm_scale)))
                norm_scale = False
        return torch.cat([part.flatten() for part in parts])


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks of one shape, one for each run."""

    cnn: Cnn
    """Their shape."""
    weights: Float[Tensor, "run parameter"]
    """What is trained."""
    statistics: Float[Tensor, "run statistic"]
    """Running mean and variance of each batch normalization."""

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.weights)

    def __getitem__(self, runs: Tensor) -> "Networks":
        """Some of the runs; a run may come twice."""
        return replace(self, weights=self.weights[runs], statistics=self.statistics[runs])

    @torch.no_grad()
    def logits(
        self, images: Float[Tensor, "run example channel side side"]
    ) -> Float[Tensor, "run example n_classes"]:
        """Outputs of each run on images of its own, with the running statistics."""
        rows = zip(self.weights, self.statistics, images, strict=True)
        return torch.stack([Network(self.cnn, w, s)(x).logits for w, s, x in rows])


@dataclass(frozen=True)
class Outputs:
    """What a network says about a batch."""

    logits: Float[Tensor, "example n_classes"]
    """Scores of the classes."""
    features: tuple[Tensor, ...]
    """Flat activations of the last convolution and of the hidden layer, (example, feature)."""


@dataclass
class Network:
    """One network in use; training updates its running statistics at each call."""

    cnn: Cnn
    """Its shape."""
    weights: Float[Tensor, " parameter"]
    """Its weights."""
    statistics: Float[Tensor, " statistic"]
    """Running means and variances."""
    training: bool = field(default=False, kw_only=True)
    """Whether batches are normalized by their own mean and variance."""

    def __call__(self, images: Float[Tensor, "example channel side side"]) -> Outputs:
        """Logits and features of a batch."""
        parts = self.cnn.unflatten(self.weights)
        running = list(self.statistics.split([c for c in self.cnn.channels for _ in range(2)]))
        x = images
        for block, stride in enumerate((self.cnn.stride, 2, 2)):
            kernel, scale, shift = parts[3 * block : 3 * block + 3]
            x = conv2d(x, kernel, stride=stride, padding=1)
            statistics = slice(2 * block, 2 * block + 2)
            mean, variance = running[statistics]
            if self.training:
                running[statistics] = _updated(running[statistics], x)
                x = batch_norm(x, None, None, scale, shift, training=True)
            else:
                x = batch_norm(x, mean, variance, scale, shift)
            x = relu(x)
        self.statistics = torch.cat(running).detach()
        convolved = x.flatten(1)
        hidden = relu(linear(convolved, parts[-4], parts[-3]))
        return Outputs(linear(hidden, parts[-2], parts[-1]), (convolved, hidden))


def _updated(running: list[Tensor], x: Tensor) -> list[Tensor]:
    """Running mean and variance after a batch."""
    values = x.detach().transpose(0, 1).flatten(1)
    found = (values.mean(1), values.var(1))
    return [
        (1 - _MOMENTUM) * old + _MOMENTUM * new for old, new in zip(running, found, strict=True)
    ]
