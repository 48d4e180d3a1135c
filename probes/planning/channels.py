"""Single channels as the plan: how well each one alone tells each direction, at which offset.

Taufeeque et al. 2025 (arXiv 2506.10138) find "path channels": one channel of a DRC that is active
where a box or the agent will go in one direction, often one square beside. A channel that ranks
high is a candidate, found without training a probe; whether the agent uses it is for ablation.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.planning.concepts import CLASSES
from probes.evaluation import auroc_value

OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
"""The square itself and its eight neighbors."""


def rank_channels(
    values: Float[Tensor, "row channel height width"],
    labels: Int[np.ndarray, "row height width"],
    *,
    offsets: tuple[tuple[int, int], ...] = OFFSETS,
) -> pd.DataFrame:
    """Correlation and AUROC of every channel with every direction.

    Args:
        values: What the agent holds.
        labels: Classes of the squares, 0 for never.
        offsets: Where the channel is read, from the square of the label: (down, right). Beyond the
            edge it is 0.

    Returns:
        One row for each channel and direction, the highest AUROC first: the offset at which the
        channel correlates most, the correlation there, and the AUROC of the channel (times the sign
        of the correlation) for squares of this direction against all others.
    """
    rows = []
    tables = {offset: _shifted(values, offset) for offset in offsets}
    for number, direction in enumerate(CLASSES[1:], start=1):
        truth = (labels == number).ravel()
        if not truth.any():
            continue
        found = np.stack([_correlations(table, truth) for table in tables.values()])
        for channel, best in enumerate(np.abs(found).argmax(0)):
            score = tables[offsets[best]][:, channel] * np.sign(found[best, channel])
            rows.append(
                {
                    "channel": channel,
                    "direction": direction,
                    "down": offsets[best][0],
                    "right": offsets[best][1],
                    "correlation": found[best, channel],
                    "auroc": auroc_value(truth.astype(int), score),
                }
            )
    return pd.DataFrame(rows).sort_values("auroc", ascending=False, ignore_index=True)


def _shifted(
    values: Float[Tensor, "row channel height width"], offset: tuple[int, int]
) -> Float[np.ndarray, "square channel"]:
    """The channels at an offset from every square, one row for each square."""
    down, right = offset
    height, width = values.shape[2:]
    padded = torch.nn.functional.pad(values.float(), (1, 1, 1, 1))
    moved = padded[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
    return moved.movedim(1, 3).reshape(-1, values.shape[1]).numpy()


def _correlations(
    table: Float[np.ndarray, "square channel"], truth: np.ndarray
) -> Float[np.ndarray, " channel"]:
    """Correlation of each channel with a yes-or-no label; 0 for constant channels."""
    centered = table - table.mean(0)
    label = truth - truth.mean()
    scale = np.sqrt((centered**2).sum(0) * (label**2).sum())
    return np.where(scale > 0, label @ centered / np.where(scale > 0, scale, 1), 0.0)
