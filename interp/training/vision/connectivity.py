"""How far networks lie from where they began: in a straight line, and over which barrier."""

from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.training.vision.networks import Networks
from interp.training.vision.tasks import Images


@dataclass(frozen=True, kw_only=True)
class LinearPath:
    """Loss along the straight line between two networks of each run."""

    share: Float[Tensor, " point"]
    """Share of the way."""
    loss: Float[Tensor, "point run"]
    """Mean cross entropy in nats."""

    @property
    def barrier(self) -> Float[Tensor, " run"]:
        """How far the loss rises above the line between its ends, in nats; at least 0."""
        line = self.loss[0] + self.share[:, None] * (self.loss[-1] - self.loss[0])
        return (self.loss - line).amax(0).clamp(min=0)

    def to_frame(self) -> pd.DataFrame:
        """One row for each point and run."""
        frame = pd.DataFrame(self.loss.numpy(), index=pd.Index(self.share.tolist(), name="share"))
        return frame.reset_index().melt("share", var_name="run", value_name="loss")


def distance(one: Networks, other: Networks) -> Float[Tensor, " run"]:
    """Euclidean distance of the weights of each run."""
    return (one.weights - other.weights).norm(dim=1)


def linear_path(
    one: Networks,
    other: Networks,
    images: Images,
    rows: Int[Tensor, "run example"],
    *,
    n_points: int = 11,
) -> LinearPath:
    """Loss between two networks of each run; running statistics are mixed like weights.

    Args:
        one: Networks at share 0.
        other: Networks at share 1.
        images: All images.
        rows: Images of each run on which the loss is measured.
        n_points: Points of the line, both ends counted.

    Raises:
        ValueError: If there are fewer than three points.
    """
    if n_points < 3:
        raise ValueError(f"n_points={n_points}: needed 3 or more, so that one lies between")
    shares = torch.linspace(0, 1, n_points)
    x, y = images.pixels[rows], images.labels[rows]
    found = []
    for share in shares.tolist():
        mixed = replace(
            one,
            weights=torch.lerp(one.weights, other.weights, share),
            statistics=torch.lerp(one.statistics, other.statistics, share),
        )
        losses = cross_entropy(mixed.logits(x).transpose(1, 2), y, reduction="none")
        found.append(losses.mean(1))
    return LinearPath(share=shares, loss=torch.stack(found))
