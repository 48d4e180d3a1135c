"""What the influence study trains: digits, a regression set, a toy in one dimension, a probe."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from interp import HookedModel, Records, extract
from interp.core.seeds import derive, generator
from interp.data import load_fixture
from interp.influence import PerExample, Problem, Queries, Sgd, Training, train_ensemble

entropy = partial(cross_entropy, reduction="none")
"""Loss of each example of a classifier."""
IMAGE_TRAINING = Training(n_steps=400, lr=0.5, optimizer=Sgd(weight_decay=1e-3))
"""How the classifiers of images are trained."""
PROBE_TRAINING = Training(
    n_steps=100, batch_size=8, lr=0.02, optimizer=Sgd(weight_decay=0.01), initial="kept"
)
"""How the probes are trained: from zero, so that runs differ by their batches alone."""
TOY_TRAINING = Training(n_steps=300, batch_size=8, lr=0.05)
"""How the networks of the toy are trained."""
_CURVE, _LONE = 29, 1.5


@dataclass(frozen=True, kw_only=True)
class Images:
    """A classifier of images, its queries, and further examples."""

    problem: Problem
    """A perceptron with one hidden layer and its training set."""
    x: Tensor
    """Images that are not in the training set."""
    y: Tensor
    """Their classes."""

    def queries(self, rows: slice, measure: PerExample = entropy) -> Queries:
        """Some of the further examples as queries."""
        return Queries(inputs=self.x[rows], targets=self.y[rows], measure=measure)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error of the only output."""
    return (outputs[:, 0] - targets) ** 2


def output(outputs: Tensor, targets: Tensor) -> Tensor:
    """The only output itself."""
    return outputs[:, 0]


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Score of the right class minus the highest other one."""
    right = outputs.gather(1, targets[:, None])[:, 0]
    return right - outputs.scatter(1, targets[:, None], -torch.inf).amax(1)


def digits(n_train: int, *, seed: int = 0) -> Images:
    """Digits of scikit-learn, 8 by 8 pixels."""
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    return _images(pixels / 16.0, labels, n_train, 32, seed)


def mnist(folder: Path, n_train: int, *, seed: int = 0) -> Images:
    """MNIST digits from `vision/mnist5k`, averaged to 14 by 14 pixels."""
    table = np.loadtxt(folder / "vision" / "mnist5k" / "mnist_5k.csv.gz", delimiter=",")
    pixels = torch.tensor(table[:, :-1] / 255.0).reshape(-1, 1, 28, 28)
    return _images(avg_pool2d(pixels, 2).flatten(1).numpy(), table[:, -1], n_train, 16, seed)


def _images(pixels: np.ndarray, labels: np.ndarray, n: int, width: int, seed: int) -> Images:
    x = torch.tensor(pixels, dtype=torch.float32)
    x, y = x - x.mean(0), torch.tensor(labels).long()
    order = torch.randperm(len(y), generator=generator(seed, "images"))
    model = nn.Sequential(nn.Linear(x.shape[1], width), nn.Tanh(), nn.Linear(width, 10))
    problem = Problem(model, entropy, x[order[:n]], y[order[:n]])
    return Images(problem=problem, x=x[order[n:]], y=y[order[n:]])


def mislabeled(images: Images, n_wrong: int) -> Images:
    """The same with the first labels moved to the next class."""
    labels = images.problem.targets.clone()
    labels[:n_wrong] = (labels[:n_wrong] + 1) % 10
    problem = Problem(images.problem.model, entropy, images.problem.inputs, labels)
    return Images(problem=problem, x=images.x, y=images.y)


def diabetes() -> tuple[Problem, Queries]:
    """Linear regression on the diabetes set of scikit-learn, standardized; 42 queries."""
    x, y = map(np.asarray, load_diabetes(return_X_y=True))
    x, y = (torch.tensor((a - a.mean(0)) / a.std(0)) for a in (x, y))
    problem = Problem(nn.Linear(10, 1).double(), squared, x[:400], y[:400])
    return problem, Queries(inputs=x[400:], targets=y[400:], measure=output)


def toy(*, n_seeds: int = 64, seed: int = 0) -> tuple[Problem, Queries]:
    """A curve on the left, one point alone on the right, and a query beyond it.

    The lone point lies where networks trained without it go on average, so that it can hardly
    change their mean; what it does is to make them agree.
    """
    x = torch.linspace(-2.0, 0.0, _CURVE)[:, None]
    noise = torch.randn(_CURVE, generator=generator(seed, "toy"))
    y = torch.sin(2 * x[:, 0]) + 0.03 * noise
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    alone = Queries(inputs=torch.tensor([[_LONE]]), targets=torch.zeros(1), measure=output)
    without = train_ensemble(
        Problem(model, squared, x, y), TOY_TRAINING, seeds=range(n_seeds), trajectory="end"
    )
    x = torch.cat([x, alone.inputs])
    y = torch.cat([y, without.measure(alone).mean(0)])
    queries = Queries(inputs=alone.inputs + 0.1, targets=torch.zeros(1), measure=output)
    return Problem(model, squared, x, y), queries


def probe_rows(
    model: HookedModel, layer: int, n_train: int, n_queries: int, *, seed: int = 0
) -> tuple[Problem, Queries, Records]:
    """Logistic regression on mean activations of the shipped high-stakes texts; its training rows.

    Pairs of texts stay on one side of the split. The measurement is the log-odds of high stakes.
    """
    records = load_fixture("high_stakes")
    groups = list(dict.fromkeys(records.groups))
    order = np.random.default_rng(derive(seed, "probe")).permutation(len(groups))
    rank = {groups[g]: place for place, g in enumerate(order)}
    rows = sorted(range(len(records)), key=lambda row: rank[records.groups[row]])
    chosen = records[np.array(rows[: n_train + n_queries])]
    found = extract(model, chosen, layers=layer, pooling="mean")
    x, y = found.matrix.float(), torch.tensor(np.asarray(found.labels), dtype=torch.float32)
    x = (x - x[:n_train].mean(0)) / x[:n_train].std(0)

    def log_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.softplus(outputs[:, 0]) - targets * outputs[:, 0]

    probe = nn.Linear(x.shape[1], 1)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    problem = Problem(probe, log_loss, x[:n_train], y[:n_train])
    queries = Queries(inputs=x[n_train:], targets=y[n_train:], measure=output)
    return problem, queries, chosen[:n_train]
