"""Figures and reports: arrays and frames in, plotly figures and one HTML page out.

| to show | use |
|---|---|
| a matrix: layer by position, train by test | `heatmap` |
| scores of the tokens of a text | `token_strip` |
| values along layers, steps, doses | `curves` of `Curve` |
| how well scores separate | `roc` of `RocCurve` |
| one value against another, example by example | `scatter` |
| what is won against what it costs, with intervals | `tradeoff` of `Point` |
| whether probabilities are honest | `reliability` of `ReliabilityCurve` |
| a table of scores with intervals | `bars` |
| all of it on one page that opens offline | `Report` |

Every figure function returns a `Figure`, which nothing shows or saves, and takes `**layout` for
`Figure.update_layout` as the last word. `TEMPLATE`, `COLORS`, `DIVERGING`, `SEQUENTIAL`, `rgba` and
`position_labels` are for figures of your own. Nothing is registered with plotly.
"""

from interp.viz.curves import Curve, curves
from interp.viz.heatmaps import heatmap
from interp.viz.intervals import bars
from interp.viz.rates import ReliabilityCurve, RocCurve, reliability, roc
from interp.viz.report import Report
from interp.viz.scatter import scatter
from interp.viz.theme import (
    COLORS,
    CONTROL,
    DIVERGING,
    SEQUENTIAL,
    TEMPLATE,
    Figure,
    position_labels,
    rgba,
)
from interp.viz.tokens import token_strip
from interp.viz.tradeoffs import Point, tradeoff
from interp.viz.tree import TreeNode

__all__ = [
    "COLORS",
    "CONTROL",
    "DIVERGING",
    "SEQUENTIAL",
    "TEMPLATE",
    "Curve",
    "Figure",
    "Point",
    "ReliabilityCurve",
    "Report",
    "RocCurve",
    "TreeNode",
    "bars",
    "curves",
    "heatmap",
    "position_labels",
    "reliability",
    "rgba",
    "roc",
    "scatter",
    "token_strip",
    "tradeoff",
]
