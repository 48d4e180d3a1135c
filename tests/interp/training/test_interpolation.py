"""Distances and straight lines between states of weights, and where averages lie on them."""

import pytest
import torch

from interp.training import Ema
from interp.training.interpolation import decay_for, displacement, interpolate


def state(seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for shape in ((3, 4), (5,))]


def test_displacement_is_the_norm_of_all_weights_together() -> None:
    start, end = state(0), state(1)
    flat = [torch.cat([tensor.flatten() for tensor in one]) for one in (start, end)]
    assert displacement(start, end) == pytest.approx(float((flat[1] - flat[0]).norm()), rel=1e-6)
    assert displacement(start, start) == 0


def test_a_share_of_the_way_is_that_share_of_the_displacement() -> None:
    start, end = state(0), state(1)
    whole = displacement(start, end)
    for share in (0.0, 0.3, 1.0, 1.5):
        there = interpolate(start, end, share)
        assert displacement(start, there) == pytest.approx(share * whole, rel=1e-5, abs=1e-6)
    for one, other in zip(interpolate(start, end, 1.0), end, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.01])
def test_after_all_steps_the_start_has_its_share_of_the_average(share: float) -> None:
    start, end = state(0), state(1)
    average = Ema(start, decay=decay_for(share, 7))
    for _ in range(7):
        average.update(end)  # a path that is at its end at once: the average is on the line
    expected = interpolate(start, end, 1 - share)
    for one, other in zip(average.averages, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_an_average_of_a_bent_path_is_off_the_line() -> None:
    start, end = state(0), state(1)
    average = Ema(start, decay=decay_for(0.1, 4))
    for step, seed in enumerate((7, 8, 9, 1)):
        average.update(end if step == 3 else state(seed))
    way = displacement(start, average.averages) / displacement(start, end)
    line = interpolate(start, end, way)
    assert displacement(start, line) == pytest.approx(displacement(start, average.averages))
    assert displacement(line, average.averages) > 0.1 * displacement(start, end)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="states of 2 and 1 tensors"):
        displacement(state(0), state(1)[:1])
    with pytest.raises(ValueError, match="needed two states of the same weights"):
        interpolate(state(0), [torch.zeros(3, 4), torch.zeros(6)], 0.5)
    with pytest.raises(ValueError, match=r"share=1\.0, n_steps=4: needed 0 < share < 1"):
        decay_for(1.0, 4)
    with pytest.raises(ValueError, match="1 step or more"):
        decay_for(0.5, 0)
