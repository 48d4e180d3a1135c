import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp import viz

HOSTILE = "</script></pre><img src=http://example.org/x onerror=alert(1)> & \"'"


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def full_report(text: str) -> viz.Report:
    frame = pd.DataFrame({text: [text, "b"], "AUROC": [0.5, 0.25]})
    figure = go.Figure(go.Scatter(x=[1], y=[2], name=text, hovertext=[text]))
    return (
        viz.Report(text, text)
        .heading(text)
        .text(text)
        .strong(text)
        .code(text)
        .table(frame, text, controls=[text])
        .figure(figure, text)
        .quotes({text: text}, text)
        .details(text, {text: text})
    )


def test_hostile_text_stays_text() -> None:
    page, harmless = Page(full_report(HOSTILE).html()), Page(full_report("a").html())
    assert page.tags == harmless.tags
    assert page.attributes == harmless.attributes
    assert sum(HOSTILE in text for text in ["".join(page.texts)]) == 1
    assert "".join(page.texts).count(HOSTILE) >= 12


def test_page_refers_to_nothing_outside() -> None:
    page = Page(full_report("a").html())
    outside = [
        (name, value)
        for name, value in page.attributes
        if name in {"src", "href", "srcset", "action", "data", "poster"}
    ]
    assert outside == []
    assert not re.search(r"@import|url\(", full_report("a").html().split("<script>")[0])
    policies = [value for name, value in page.attributes if name == "content"]
    assert any(policy and policy.startswith("default-src 'none'") for policy in policies)
    assert not any(policy and "http" in policy for policy in policies)


def test_plotly_is_embedded_once_and_only_when_needed() -> None:
    figure = go.Figure()
    one, two = (viz.Report("R"), viz.Report("R").figure(figure, "a"))
    assert len(one.html()) < 20_000
    size = len(two.html())
    assert size > 1_000_000
    assert len(two.figure(figure, "b").html()) - size < 50_000


def test_everything_is_numbered() -> None:
    report = full_report("a").figure(go.Figure(), "second").table(pd.DataFrame({"a": [1]}), "t")
    text = report.html()
    for label in ("Figure 1", "Figure 2", "Table 1", "Table 2", "Example 1"):
        assert f"<b>{label}.</b>" in text
    assert 'id="figure-1"' in text
    assert 'id="figure-2"' in text


def test_same_calls_give_the_same_page() -> None:
    assert full_report("a").html() == full_report("a").html()


def test_figures_are_not_changed() -> None:
    figure: Any = viz.bars([1], labels=["a"], title="T", x_title="x")
    before = figure.to_json()
    viz.Report("R").figure(figure, "c")
    assert figure.to_json() == before


def test_empty_lines_separate_paragraphs() -> None:
    assert viz.Report("R").text("one\ntwo\n\nthree").html().count("<p>") == 2


def test_tables_format_numbers_and_mark_controls() -> None:
    frame = pd.DataFrame(
        {
            "AUROC": [0.91234, -0.5],
            "p": [1e-9, np.nan],
            "n": [12000, 3],
            "ok": [True, False],
            "note": [None, "x"],
        },
        index=pd.Index(["probe", "length"], name="method"),
    )
    text = viz.Report("R").table(frame, "c", controls=["length"]).html()
    for cell in ("0.912", "−0.500", "1.0e−09", "–", "12,000"):
        assert f'<td class="number">{cell}</td>' in text
    for cell in ("probe", "yes", "no", "–"):
        assert f'<td class="">{cell}</td>' in text
    assert '<th class="number">AUROC</th>' in text
    assert text.count('<tr class="control"><td class="">length</td>') == 1


def test_nested_columns_and_digits() -> None:
    frame = pd.DataFrame([[1.0, 2.0]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("c", "")]))
    text = viz.Report("R").table(frame, "c", digits=1).html()
    assert ">a b</th>" in text
    assert ">c</th>" in text
    assert ">1.0</td>" in text


def test_tree_nests_texts_and_shows_them_literally() -> None:
    leaf = viz.TreeNode(title="b to c", text="<script>", tone="muted")
    nodes = [viz.TreeNode(title="a to b", text="one", children=(leaf,)), leaf]
    page = viz.Report("r").tree(nodes, "c").html()
    assert page.count('<li class="muted">') == 2
    assert "one</div><ul><li" in page
    assert "<b>b to c</b><div>&lt;script&gt;</div>" in page
    deep = leaf
    for _ in range(3000):
        deep = viz.TreeNode(title="t", text="x", children=(deep,))
    assert viz.Report("r").tree([deep], "c").html().count("<li") == 3001
    with pytest.raises(ValueError, match="nodes is empty"):
        viz.Report("r").tree([], "c")


def test_saving_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    assert viz.Report("Ümlaut \ud800").save(str(target)) == target
    assert "Ümlaut ?" in target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]


def test_failed_saving_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    report = viz.Report("R")

    def fail() -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(report, "html", fail)
    with pytest.raises(RuntimeError, match="no page"):
        report.save(target)
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_bad_input_is_named() -> None:
    report = viz.Report("R")
    with pytest.raises(ValueError, match="frame has no columns"):
        report.table(pd.DataFrame(), "c")
    with pytest.raises(ValueError, match=r"controls has \['b'\], but the first column has \['a'\]"):
        report.table(pd.DataFrame({"x": ["a"]}), "c", controls=["b"])
    with pytest.raises(ValueError, match="texts is empty"):
        report.quotes({}, "c")
