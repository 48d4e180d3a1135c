import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import viz
from interp.viz import theme

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def linear(color: str) -> np.ndarray:
    share = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    relative = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colors_stay_apart_for_every_kind_of_vision(vision: str) -> None:
    seen = [lab(VISION[vision] @ linear(color)) for color in viz.COLORS]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert len(set(viz.COLORS)) == 8
    assert min(distances) > 15  # about 2 can be seen, 10 at a glance


def test_control_gray_is_none_of_the_colors() -> None:
    assert viz.CONTROL not in viz.COLORS


def test_positive_values_are_red() -> None:
    from plotly.colors import sample_colorscale

    red, green, blue = (
        float(part)
        for part in str(sample_colorscale(viz.DIVERGING, [0.9])[0]).strip("rgb()").split(",")
    )
    assert red > max(green, blue)


def test_rgba() -> None:
    assert viz.rgba("#ff8000", 0.5) == "rgba(255, 128, 0, 0.5)"


@pytest.mark.parametrize("color", ["red", "#fff", "#gggggg", ""])
def test_rgba_names_a_bad_color(color: str) -> None:
    with pytest.raises(ValueError, match=f"color must look like '#0072B2', got {color!r}"):
        viz.rgba(color, 1)


def test_rgba_names_a_bad_opacity() -> None:
    with pytest.raises(ValueError, match=r"alpha must lie between 0 and 1, got 1\.5"):
        viz.rgba("#ffffff", 1.5)


def test_position_labels_show_whitespace_and_control_characters() -> None:
    labels = viz.position_labels(["the", " the", "\n", "\t", "\x00", "\u200b", "é"])
    assert labels == ("0:the", "1:·the", "2:↵", "3:⇥", "4:\\x00", "5:\\u200b", "6:é")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=4), max_size=8))
def test_position_labels_are_unique_and_printable(tokens: list[str]) -> None:
    labels = viz.position_labels(tokens)
    assert len(set(labels)) == len(tokens)
    assert all(label.isprintable() for label in labels)


def test_long_titles_are_broken_and_the_figure_grows() -> None:
    short, long = (
        theme.styled(viz.Figure(), title=title, layout={}).layout.to_plotly_json()
        for title in ("word", "word " * 40)
    )
    n_breaks = long["title"]["text"].count("<br>")
    assert n_breaks == 2
    assert long["height"] - short["height"] == long["margin"]["t"] - short["margin"]["t"] > 0


def test_titles_with_markup_are_kept() -> None:
    title = "<i>R</i>² " * 30
    figure = theme.styled(viz.Figure(), title=title, layout={})
    assert figure.layout.to_plotly_json()["title"]["text"] == title
