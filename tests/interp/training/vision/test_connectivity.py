"""Distances and barriers."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from interp.training.vision import (
    LinearPath,
    Networks,
    Task,
    accuracy,
    distance,
    linear_path,
    reestimate,
)  # fmt: skip


def test_distance_by_hand(networks: Networks) -> None:
    moved = replace(networks, weights=networks.weights.clone())
    moved.weights[0, 0] += 3
    moved.weights[0, 5] -= 4
    torch.testing.assert_close(distance(networks, moved), torch.tensor([5.0, 0.0]))


def test_barrier_is_the_rise_above_the_line() -> None:
    loss = torch.tensor([[1.0, 1.0], [4.0, 1.5], [3.0, 2.0]])
    path = LinearPath(share=torch.tensor([0.0, 0.5, 1.0]), loss=loss)
    torch.testing.assert_close(path.barrier, torch.tensor([2.0, 0.0]))
    assert len(path.to_frame()) == loss.numel()


def test_a_path_begins_and_ends_at_its_networks(networks: Networks, task: Task) -> None:
    other = networks[torch.tensor([1, 0])]
    path = linear_path(networks, other, task.images, task.train, n_points=3)
    for point, ends in ((0, networks), (2, other)):
        logits = ends.logits(task.images.pixels[task.train])
        for run in range(2):
            expected = cross_entropy(logits[run], task.images.labels[task.train[run]])
            torch.testing.assert_close(path.loss[point, run], expected)
    halves = linear_path(other, networks, task.images, task.train, n_points=3)
    torch.testing.assert_close(path.loss[1], halves.loss[1])
    assert linear_path(networks, networks, task.images, task.train).barrier.max() < 1e-5
    with pytest.raises(ValueError, match="n_points=2"):
        linear_path(networks, other, task.images, task.train, n_points=2)


def test_statistics_are_estimated_again_without_a_change_of_weights(
    networks: Networks, task: Task
) -> None:
    found = reestimate(networks, task.images, task.retain, n_passes=100)
    assert torch.equal(found.weights, networks.weights)
    kernel = networks.cnn.unflatten(networks.weights[0])[0]
    x = torch.nn.functional.conv2d(task.images.pixels[task.retain[0]], kernel, padding=1)
    torch.testing.assert_close(found.statistics[0, :2], x.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.statistics[0, 2:4], x.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_accuracy_counts_right_answers(networks: Networks, task: Task) -> None:
    found = accuracy(networks, task.images, task.test)
    logits = networks.logits(task.images.pixels[task.test])[1]
    right = (logits.argmax(1) == task.images.labels[task.test[1]]).float()
    assert found[1] == right.mean()
