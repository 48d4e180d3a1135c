"""Training that forgets: what stops it, and what comes back on digits."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.training.vision import (
    METHODS,
    Cnn,
    Images,
    Method,
    Network,
    Networks,
    Relearning,
    Schedules,
    Step,
    Task,
    accuracy,
    draw_train,
    forget_highest,
    load_images,
    losses,
    memorization,
    relearn,
    train_on,
    train_to_forget,
    unlearn,
)  # fmt: skip
from interp.training.vision.training import cross_entropy_on_retain

pytestmark = pytest.mark.slow

SHORT = Schedules(n_epochs=2, lr=1e-3, batch_size=8)


@pytest.mark.filterwarnings("ignore:1 of 2 runs stopped")
def test_a_run_without_a_finite_loss_keeps_its_last_good_weights(
    networks: Networks, task: Task
) -> None:
    first = float(networks.weights[0, 0])

    def breaks(network: Network, step: Step) -> Tensor:
        is_first = (step.start.weights[0] == first) & (step.share > 0.6)
        return cross_entropy_on_retain(network, step) * torch.where(is_first, torch.nan, 1.0)

    found = train_to_forget(networks, task, SHORT, loss=breaks, seeds=[0, 1])
    whole = train_to_forget(networks, task, SHORT, loss=cross_entropy_on_retain, seeds=[0, 1])
    assert found.n_steps.tolist() == [2, 4]
    assert found.networks.weights.isfinite().all()
    assert not torch.equal(found.networks.weights[0], networks.weights[0])
    torch.testing.assert_close(found.networks.weights[1], whole.networks.weights[1])


def test_stopping_is_said(networks: Networks, task: Task) -> None:
    def broken(network: Network, step: Step) -> Tensor:
        return cross_entropy_on_retain(network, step) * torch.nan

    with pytest.warns(UserWarning, match="2 of 2 runs stopped.*after 0 of 4 steps"):
        found = train_to_forget(networks, task, SHORT, loss=broken, seeds=[0, 1])
    assert torch.equal(found.networks.weights, networks.weights)


def test_the_strength_of_a_method_is_scaled() -> None:
    methods = {method.name: method for method in METHODS}
    scaled = methods["NegGrad+"].scaled(0.5)
    assert (scaled.name, scaled.label, scaled.factor) == ("NegGrad+", "NegGrad+ x0.5", 0.5)
    assert scaled.forget_pass.keywords == {"strength": 0.01}
    assert scaled.loss is methods["NegGrad+"].loss
    assert methods["SSD"].scaled(2.0).scaled(0.5).label == "SSD"
    assert all(method.scaled(3.0).factor == 3 for method in METHODS)
    with pytest.raises(ValueError, match="plain has no strength"):
        Method(name="plain").scaled(2.0)


def test_passes_over_the_forgotten_images_come_first(networks: Networks, task: Task) -> None:
    seen: list[str] = []

    def note(name: str, network: Network, step: Step) -> Tensor:
        seen.append(name)
        return cross_entropy_on_retain(network, step)

    train_to_forget(
        networks, task, SHORT, loss=partial(note, "retain"), forget_pass=partial(note, "forget"),
        seeds=[0, 1],
    )  # fmt: skip
    assert seen == ["forget", "retain", "retain"] * 2


def test_wrong_labels_are_wrong(networks: Networks, task: Task) -> None:
    def check(network: Network, step: Step) -> Tensor:
        same = (step.wrong == step.forget.y).any()
        return losses.random_relabel(network, step) * torch.where(same, torch.nan, 1.0)

    found = train_to_forget(networks, task, SHORT, loss=check, seeds=[0, 1])
    assert found.n_steps.tolist() == [4, 4]


def test_bad_requests_are_refused(networks: Networks, task: Task, images: Images) -> None:
    with pytest.raises(ValueError, match="needed numbers from 0 to the 2 images"):
        relearn(networks, task, n_given=(0, 5), seeds=[0, 1])
    with pytest.raises(ValueError, match="a run has no images"):
        train_on(networks, images, [torch.arange(9), torch.arange(0)], SHORT, seeds=[0, 1])
    follower = Method(name="second", after="first")
    with pytest.raises(ValueError, match="begins from networks of 'first'"):
        unlearn(networks, task, follower, how=SHORT, seeds=[0, 1])
    with pytest.raises(ValueError, match="n_folds=1"):
        memorization(networks.cnn, images, task.train, n_folds=1, seeds=[0, 1])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_leaves_what_it_was_given(
    method: Method, networks: Networks, task: Task
) -> None:
    before = networks.weights.clone()
    how = Schedules(n_epochs=1, lr=1e-3, batch_size=8)
    found = unlearn(networks, task, method, how=how, begin=networks, seeds=[0, 1]).networks
    assert torch.equal(networks.weights, before)
    assert found.weights.isfinite().all()
    assert (found.weights != before).any(1).all()


def test_relearning_has_a_row_for_each_attack_and_run() -> None:
    found = Relearning(n_given=(0, 5), held=torch.rand(2, 3), test=torch.rand(2, 3))
    frame = found.to_frame()
    assert len(frame) == found.held.numel()
    row = frame[(frame["n_given"] == 5) & (frame["run"] == 2)].iloc[0]
    assert row["held"] == float(found.held[1, 2])


@dataclass(frozen=True)
class Digits:
    """Two runs on few digits."""

    scores: Tensor
    task: Task
    base: Networks
    retrained: Networks


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Networks that know 40 memorized digits of 300, and networks that never saw them."""
    images, seeds, cnn = load_images("digits"), [0, 1], Cnn(channels=(4, 8, 16), d_hidden=24)
    train, test = draw_train(len(images), 300, seeds=seeds)
    how = Schedules(n_epochs=40, lr=5e-3, batch_size=64)
    short = Schedules(n_epochs=15, lr=5e-3, batch_size=64)
    scores = memorization(cnn, images, train, n_rounds=1, n_folds=3, how=short, seeds=seeds)
    task = forget_highest(images, train, test, scores, n_forget=40, n_attack=10, seeds=seeds)
    first = cnn.draw(seeds)
    base, retrained = (
        train_on(first, images, list(rows), how, seeds=seeds).networks
        for rows in (task.train, task.retain)
    )
    return Digits(scores, task, base, retrained)


def test_memorized_digits_are_what_retraining_does_not_know(digits: Digits) -> None:
    task = digits.task
    assert accuracy(digits.base, task.images, task.forget).min() > 0.95
    unseen = accuracy(digits.retrained, task.images, task.forget)
    assert (accuracy(digits.retrained, task.images, task.test) - unseen).min() > 0.15


def test_relabeled_digits_come_back_without_one_being_shown(digits: Digits) -> None:
    task, seeds = digits.task, [0, 1]
    how = Schedules(n_epochs=40, lr=1e-3, batch_size=64)
    relabel = next(m for m in METHODS if m.name == "random relabel")
    gone = unlearn(digits.base, task, relabel, how=how, seeds=seeds).networks
    attack = Schedules(n_epochs=15, lr=1e-3, batch_size=64)
    held = {
        name: (accuracy(networks, task.images, task.held), networks)
        for name, networks in (("relabeled", gone), ("retrained", digits.retrained))
    }
    rebound = {
        name: float(
            (relearn(n, task, n_given=(0,), how=attack, seeds=seeds).held[0] - before).mean()
        )
        for name, (before, n) in held.items()
    }
    assert rebound["relabeled"] > 0.2
    assert abs(rebound["retrained"]) < 0.1
    assert np.isfinite(list(rebound.values())).all()
