"""Windows: position rules counted from the end of the prompt."""

import pytest
import torch

from interp.core.hooks import Call
from interp.core.positions import Window, check_rule, selected


def call(positions: list[list[int]], prompt_lengths: list[int]) -> Call:
    where = torch.tensor(positions)
    return Call(where, torch.ones_like(where, dtype=torch.bool), torch.tensor(prompt_lengths))


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(), [0, 1, 2, 3, 4, 5]),
        (Window(start=-1), [2, 3, 4, 5]),
        (Window(start=0, stop=2), [3, 4]),
        (Window(stop=-1), [0, 1]),
    ],
)
def test_window_counts_from_the_end_of_the_prompt(window: Window, expected: list[int]) -> None:
    chosen = selected(check_rule(window), call([list(range(6))], [3]))
    assert chosen is not None
    assert chosen[0].nonzero()[:, 0].tolist() == expected


def test_window_means_the_same_in_a_cached_pass_and_for_each_text_of_a_batch() -> None:
    window = Window(start=0, stop=2)
    chosen = selected(window, call([[3], [3]], [3, 1]))
    assert chosen is not None
    assert chosen.tolist() == [[True], [False]]  # the second text wrote its tokens 1 and 2 before


def test_window_without_a_known_prompt_is_refused() -> None:
    positions = torch.arange(3)[None]
    with pytest.raises(ValueError, match="nothing tells where the prompt ends"):
        selected(Window(start=0), Call(positions, positions >= 0))
