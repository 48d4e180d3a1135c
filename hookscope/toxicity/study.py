"""The toxicity study: preference training, what it changed, and what else changes as much.

Each part, and each method and training run within one, is written to a file of its own as soon as
it is done, so that an interrupted study goes on with the next; training goes on from its last
checkpoint.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hookscope.study_folder import Part, run_parts
from hookscope.toxicity.config import ToxicityConfig
from hookscope.toxicity.hub_classifier import HubClassifier
from hookscope.toxicity.materials import Materials
from hookscope.toxicity.parts import PARTS, contrast_model
from hookscope.toxicity.second_pair import second_pair
from hookscope.toxicity.shared import Shared
from interp import HookedModel


def run_toxicity_study(
    model: HookedModel,
    materials: Materials,
    folder: str | Path,
    *,
    contrast: HookedModel | None = None,
    second_judge: HubClassifier | None = None,
    config: ToxicityConfig | None = None,
    only: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        model: A base model.
        materials: The texts.
        folder: Where checkpoints and the results of each part are kept.
        contrast: Another model, in which toxic neurons are looked for, and which is trained for
            the second pair.
        second_judge: A published classifier that scores continuations beside the one trained here.
        config: How much to run.
        only: Names of the parts to run; all by default.
        progress: Show progress bars.

    Raises:
        ValueError: If the folder holds results of another configuration, or a part is unknown.
    """
    config, folder = config or ToxicityConfig(), Path(folder)
    shared = Shared(model, materials, folder, config, second_judge=second_judge, progress=progress)
    parts: dict[str, Part] = {name: partial(part, shared) for name, part in PARTS.items()}
    if contrast is not None:
        parts["contrast"] = partial(contrast_model, shared, contrast)
        parts["second pair"] = partial(second_pair, shared, contrast)
    choices = {"model": model.name, **asdict(config)}
    if second_judge is not None:
        choices["second_judge"] = second_judge.name
    return run_parts(folder, choices, parts, only=only)
