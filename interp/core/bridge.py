"""The second door: a transformer-lens bridge on a copy of the model, with the same site names.

With `interp.core.circuits`, which holds the circuit tools, the only module that imports
transformer-lens. A bridge gives the inner tensors that no module puts out (attention patterns,
queries, keys, scores); its forward is slower than plain hooks, because it computes attention in
Python.
"""

import copy
import logging
from typing import Any

import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.patching import get_act_patch_direct_path

__all__ = [
    "HookPoint",
    "HookedRootModule",
    "TransformerBridge",
    "boot",
    "get_act_patch_direct_path",
]


def boot(module: nn.Module, tokenizer: Any) -> TransformerBridge:
    """A `TransformerBridge` on a copy of a Hugging Face model.

    The weights are as they were: nothing is folded or centered, so that directions mean the same
    through both doors. Give it token ids with `attention_mask=`; strings get a second BOS token.

    Args:
        module: A Hugging Face causal language model; it stays as it is.
        tokenizer: Its tokenizer, which is copied too.

    Raises:
        ValueError: If there is no tokenizer: transformer-lens would look for one on the network.
    """
    if tokenizer is None:
        raise ValueError("a bridge needs a tokenizer: give one to HookedModel or load_model")
    twin: Any = copy.deepcopy(module)
    twin.config.architectures = [type(module).__name__]  # unset in models made from a config
    level = logging.getLogger("transformers").level
    with torch.random.fork_rng():  # booting draws from the global generator
        bridge = TransformerBridge.boot_transformers(
            getattr(module, "name_or_path", "") or type(module).__name__,
            hf_model=twin,
            tokenizer=copy.deepcopy(tokenizer),
            device=str(next(module.parameters()).device),
            dtype=next(module.parameters()).dtype,
        )
    logging.getLogger("transformers").setLevel(level)
    return bridge
