"""A tuned model in the folder of a study: only the weights that tuning has changed."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from interp import HookedModel


def keep_weights(path: Path, plain: HookedModel, tuned: HookedModel) -> None:
    """Write the weights in which a tuned model differs from the plain one."""
    before, after = (one.module.state_dict() for one in (plain, tuned))
    # clones, since tied weights come under two names
    changed = {k: v.clone() for k, v in after.items() if not torch.equal(v, before[k])}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(changed, path)


def kept_model(path: Path, plain: HookedModel, *, name: str) -> HookedModel:
    """The tuned model: a copy of the plain one with the weights that were kept."""
    module: Any = copy.deepcopy(plain.module)
    module.load_state_dict(load_file(path), strict=False)
    return HookedModel(module, tokenizer=plain.tokenizer, name=name)
