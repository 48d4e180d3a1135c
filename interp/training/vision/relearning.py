"""What comes back: training on retained images and a few forgotten ones, and its control.

Re-estimating the statistics of batch normalization changes no weight; where that alone brings
accuracy back, it was hidden rather than deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from interp.training.optimizers import cosine_decay
from interp.training.vision.networks import Network, Networks
from interp.training.vision.tasks import Images, Task
from interp.training.vision.training import Schedules, passes, train_on

ATTACK = Schedules(n_epochs=20, lr=2e-4, schedule=cosine_decay)
"""How the attacker trains."""


@dataclass(frozen=True, kw_only=True)
class Relearning:
    """Accuracy after attacks."""

    n_given: tuple[int, ...]
    """Forgotten images that the attacker was given."""
    held: Float[Tensor, "attack run"]
    """Accuracy on forgotten images that no attacker was given."""
    test: Float[Tensor, "attack run"]
    """Accuracy on test images."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each attack and run."""
        columns = {"held": self.held.tolist(), "test": self.test.tolist()}
        frame = pd.DataFrame({"n_given": self.n_given, **columns})
        frame["run"] = [list(range(self.held.shape[1]))] * len(frame)
        return frame.explode(["run", "held", "test"], ignore_index=True)


def accuracy(
    networks: Networks, images: Images, rows: Int[Tensor, "run example"]
) -> Float[Tensor, " run"]:
    """Share of right answers of each run on images of its own."""
    found = networks.logits(images.pixels[rows]).argmax(-1)
    return (found == images.labels[rows]).float().mean(1)


def relearn(
    networks: Networks,
    task: Task,
    *,
    n_given: Sequence[int] = (0, 1, 5, 10, 50),
    how: Schedules = ATTACK,
    seeds: Sequence[int],
) -> Relearning:
    """Train on the retained images and the first few forgotten ones, and see what comes back.

    Args:
        networks: Networks that forgot; they stay as they are.
        task: What each run forgot.
        n_given: Numbers of forgotten images that are given to the attacker.
        how: How the attacker trains.
        seeds: Seed of each run's attack.

    Raises:
        ValueError: If more images are to be given than the task sets aside for that.
    """
    if not n_given or not 0 <= min(n_given) <= max(n_given) <= task.n_attack:
        raise ValueError(
            f"n_given={tuple(n_given)!r}: needed numbers from 0 to the {task.n_attack} images that "
            "the task sets aside for attackers"
        )
    held, test = [], []
    for n in n_given:
        rows = list(torch.cat([task.retain, task.forget[:, :n]], 1))
        # the same steps for every n, so that attacks differ in what they see alone
        n_steps = passes(task.retain.shape[1], how)
        attacked = train_on(networks, task.images, rows, how, n_steps=n_steps, seeds=seeds).networks
        held.append(accuracy(attacked, task.images, task.held))
        test.append(accuracy(attacked, task.images, task.test))
    return Relearning(n_given=tuple(n_given), held=torch.stack(held), test=torch.stack(test))


@torch.no_grad()
def reestimate(
    networks: Networks, images: Images, rows: Int[Tensor, "run example"], *, n_passes: int = 4
) -> Networks:
    """The same weights with running statistics taken from these images."""

    def seen(weights: Tensor, statistics: Tensor, x: Tensor) -> Tensor:
        network = Network(networks.cnn, weights, statistics, training=True)
        network(x)
        return network.statistics

    statistics = networks.statistics
    for batch in rows.split(128, 1) * n_passes:
        statistics = vmap(seen)(networks.weights, statistics, images.pixels[batch])
    return replace(networks, statistics=statistics)
