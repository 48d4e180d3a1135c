"""The toxicity study: preference training, what it changed, and what else changes as much.

Each part, and each method and training run within one, is written to a file of its own as soon as
it is done, so that an interrupted study goes on with the next; training goes on from its last
checkpoint.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hookscope.toxicity.config import ToxicityConfig
from hookscope.toxicity.materials import Materials
from hookscope.toxicity.parts import PARTS, contrast_model
from hookscope.toxicity.shared import Shared
from interp import HookedModel
from interp.core.files import write_atomically


def run_toxicity_study(
    model: HookedModel,
    materials: Materials,
    folder: str | Path,
    *,
    contrast: HookedModel | None = None,
    config: ToxicityConfig | None = None,
    only: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        model: A base model.
        materials: The texts.
        folder: Where checkpoints and the results of each part are kept.
        contrast: Another model, in which only toxic neurons are looked for.
        config: How much to run.
        only: Names of the parts to run; all by default.
        progress: Show progress bars.

    Raises:
        ValueError: If the folder holds results of another configuration, or a part is unknown.
    """
    config, folder = config or ToxicityConfig(), Path(folder)
    about = {"model": model.name, **asdict(config)}
    _check_folder(folder, about)
    shared = Shared(model, materials, folder, config, progress=progress)
    run: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(part, shared) for name, part in PARTS.items()
    }
    if contrast is not None:
        run["contrast"] = lambda: contrast_model(shared, contrast)
    if unknown := set(only or ()) - set(run):
        raise ValueError(f"no parts {sorted(unknown)}: needed some of {list(run)}")
    found: dict[str, Any] = {}
    for name, part in run.items():
        if only is None or name in only or (folder / f"{name}.json").exists():
            found[name] = shared.kept(name, part)
            result = {"config": about, **found}
            write_atomically(folder / "results.json", json.dumps(result, indent=1).encode())
    return {"config": about, **found}


def _check_folder(folder: Path, about: dict[str, Any]) -> None:
    path, wanted = folder / "config.json", json.loads(json.dumps(about))
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=1).encode())
    elif json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise ValueError(f"{folder} holds a study with other choices; use another folder")
