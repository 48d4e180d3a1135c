"""Sampled classifiers: they follow the prompt, and the measures that say so."""

import numpy as np
import pytest
import torch

from interp.training.hyperforget import (
    DiffusionConfig,
    HyperNetwork,
    Mlp,
    RunBank,
    Split,
    alignment,
    disagreement,
    distance_to_bank,
    forget_and_retain,
    forget_retain_accuracy,
    membership_auroc,
    nearest_in_bank,
    relearn_class,
    train_hypernetwork,
)

pytestmark = pytest.mark.slow

MLP = Mlp(d_in=4, d_hidden=8, n_classes=3)
SMALL = DiffusionConfig(
    d_model=32, n_layers=1, n_heads=2, n_noise_steps=50, n_steps=400, batch_size=32, lr=5e-3
)


@pytest.fixture(scope="module")
def network(bank: RunBank) -> HyperNetwork:
    """Trained on both losses of class 1."""
    return train_hypernetwork(bank, forget_and_retain(1), config=SMALL)


def test_a_prompt_for_forgetting_gives_classifiers_that_forgot(
    network: HyperNetwork, bank: RunBank, split: Split
) -> None:
    prompt = forget_and_retain(1)
    ends = bank[bank.step == 500]
    accuracy = {}
    for name, rows in (("forget", ends.weight == 0), ("keep", ends.weight > 0.3)):
        wanted = prompt(ends[rows].losses).median(0).values.expand(20, -1)
        drawn = network.sample(wanted, n_sampling_steps=25, seed=1)
        forget, retain = forget_retain_accuracy(MLP, drawn, split, 1)
        accuracy[name] = float(forget.mean())
        assert float(retain.mean()) > 0.85
    assert accuracy["forget"] < 0.2
    assert accuracy["keep"] > 0.7
    assert network.loss[-50:].mean() < 0.8 * network.loss[:50].mean()


def test_a_seed_means_the_same_samples(network: HyperNetwork) -> None:
    prompts = torch.tensor([[3.0, 0.1], [0.1, 0.1]])
    first, again, other = (network.sample(prompts, n_sampling_steps=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_generator(bank: RunBank) -> None:
    state = torch.random.get_rng_state()
    config = DiffusionConfig(d_model=8, n_layers=1, n_heads=1, n_steps=1, batch_size=2)
    train_hypernetwork(bank, forget_and_retain(1), config=config)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bad_prompts_and_settings_are_refused(network: HyperNetwork, bank: RunBank) -> None:
    with pytest.raises(ValueError, match="prompts of 3 losses: this network takes 2"):
        network.sample(torch.ones(1, 3))
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="losses in nats"):
            network.sample(torch.full((1, 2), bad))
    with pytest.raises(ValueError, match="no multiple of n_heads=5"):
        DiffusionConfig(n_heads=5)
    with pytest.raises(ValueError, match="n_steps=0"):
        DiffusionConfig(n_steps=0)
    with pytest.raises(ValueError, match="the bank has 1 classifiers"):
        train_hypernetwork(bank[torch.tensor([0])], forget_and_retain(1), config=SMALL)


def test_a_loss_that_is_not_finite_stops_training(bank: RunBank) -> None:
    broken = bank[torch.arange(4)]
    broken.weights[0] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train_hypernetwork(broken, forget_and_retain(1), config=SMALL)


def test_alignment_by_hand() -> None:
    obtained = torch.tensor([[1.0], [3.0]])
    found = alignment(torch.tensor([[1.0], [2.0]]), obtained)
    torch.testing.assert_close(found, torch.tensor([1 - 1 / 2]))
    assert float(alignment(obtained.flip(0), obtained)[0]) < 0


def test_a_copy_of_the_bank_is_found(bank: RunBank) -> None:
    prompt, rows = forget_and_retain(1), torch.tensor([3, 40])
    found = nearest_in_bank(bank, prompt, prompt(bank.losses[rows]) * 1.0001)
    assert torch.equal(found, rows)
    torch.testing.assert_close(distance_to_bank(bank.weights[rows], bank), torch.zeros(2))
    moved = bank.weights[rows] + 0.5 * bank.weights.std(0)
    apart = distance_to_bank(moved, bank)
    assert bool(((apart > 0.05) & (apart < 0.5 + 1e-4)).all())


def test_disagreement_counts_pairs(split: Split) -> None:
    weights = torch.zeros(3, MLP.n_parameters)
    weights[0, -3] = 1.0  # answers class 0 always; the others class 2
    weights[1:, -1] = 1.0
    assert disagreement(MLP, weights, split.test_x) == pytest.approx(2 / 3)
    assert disagreement(MLP, weights[1:], split.test_x) == pytest.approx(0)
    with pytest.raises(ValueError, match="1 classifiers"):
        disagreement(MLP, weights[:1], split.test_x)


def test_membership_is_chance_where_losses_do_not_tell(split: Split) -> None:
    same = membership_auroc(MLP, torch.zeros(2, MLP.n_parameters), split, 1)
    np.testing.assert_allclose(same, 0.5)


def test_a_class_is_relearned_from_its_images_and_not_from_the_others(
    bank: RunBank, split: Split
) -> None:
    forgot = bank.retrained(1).weights[:3]
    known = {}
    for n in (0, 5):
        after = relearn_class(
            MLP, forgot, split, 1, n_given=n, n_steps=60, lr=0.02, seeds=[0, 1, 2]
        )
        known[n] = float(forget_retain_accuracy(MLP, after, split, 1)[0].mean())
    assert known[0] < 0.1
    assert known[5] > 0.5
    with pytest.raises(ValueError, match="n_given=99: class 1 has 20"):
        relearn_class(MLP, forgot, split, 1, n_given=99, seeds=[0, 1, 2])
