import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import viz
from interp.viz.text_flow import COLUMNS, flow


def strip(tokens: list[str], scores: Any, **options: Any) -> Any:
    return viz.token_strip(tokens, scores, title="T", value_name="score (logits)", **options)


def test_one_bar_for_each_token_and_one_color_bar() -> None:
    bars, key = strip(["The", " cat", "."], [1.0, -2.0, 0.5]).data
    assert list(bars.text) == ["The", "\xa0cat", "."]
    assert list(bars.base) == [0, 3, 7]
    assert list(bars.x) == [3, 4, 1]
    assert list(bars.y) == [0, 0, 0]
    assert list(bars.customdata) == [1, -2, 0.5]
    assert (key.marker.cmin, key.marker.cmax) == (-2, 2)
    assert key.marker.colorbar.title.text == "score (logits)"


def test_hover_names_position_token_and_score() -> None:
    bars, _ = strip([" <s>", "b"], [0.25, np.nan]).data
    assert bars.hovertext[0] == (
        "position: 0<br>token: <b>·&lt;s&gt;</b><br>score (logits): <b>0.25</b>"
    )
    assert bars.hovertext[1].endswith("<b>none</b>")


def channels(color: str) -> list[float]:
    return [float(part) for part in color.strip("rgb()").split(",")]


def test_red_is_positive_blue_negative_and_missing_has_no_color() -> None:
    bars, _ = strip(["a", "b", "c", "d"], [3.0, -3.0, np.nan, 0.0]).data
    positive, negative, missing, zero = bars.marker.color
    assert channels(positive)[0] > channels(positive)[2]
    assert channels(negative)[0] < channels(negative)[2]
    assert missing == "white"
    assert min(channels(zero)) > 240
    assert len(set(bars.insidetextfont.color)) == 2


def test_magnitudes_run_from_white_to_red() -> None:
    bars, key = strip(["a", "b"], [0.0, 1.0], diverging=False).data
    assert min(channels(bars.marker.color[0])) > 240
    assert channels(bars.marker.color[1])[0] > channels(bars.marker.color[1])[2]
    assert (key.marker.cmin, key.marker.cmax) == (0, 1)


def test_scores_beyond_the_limits_take_the_color_of_the_end() -> None:
    bars, _ = strip(["a", "b"], [1.0, 50.0], limits=(-1, 1)).data
    assert bars.marker.color[0] == bars.marker.color[1]


@pytest.mark.parametrize("score", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_text_is_readable_on_its_color(score: float) -> None:
    def luminance(rgb: list[float]) -> float:
        share = np.array(rgb) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    bars, _ = strip(["a"], [score], limits=(-1, 1)).data
    ink = [int(bars.insidetextfont.color[0][at : at + 2], 16) for at in (1, 3, 5)]
    ratio = (luminance(channels(bars.marker.color[0])) + 0.05) / (luminance(ink) + 0.05)
    assert ratio > 4  # large text needs 3, small text 4.5


def test_newlines_end_lines_and_are_seen() -> None:
    bars, _ = strip(["a", "\n\n", "b"], [0, 1, 2]).data
    assert list(bars.text) == ["a", "↵", "↵", "b"]
    assert list(bars.y) == [0, 0, 1, 2]
    assert list(bars.customdata) == [0, 1, 1, 2]


def test_lines_break_at_words() -> None:
    tokens = ["w" * 40, "w" * (COLUMNS - 43), " ab", "cd", " e"]
    bars, _ = strip(tokens, np.zeros(5)).data
    assert list(bars.y) == [0, 0, 1, 1, 1]


def test_breaks_begin_blocks_with_labels_in_the_margin() -> None:
    figure = strip(["a", "b", "c"], [0, 1, 2], breaks=[0, 2], labels=["user", "<i>model</i>"])
    first, _, third = figure.data[0].y
    assert third > first + 1
    notes = figure.layout.annotations
    assert [(note.text, note.y) for note in notes] == [
        ("user", first),
        ("&lt;i&gt;model&lt;/i&gt;", third),
    ]
    assert figure.layout.margin.l > strip(["a"], [0]).layout.margin.l


def test_wide_characters_take_two_columns_and_empty_tokens_one() -> None:
    bars, _ = strip(["日本", "", "e\u0301"], [0, 1, 2]).data
    assert list(bars.x) == [4, 1, 1]
    assert bars.text[1] == "∅"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \n日\t\x00"), max_size=120), min_size=1, max_size=40))
def test_flow_keeps_order_stays_on_the_page_and_overlaps_nowhere(tokens: list[str]) -> None:
    pieces = list(flow(tokens, [0, len(tokens) - 1]))
    assert [piece.token for piece in pieces] == sorted(piece.token for piece in pieces)
    assert {piece.token for piece in pieces} == set(range(len(tokens)))
    assert all(piece.column + piece.width <= COLUMNS for piece in pieces)
    for before, after in itertools.pairwise(pieces):
        same_line = before.line == after.line
        assert after.line >= before.line
        assert not same_line or after.column == before.column + before.width


@pytest.mark.parametrize(
    ("tokens", "scores", "options", "message"),
    [
        (["a", "b"], [1, 2, 3], {}, "tokens has 2 labels, but scores has 3 positions"),
        ([], [], {}, "scores is empty"),
        (["a"], [np.inf], {}, "scores has 1 infinite"),
        (["a"], [1], {"breaks": [1]}, r"breaks must rise between 0 and 0, got \(1,\)"),
        (["a", "b"], [1, 2], {"breaks": [1, 0]}, "breaks must rise"),
        (["a"], [1], {"labels": ["x"]}, "labels has 1 labels, but breaks has 0 positions"),
    ],
)
def test_bad_input_is_named(tokens: Any, scores: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strip(tokens, scores, **options)
