"""Networks as flat weights against the same network of torch modules."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from interp.training.vision import Cnn, Images, Network, Networks, Schedules, train_on
from interp.training.vision.training import draw_batches


def module_of(networks: Networks, run: int) -> nn.Sequential:
    """The same network as a torch module."""
    cnn, sides, layers = networks.cnn, [], []
    d_in = 1
    for channels, stride in zip(cnn.channels, (cnn.stride, 2, 2), strict=True):
        layers += [nn.Conv2d(d_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)]
        layers.append(nn.ReLU())
        d_in = channels
    sides = cnn.shapes[-4][1]
    layers += [nn.Flatten(), nn.Linear(sides, cnn.d_hidden), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Linear(cnn.d_hidden, cnn.n_classes))
    nn.utils.vector_to_parameters(networks.weights[run], module.parameters())
    running = iter(networks.statistics[run].split([c for c in cnn.channels for _ in range(2)]))
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean, layer.running_var = next(running).clone(), next(running).clone()
    return module


def running_of(module: nn.Sequential) -> Tensor:
    norms = [layer for layer in module if isinstance(layer, nn.BatchNorm2d)]
    return torch.cat([t for n in norms for t in (n.running_mean, n.running_var)])


def test_logits_and_statistics_are_those_of_torch_modules(
    networks: Networks, images: Images
) -> None:
    both = images.pixels.expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        for run in range(2):
            module = module_of(networks, run)
            torch.testing.assert_close(networks.logits(both)[run], module.eval()(images.pixels))
            network = Network(
                networks.cnn, networks.weights[run], networks.statistics[run], training=True
            )
            found = network(images.pixels).logits
            torch.testing.assert_close(found, module.train()(images.pixels))
            torch.testing.assert_close(network.statistics, running_of(module))


def test_training_all_at_once_is_adam_on_each_alone(networks: Networks, images: Images) -> None:
    rows = [torch.arange(20), torch.arange(8, 28)]
    how = Schedules(n_epochs=3, lr=0.01, batch_size=10)
    found = train_on(networks, images, rows, how, seeds=[5, 6])
    assert found.n_steps.tolist() == [6, 6]
    batches = draw_batches(rows, 6, 10, [5, 6], "order")
    for run in range(2):
        module = module_of(networks, run).train()
        adam = torch.optim.Adam(module.parameters(), lr=0.01)
        for batch in batches[:, run]:
            adam.zero_grad()
            cross_entropy(module(images.pixels[batch]), images.labels[batch]).backward()
            adam.step()
        expected = nn.utils.parameters_to_vector(module.parameters())
        torch.testing.assert_close(found.networks.weights[run], expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            found.networks.statistics[run], running_of(module), rtol=1e-4, atol=1e-5
        )


def test_batches_go_through_all_images_before_one_comes_again() -> None:
    batches = draw_batches([torch.arange(12)], 6, 4, [0], "order")
    for start in (0, 3):
        assert sorted(batches[start : start + 3].flatten().tolist()) == list(range(12))
    assert not torch.equal(batches[:3], batches[3:])


def test_a_seed_means_the_same_network_in_every_company() -> None:
    cnn = Cnn()
    assert torch.equal(cnn.draw([3]).weights[0], cnn.draw([1, 3]).weights[1])
    assert cnn.draw([3]).weights.shape[1] == sum(torch.Size(s).numel() for s in cnn.shapes)
    with pytest.raises(ValueError, match="no seeds"):
        cnn.draw([])
