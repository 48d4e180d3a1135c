"""Which images are kept and forgotten, and what is refused."""

from dataclasses import replace

import pytest
import torch

from interp.training.vision import Images, Schedules, Task, draw_train, forget_highest, load_images
from interp.training.vision.memorization import known_less_unknown


def test_overlapping_sets_are_refused(task: Task) -> None:
    shared = task.forget.clone()
    shared[1, 3] = task.retain[1, 0]
    with pytest.raises(ValueError, match="retain and forget share 1 images in run 1"):
        replace(task, forget=shared)
    with pytest.raises(ValueError, match="forget and test share"):
        replace(task, test=task.forget)


@pytest.mark.parametrize("part", ["retain", "forget", "test"])
def test_empty_sets_are_refused(part: str, task: Task) -> None:
    with pytest.raises(ValueError, match="needed one image or more in each"):
        replace(task, **{part: torch.zeros(2, 0, dtype=torch.long)})


def test_an_attacker_never_gets_every_image(task: Task) -> None:
    with pytest.raises(ValueError, match="n_attack=6 of 6"):
        replace(task, n_attack=6)
    assert task.held.shape == (2, 4)


def test_schedules_without_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="n_epochs=0"):
        Schedules(n_epochs=0, lr=0.1)
    with pytest.raises(ValueError, match="a positive number"):
        Schedules(n_epochs=1, lr=float("nan"))


def test_the_highest_scores_are_forgotten(images: Images) -> None:
    train, test = draw_train(30, 20, seeds=[0, 1])
    assert not set(train[0].tolist()) & set(test[0].tolist())
    scores = train.float()  # the score of an image is its number
    found = forget_highest(images, train, test, scores, n_forget=5, n_attack=2, seeds=[0, 1])
    for run in range(2):
        assert sorted(found.forget[run].tolist()) == sorted(train[run].tolist())[-5:]
        assert set(found.train[run].tolist()) == set(train[run].tolist())
    with pytest.raises(ValueError, match="n_train=30 of 30"):
        draw_train(30, 30, seeds=[0])


def test_memorization_is_a_difference_of_means() -> None:
    values = torch.tensor([[0.9, 0.2], [0.7, 0.4], [0.1, 0.6]])
    inside = torch.tensor([[True, False], [True, True], [False, True]])
    found = known_less_unknown(values, inside)
    torch.testing.assert_close(found, torch.tensor([0.8 - 0.1, 0.5 - 0.2]))


def test_digits_are_scaled() -> None:
    digits = load_images("digits")
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert float(digits.pixels.max()) == 1
    assert digits.labels.unique().tolist() == list(range(10))


def test_mnist_is_read_and_averaged(data_dir: object) -> None:
    assert load_images("mnist").pixels.shape == (5000, 1, 14, 14)


def test_missing_mnist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKSCOPE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set HOOKSCOPE_DATA"):
        load_images("mnist")
