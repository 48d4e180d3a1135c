"""The circuit tools of transformer-lens: edges between components, and learned subspaces.

Beside `interp.core.bridge` the only module that imports transformer-lens. It is one of its own
because these tools take seconds to import, which loading a bridge should not.
"""

from transformer_lens.tools.analysis.attribution_patching import (
    EdgeAttributionConfig,
    Node,
    attribution_patch,
    faithfulness,
)
from transformer_lens.tools.analysis.interchange import (
    NormMatchedPlacebo,
    SubspaceInterchange,
    arbitrary_targets,
    collect_activations,
    fit_das,
    intervened_logits,
    random_basis,
)

__all__ = [
    "EdgeAttributionConfig",
    "Node",
    "NormMatchedPlacebo",
    "SubspaceInterchange",
    "arbitrary_targets",
    "attribution_patch",
    "collect_activations",
    "faithfulness",
    "fit_das",
    "intervened_logits",
    "random_basis",
]
