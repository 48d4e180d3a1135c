"""A tuned model in the folder of a study: only the weights that tuning has changed."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from interp import HookedModel
from interp.core.files import load_tensors, save_tensors

SCHEMA = "changed weights"


def keep_weights(
    path: Path, plain: HookedModel, tuned: HookedModel, *, about: Mapping[str, Any]
) -> None:
    """Write the weights in which a tuned model differs from the plain one, and how it was tuned."""
    before, after = (one.module.state_dict() for one in (plain, tuned))
    # clones, since tied weights come under two names
    changed = {k: v.clone() for k, v in after.items() if not torch.equal(v, before[k])}
    save_tensors(path, changed, {"schema": SCHEMA, **about})


def kept_model(path: Path, plain: HookedModel, *, name: str) -> tuple[HookedModel, dict[str, Any]]:
    """The tuned model, a copy of the plain one with the weights that were kept, and how it was.

    Raises:
        ValueError: If the file holds weights of another model.
    """
    module: Any = copy.deepcopy(plain.module)
    weights, about = load_tensors(path, schema=SCHEMA)
    if unexpected := module.load_state_dict(weights, strict=False).unexpected_keys:
        raise ValueError(f"{path} holds {unexpected[0]!r}, which {plain.name!r} does not have")
    return HookedModel(module, tokenizer=plain.tokenizer, name=name), about
