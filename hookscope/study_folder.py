"""The folder of a study: what was chosen, each part as soon as it is done, and the result.

A study that is started again in its folder goes on with the parts that are missing. Another study,
or the same one with other choices, is refused there.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.core.files import write_atomically

Part = Callable[[], Mapping[str, Any]]
"""Computes what JSON holds."""


def claim(folder: Path, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Write the choices of a study into its folder, or check that they are there; returns them.

    Raises:
        ValueError: If the folder holds a study with other choices.
    """
    path, wanted = folder / "config.json", json.loads(json.dumps(choices))
    if not path.exists():
        write_json(path, wanted)
    elif json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise ValueError(f"{folder} holds a study with other choices; use another folder")
    return wanted


def write_json(path: Path, content: Any) -> None:
    """Write JSON as a whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1).encode())


def kept(path: Path, compute: Part) -> dict[str, Any]:
    """A result from its file, or computed, with its CPU seconds, and written there."""
    if not path.exists():
        start = time.process_time()
        result = dict(compute())
        write_json(path, result | {"cpu_seconds": round(time.process_time() - start, 1)})
    return json.loads(path.read_text(encoding="utf-8"))


def run_parts(
    folder: Path,
    choices: Mapping[str, Any],
    parts: Mapping[str, Part],
    *,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run what is missing of a study; everything that is there is in `results.json`.

    Args:
        folder: Of the study; made if it is not there.
        choices: What makes a result comparable: kept as "config".
        parts: What computes each part, by name, in the order in which they run.
        only: Names of the parts to run; all by default.

    Raises:
        ValueError: If the folder holds a study with other choices, or a part is unknown.
    """
    if unknown := set(only or ()) - set(parts):
        raise ValueError(f"no parts {sorted(unknown)}: needed some of {list(parts)}")
    found: dict[str, Any] = {"config": claim(folder, choices)}
    for name, compute in parts.items():
        path = folder / f"{name}.json"
        if only is None or name in only or path.exists():
            found[name] = kept(path, compute)
            write_json(folder / "results.json", found)
    return found
