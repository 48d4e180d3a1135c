import numpy as np
import pytest
import torch

from probes.evaluation import auroc_value
from probes.planning.channels import rank_channels


def planted(seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Channel 2 is active one square to the right of squares of class 3, channel 0 below 0 on 1."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, (60, 5, 5))
    values = random.normal(size=(60, 4, 5, 5))
    values[:, 2, :, 1:] += 4 * (labels[:, :, :-1] == 3)
    values[:, 0] -= 4 * (labels == 1)
    return torch.from_numpy(values).float(), labels


def test_planted_channels_are_found_with_offset_and_sign() -> None:
    frame = rank_channels(*planted())
    first = frame.iloc[:2].set_index("direction")
    assert first.loc["left", "channel"] == 2
    assert (first.loc["left", "down"], first.loc["left", "right"]) == (0, 1)
    assert first.loc["up", "channel"] == 0
    assert first.loc["up", "correlation"] < -0.5
    assert first.loc["up", "auroc"] > 0.99
    # a fifth of the squares has its neighbor beyond the edge, where the channel says nothing
    assert first.loc["left", "auroc"] == pytest.approx(0.8 * 0.997 + 0.2 * 0.5, abs=0.02)
    assert frame["auroc"].iloc[2] < 0.7


def test_shuffled_labels_are_in_no_channel() -> None:
    values, labels = planted()
    shuffled = np.random.default_rng(1).permutation(labels.ravel()).reshape(labels.shape)
    assert rank_channels(values, shuffled)["auroc"].max() < 0.65


def test_numbers_at_the_square_itself_are_those_of_numpy_and_auroc() -> None:
    values, labels = planted()
    frame = rank_channels(values, labels, offsets=((0, 0),))
    row = frame[(frame["channel"] == 0) & (frame["direction"] == "up")].iloc[0]
    channel, truth = values[:, 0].numpy().ravel(), (labels == 1).ravel()
    assert row["correlation"] == pytest.approx(np.corrcoef(channel, truth)[0, 1], abs=1e-5)
    assert row["auroc"] == pytest.approx(auroc_value(truth.astype(int), -channel))
