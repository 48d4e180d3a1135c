"""Position rules: at which tokens of a forward pass an intervention acts.

A rule speaks of positions in each text, not of columns of a batch, so it means the same with and
without a KV cache, with padding on either side, and alone or in a batch. Padding is never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.core.hooks import Call

PositionName = Literal["all", "prompt", "generated", "last"]
Spans = Sequence[Sequence[tuple[int, int]]]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tokens counted from the end of the prompt: 0 is the first one after it, -1 its last one."""

    start: int | None = None
    """First token, `None` for the first one of the text."""
    stop: int | None = None
    """The token behind the last one, `None` for no end."""


PositionRule = PositionName | Window | Bool[Tensor, "text position"] | Spans
"""All tokens, those of the prompt, those after it, the last one of the prompt; a window around the
end of the prompt; a mask with one row for each text and one column for each of its positions; or,
for each text, spans (start, stop)."""


def check_rule(rule: PositionRule) -> PositionRule:
    """The rule itself.

    Raises:
        ValueError: If it is none of the four names, a boolean mask of two axes, or lists of spans.
    """
    if isinstance(rule, str):
        if rule not in get_args(PositionName):
            raise ValueError(
                f"positions={rule!r}: needed {get_args(PositionName)}, a window, mask or spans"
            )
    elif isinstance(rule, Tensor) and (rule.dtype != torch.bool or rule.ndim != 2):
        raise ValueError(
            f"positions is a {rule.dtype} tensor of shape {tuple(rule.shape)}: "
            "a mask must be boolean, of shape (batch, pos)"
        )
    return rule


def selected(rule: PositionRule, call: Call) -> Bool[Tensor, "batch pos"] | None:
    """Which tokens of this forward pass the rule picks, `None` for every element.

    Args:
        rule: The position rule.
        call: Where the tokens of this pass stand.

    Raises:
        ValueError: If the rule needs something that this pass does not tell: the end of the
            prompt in a forward pass without a KV cache outside `interp.generate`, or positions in
            a model that has none.
    """
    positions, mask = call.positions, call.mask
    if positions is None or mask is None:
        if isinstance(rule, str) and rule == "all":
            return None
        raise ValueError(f"positions={rule!r}, but this model has no token positions: use 'all'")
    if not isinstance(rule, str | Window):
        table = rule if isinstance(rule, Tensor) else _mask_of_spans(rule)
        return mask & _looked_up(table.to(positions.device), call, positions)
    if rule == "all":
        return mask
    if call.prompt_lengths is None:
        raise ValueError(
            f"positions={rule!r}, but nothing tells where the prompt ends: call interp.generate, "
            "wrap the forward pass in model.hooks.prompts(lengths), or pass a mask"
        )
    ends = call.prompt_lengths.to(positions.device)[:, None]
    if isinstance(rule, Window):
        return mask & _in_window(rule, positions - ends)
    if rule == "last":
        return mask & (positions == ends - 1)
    return mask & ((positions < ends) if rule == "prompt" else (positions >= ends))


def _in_window(window: Window, offsets: Tensor) -> Bool[Tensor, "batch pos"]:
    """Which offsets from the end of the prompt lie in the window."""
    inside = torch.ones_like(offsets, dtype=torch.bool)
    if window.start is not None:
        inside &= offsets >= window.start
    if window.stop is not None:
        inside &= offsets < window.stop
    return inside


def rows_of_texts(n_rows: int, call: Call, name: str) -> Int[Tensor, " batch"]:
    """Which row of a table belongs to each text of this pass.

    Args:
        n_rows: Rows of the table: one for each of the caller's texts, or one for all of them.
        call: Where this pass stands.
        name: What the table is, for the message.

    Raises:
        ValueError: If the numbers of rows and of texts do not fit.
    """
    assert call.positions is not None, "tables of texts need a model of texts"
    batch, device = len(call.positions), call.positions.device
    n_texts = batch if call.n_texts is None else call.n_texts
    if n_rows == 1:
        return torch.zeros(batch, dtype=torch.long, device=device)
    if n_texts % n_rows or (call.rows is not None and n_texts != n_rows):
        raise ValueError(f"{name} has {n_rows} rows, but there are {n_texts} texts")
    if call.rows is not None:
        return call.rows
    return torch.arange(batch, device=device) // (batch // n_rows)


def _looked_up(
    table: Bool[Tensor, "row width"], call: Call, positions: Tensor
) -> Bool[Tensor, "batch pos"]:
    """Entries of a mask at absolute positions; positions beyond its width are not selected."""
    width = table.shape[1]
    table = table[rows_of_texts(len(table), call, "positions")]
    return table.gather(1, positions.clamp(max=width - 1)) & (positions < width)


def _mask_of_spans(spans: Spans) -> Bool[Tensor, "row width"]:
    width = max((stop for row in spans for _, stop in row), default=1)
    mask = torch.zeros(len(spans), max(width, 1), dtype=torch.bool)
    for row, pairs in zip(mask, spans, strict=True):
        for start, stop in pairs:
            row[start:stop] = True
    return mask
