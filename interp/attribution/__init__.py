"""Which components of a model carry what: patching, estimates of it, and neurons.

| question | use |
|---|---|
| which layer and token carries the answer | `patch_sweep` |
| which heads, neurons or spans do | `patch_cells` on a `grid` |
| the same for all cells at once, estimated | `attribute_cells`, then `verify` |
| where two models differ | `patch_cells(..., source_model=...)` |
"""

from interp.attribution.cells import Cell, grid
from interp.attribution.estimates import attribute_cells, verify
from interp.attribution.metrics import (
    Metric,
    answer_probability,
    continuation_logprob,
    kl_from_clean,
    logit_diff,
)
from interp.attribution.pairs import Pairs, make_pairs, same_texts
from interp.attribution.patching import patch_cells, patch_sweep
from interp.attribution.results import Agreement, PatchingResult, compare

__all__ = [
    "Agreement",
    "Cell",
    "Metric",
    "Pairs",
    "PatchingResult",
    "answer_probability",
    "attribute_cells",
    "compare",
    "continuation_logprob",
    "grid",
    "kl_from_clean",
    "logit_diff",
    "make_pairs",
    "patch_cells",
    "patch_sweep",
    "same_texts",
    "verify",
]
