"""Where data comes from: sets of our own writing in the package, public ones in a local folder."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Literal

from interp.core.records import Records

Fixture = Literal["high_stakes", "high_stakes_ood", "persuasion"]


def load_fixture(name: Fixture) -> Records:
    """A set that comes with the package; `interp/data/fixtures/README.md` describes them.

    Args:
        name: `"high_stakes"`: 160 matched pairs of a high-stakes and a low-stakes situation;
            `"high_stakes_ood"`: 30 pairs from other domains in other registers; `"persuasion"`:
            60 dialogues between a persuader and a persuadee.

    Raises:
        ValueError: If there is no set of that name.
    """
    folder = files("interp.data") / "fixtures"
    known = sorted(
        f.name.removesuffix(".jsonl") for f in folder.iterdir() if f.name.endswith(".jsonl")
    )
    if name not in known:
        raise ValueError(f"no shipped data set {name!r}: there are {', '.join(known)}")
    return Records.load(Path(str(folder / f"{name}.jsonl")))


def data_folder(*parts: str) -> Path:
    """A folder or file of public data that is kept locally.

    Args:
        *parts: Path below the folder that the environment variable `HOOKSCOPE_DATA` names.

    Raises:
        FileNotFoundError: If the variable is not set, or the path does not exist there.
    """
    root = os.environ.get("HOOKSCOPE_DATA")
    if root is None:
        raise FileNotFoundError(
            f"{'/'.join(parts)} is public data that does not come with the package: set "
            "HOOKSCOPE_DATA to the folder that holds it"
        )
    path = Path(root, *parts)
    if not path.exists():
        raise FileNotFoundError(f"no {'/'.join(parts)!r} in HOOKSCOPE_DATA={root!r}")
    return path
