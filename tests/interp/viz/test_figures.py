"""What holds for every figure function: template, titles, last word of the layout, JSON."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.io
import pytest

from interp import viz

LINE = viz.Curve(x=[0, 1, 2], y=[0.5, np.nan, 0.9], low=[0.4, np.nan, 0.8], high=[0.6, np.nan, 1])
BINS = viz.ReliabilityCurve(predicted=[0.1, 0.9], observed=[0.2, 0.8], counts=[3, 4])

FIGURES: dict[str, Callable[..., viz.Figure]] = {
    "heatmap": lambda **layout: viz.heatmap(
        [[1.0, np.nan]],
        x=["a", "b"],
        y=[0],
        title="T",
        x_title="token",
        y_title="layer",
        value_name="v",
        **layout,
    ),
    "token_strip": lambda **layout: viz.token_strip(
        ["a", " b"], [1.0, np.nan], title="T", value_name="v", **layout
    ),
    "curves": lambda **layout: viz.curves(
        {"a": LINE}, title="T", x_title="layer", y_title="AUROC", **layout
    ),
    "roc": lambda **layout: viz.roc({"a": ([0, 0, 1], [0, 1, 1])}, title="T", **layout),
    "reliability": lambda **layout: viz.reliability({"a": BINS}, title="T", **layout),
    "bars": lambda **layout: viz.bars([0.5], labels=["a"], title="T", x_title="AUROC", **layout),
}


@pytest.fixture(params=FIGURES)
def draw(request: pytest.FixtureRequest) -> Callable[..., viz.Figure]:
    return FIGURES[request.param]


def test_carries_the_template_and_changes_no_default(draw: Callable[..., viz.Figure]) -> None:
    before = plotly.io.templates.default, tuple(plotly.io.templates)
    figure: Any = draw()
    assert figure.layout.template == viz.TEMPLATE
    assert figure.layout.title.text == "T"
    assert (plotly.io.templates.default, tuple(plotly.io.templates)) == before


def test_layout_has_the_last_word(draw: Callable[..., viz.Figure]) -> None:
    figure: Any = draw(title_text="mine", height=123, template="none")
    assert figure.layout.title.text == "mine"
    assert figure.layout.height == 123
    assert figure.layout.template != viz.TEMPLATE


def test_survives_json(draw: Callable[..., viz.Figure]) -> None:
    text = draw().to_json()
    assert text is not None
    again = plotly.io.from_json(text)
    assert len(again.data) == len(draw().data)
    assert plotly.io.from_json(again.to_json()).to_json() == again.to_json()


def test_axes_have_titles(draw: Callable[..., viz.Figure]) -> None:
    figure: Any = draw()
    if figure.layout.xaxis.visible is not False:  # the page of a token strip has no axes
        titles = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
        assert any(titles)


def test_package_imports_only_what_figures_need() -> None:
    allowed = {"numpy", "pandas", "plotly", "jaxtyping", "interp"}
    for path in Path(viz.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root in allowed or root in __import__("sys").stdlib_module_names, name
                assert root != "interp" or name.startswith("interp.viz"), name


def test_public_names_are_sorted_and_exist() -> None:
    constants = sorted(name for name in viz.__all__ if name.isupper())
    classes = sorted(name for name in viz.__all__ if not name.isupper() and name[0].isupper())
    functions = sorted(name for name in viz.__all__ if name.islower())
    assert viz.__all__ == [*constants, *classes, *functions]
    assert all(hasattr(viz, name) for name in viz.__all__)
