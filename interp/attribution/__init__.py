"""Which components of a model carry what: patching, estimates of it, and neurons.

| question | use |
|---|---|
| which layer and token carries the answer | `patch_sweep` |
| which heads, neurons or spans do | `patch_cells` on a `grid` |
| the same for all cells at once, estimated | `attribute_cells`, then `verify` |
| which queries and keys matter, estimated | `attribute_attention` |
| what one head says to each later one | `interp.attribution.paths.patch_paths` |
| which edges between components matter | `interp.attribution.edges.attribute_edges` |
| which directions at one place carry it | `interp.attribution.subspaces.find_subspace` |
| what each component writes toward an answer | `decompose_logits` |
| what each layer would answer | `logit_lens`, with a `TunedLens` from a file or fitted here |
| where two models differ | `patch_cells` and `patch_groups` with `source_model=` |
| which neurons carry that difference along a direction | `attribute_change`, then `patch_groups` |
| what a neuron writes | `value_vectors`, `value_tokens`, `align`, `vocabulary_scores` |
"""

from interp.attribution.attention import AttentionEstimate, attribute_attention
from interp.attribution.cells import Cell, grid
from interp.attribution.estimates import attribute_cells, verify
from interp.attribution.lens_fitting import fit_tuned_lens, lens_divergence
from interp.attribution.lenses import TunedLens
from interp.attribution.logits import LogitParts, decompose_logits, logit_lens
from interp.attribution.metrics import (
    Metric,
    answer_probability,
    continuation_logprob,
    kl_from_clean,
    logit_diff,
    token_mass,
)
from interp.attribution.neuron_groups import (
    GROUPS,
    NeuronChange,
    NeuronGroups,
    attribute_change,
    edited_activations,
    group_changes,
    reduction_shares,
)
from interp.attribution.neurons import (
    Alignment,
    ablate_neurons,
    align,
    align_vectors,
    mean_activations,
    value_tokens,
    value_vectors,
    vocabulary_scores,
)
from interp.attribution.pairs import Pairs, make_pairs, same_texts
from interp.attribution.patching import patch_cells, patch_groups, patch_sweep
from interp.attribution.results import Agreement, GroupResult, PatchingResult, compare

__all__ = [
    "GROUPS",
    "Agreement",
    "Alignment",
    "AttentionEstimate",
    "Cell",
    "GroupResult",
    "LogitParts",
    "Metric",
    "NeuronChange",
    "NeuronGroups",
    "Pairs",
    "PatchingResult",
    "TunedLens",
    "ablate_neurons",
    "align",
    "align_vectors",
    "answer_probability",
    "attribute_attention",
    "attribute_cells",
    "attribute_change",
    "compare",
    "continuation_logprob",
    "decompose_logits",
    "edited_activations",
    "fit_tuned_lens",
    "grid",
    "group_changes",
    "kl_from_clean",
    "lens_divergence",
    "logit_diff",
    "logit_lens",
    "make_pairs",
    "mean_activations",
    "patch_cells",
    "patch_groups",
    "patch_sweep",
    "reduction_shares",
    "same_texts",
    "token_mass",
    "value_tokens",
    "value_vectors",
    "verify",
    "vocabulary_scores",
]
