"""Texts that answer each other, as nested boxes of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interp.viz import markup


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """A text, and those that stand below it."""

    title: str
    """One line above the text."""
    text: str
    """The text."""
    children: "tuple[TreeNode, ...]" = ()
    """What stands below it."""
    tone: Literal["plain", "alarm", "muted"] = "plain"
    """Whether it is to be seen first, or hardly."""


def drawn(nodes: Sequence[TreeNode]) -> str:
    """The nodes as nested HTML lists; texts are shown literally, however deep they stand."""
    parts: list[str] = ['<ul class="tree">']
    stack: list[TreeNode | str] = ["</ul>", *reversed(nodes)]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        title, text = markup.escaped(node.title), markup.escaped(node.text)
        parts.append(f'<li class="{node.tone}"><b>{title}</b><div>{text}</div>')
        stack.append("</li>")
        if node.children:
            parts.append("<ul>")
            stack += ["</ul>", *reversed(node.children)]
    return "".join(parts)
