"""Changes of the weights, by hand."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from interp.training.vision import Cnn, Network, Networks, Task, transforms

SEEDS = [3, 4]


def test_attenuation_halves(networks: Networks, task: Task) -> None:
    found = transforms.attenuate(networks, task, seeds=SEEDS, factor=0.5)
    torch.testing.assert_close(found.weights, networks.weights / 2)
    assert torch.equal(found.statistics, networks.statistics)


def test_distortion_is_noise_of_the_given_size(task: Task) -> None:
    networks = Cnn().draw([0, 1])
    found = transforms.distort(networks, task, seeds=SEEDS, scale=0.05)
    noise = found.weights - networks.weights
    np.testing.assert_allclose(noise.std(1), 0.05, rtol=0.03)
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.05
    again = transforms.distort(networks, task, seeds=SEEDS, scale=0.05)
    assert torch.equal(again.weights, found.weights)


def test_dropout_zeroes_a_share_and_leaves_the_rest(task: Task) -> None:
    networks = Cnn().draw([0, 1])
    found = transforms.drop(networks, task, seeds=SEEDS, share=0.3)
    kept = found.weights != 0
    torch.testing.assert_close(found.weights[kept], networks.weights[kept])
    nonzero = networks.weights != 0
    np.testing.assert_allclose((~kept & nonzero).sum(1) / nonzero.sum(1), 0.3, atol=0.02)


def test_dampening_is_the_ratio_of_squared_gradients(networks: Networks, task: Task) -> None:
    squares = {}
    for part in ("retain", "forget"):
        rows = getattr(task, part)[1]
        weights = networks.weights[1].clone().requires_grad_()
        network = Network(networks.cnn, weights, networks.statistics[1])
        logits = network(task.images.pixels[rows]).logits
        loss = cross_entropy(logits, task.images.labels[rows])
        squares[part] = torch.autograd.grad(loss, weights)[0] ** 2
        found = transforms.squared_gradients(networks, task, part)[1]
        torch.testing.assert_close(found, squares[part], rtol=1e-3, atol=1e-7)
    factor = (squares["retain"] / (2 * squares["forget"] + 1e-6)).clamp(0, 1)
    dampened = transforms.dampen(networks, task, seeds=SEEDS, strength=2.0)
    torch.testing.assert_close(
        dampened.weights[1], networks.weights[1] * factor, rtol=1e-3, atol=1e-5
    )
