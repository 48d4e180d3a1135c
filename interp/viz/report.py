"""A report as one HTML file that opens without a network: text, tables, figures, generations.

Everything that comes in is plain text and is escaped; there is no way to pass markup through. The
page's own policy forbids the browser every request.
"""

import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from interp.viz import markup
from interp.viz.report_style import CSS
from interp.viz.tree import TreeNode, drawn

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)
_CONFIG = {"displayModeBar": False, "responsive": True}


class Report:
    """A page that grows from top to bottom; every method but the last two returns the report.

    Examples:
        >>> report = Report("Probes").heading("Result").text("AUROC is 0.93.")
        >>> "<h2>Result</h2>" in report.html()
        True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._body: list[str] = []
        self._footer: list[str] = []
        self._counts = {"Figure": 0, "Table": 0, "Example": 0}

    def heading(self, text: str) -> "Report":
        """Begin a section."""
        return self._add(f"<h2>{markup.escaped(text)}</h2>")

    def text(self, text: str) -> "Report":
        """Add paragraphs; an empty line separates two."""
        for paragraph in text.strip().split("\n\n"):
            self._add(f"<p>{markup.escaped(paragraph.strip())}</p>")
        return self

    def strong(self, text: str) -> "Report":
        """Add one sentence that a reader in a hurry should see, such as the main result."""
        return self._add(f'<p class="strong">{markup.escaped(text)}</p>')

    def code(self, text: str) -> "Report":
        """Add a block of code or console output."""
        return self._add(f"<pre>{markup.escaped(text)}</pre>")

    def table(
        self,
        frame: pd.DataFrame,
        caption: str,
        *,
        controls: Collection[object] = (),
        digits: int = 3,
    ) -> "Report":
        """Add a frame as a numbered table, numbers on the right.

        Args:
            frame: Its index becomes the first columns unless it only counts rows.
            caption: Says what is listed, and in which units.
            controls: Values of the first column (of the table) whose rows are controls or
                baselines; they are set in gray italics.
            digits: Decimals of floats.

        Raises:
            ValueError: If the frame has no columns or a control is not in the first column.
        """
        flat = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
        if not len(flat.columns):
            raise ValueError(
                f"frame has no columns (shape {frame.shape}); there is nothing to list"
            )
        first = set(flat.iloc[:, 0])
        if unknown := [control for control in controls if control not in first]:
            raise ValueError(
                f"controls has {unknown!r}, but the first column has {sorted(map(str, first))}"
            )
        table = markup.table(flat, set(controls), digits)
        return self._add_numbered("Table", f'<div class="scroll">{table}</div>', caption)

    def figure(self, figure: go.Figure, caption: str) -> "Report":
        """Add a plotly figure, numbered. It is stored as it is now; later changes do not show."""
        drawn = plotly.io.to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{self._counts['Figure'] + 1}",
            default_height=f"{figure.layout.height or 420}px",
            config=_CONFIG,
        )
        return self._add_numbered("Figure", f'<div class="plot">{drawn}</div>', caption)

    def quotes(self, texts: Mapping[str, str], caption: str) -> "Report":
        """Add texts side by side, such as generations before and after, each under its name.

        Raises:
            ValueError: If there are no texts.
        """
        if not texts:
            raise ValueError("texts is empty; at least one text is needed")
        cards = (
            f"<blockquote><h3>{markup.escaped(name)}</h3><div>{markup.escaped(text)}</div></blockquote>"
            for name, text in texts.items()
        )
        return self._add_numbered("Example", f'<div class="quotes">{"".join(cards)}</div>', caption)

    def tree(self, nodes: Sequence[TreeNode], caption: str) -> "Report":
        """Add texts that answer each other, such as messages, as nested boxes.

        Raises:
            ValueError: If there are none.
        """
        if not nodes:
            raise ValueError("nodes is empty; at least one text is needed")
        return self._add_numbered("Example", drawn(nodes), caption)

    def details(self, name: str, mapping: Mapping[str, Any]) -> "Report":
        """Add values such as a configuration or versions to the foot of the page, folded away."""
        text = json.dumps(dict(mapping), indent=2, default=str, ensure_ascii=False)
        self._footer.append(
            f"<details><summary>{markup.escaped(name)}</summary><pre>{markup.escaped(text)}</pre></details>"
        )
        return self

    def html(self) -> str:
        """The whole page; the same calls always give the same text."""
        script = f"<script>{get_plotlyjs()}</script>" if self._counts["Figure"] else ""
        subtitle = f"<p>{markup.escaped(self.subtitle)}</p>" if self.subtitle else ""
        body = "\n".join(self._body)
        footer = f"<footer>{''.join(self._footer)}</footer>" if self._footer else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{markup.escaped(self.title)}</title>\n<style>{CSS}</style>\n{script}\n</head>\n<body>\n"
            f"<main>\n<header><h1>{markup.escaped(self.title)}</h1>{subtitle}</header>\n"
            f"{body}\n{footer}\n</main>\n</body>\n</html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path; a reader never finds half a file there.

        Raises:
            OSError: If the folder does not exist or cannot be written.
        """
        target = Path(path)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.html())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return target

    def _add(self, block: str) -> "Report":
        """Append a finished block."""
        self._body.append(block)
        return self

    def _add_numbered(self, kind: str, block: str, caption: str) -> "Report":
        """Append a block with a numbered caption."""
        self._counts[kind] += 1
        label = f"<b>{kind} {self._counts[kind]}.</b>"
        return self._add(
            f"<figure>{block}<figcaption>{label} {markup.escaped(caption)}</figcaption></figure>"
        )
