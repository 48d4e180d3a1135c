"""Trained agents as folders: weights along their training, learning curve, config.

`export_agent` makes such a folder of a training run and `load_agent` reads it; folders inside
`weights` beside this file go by their name (`list_agents` says which there are). `info.json` says
how the agent was trained and what it solves. That decides what it can support: an agent that
learned by imitation of optimal play may show plans, but not that planning emerges in model-free
learning: that needs snapshots of reinforcement learning, which `reinforced-drc21` has.
"""

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from interp.core.errors import ModelNotFoundError, near_miss
from interp.planning.drc import Drc, DrcConfig

_WEIGHTS = "weights"


@dataclass(frozen=True, kw_only=True)
class AgentInfo:
    """What an agent is and how it came about."""

    name: str
    """Name for `load_agent`."""
    config: DrcConfig
    """Size and form."""
    snapshots: tuple[int, ...]
    """Transitions of training after which weights were kept, from 0 to the end."""
    training: dict[str, Any]
    """How it was trained: options, time, and what the result solves."""
    curve: tuple[dict[str, int | float], ...]
    """Learning curve: one row for each evaluation."""


def list_agents() -> list[str]:
    """Names of the agents that come with the package; none if it was built without weights."""
    root = Path(str(files("interp.planning"))) / _WEIGHTS
    return sorted(path.parent.name for path in root.glob("*/info.json"))


def load_agent_info(name: str | Path) -> AgentInfo:
    """Read what an agent is, without its weights.

    Args:
        name: An agent of the package, or a folder that `export_agent` wrote.

    Raises:
        ModelNotFoundError: If there is no such agent.
    """
    folder = _folder(name)
    info = json.loads((folder / "info.json").read_text())
    config = {**info["config"], "size": tuple(info["config"]["size"])}
    return AgentInfo(
        name=info["name"],
        config=DrcConfig(**config),
        snapshots=tuple(sorted(int(path.stem) for path in folder.glob("*.safetensors"))),
        training=info["training"],
        curve=tuple(info["curve"]),
    )


def load_agent(name: str | Path, *, transitions: int | None = None) -> Drc:
    """Load an agent on the CPU, in float32 and evaluation mode.

    Args:
        name: An agent of the package, or a folder that `export_agent` wrote.
        transitions: Which snapshot of its training: one of `load_agent_info(name).snapshots`, 0
            being the untrained network; the last one if None.

    Raises:
        ModelNotFoundError: If there is no such agent.
        ValueError: If there is no such snapshot.
    """
    info = load_agent_info(name)
    chosen = info.snapshots[-1] if transitions is None else transitions
    if chosen not in info.snapshots:
        raise ValueError(
            f"transitions is {transitions!r}, but {info.name!r} has snapshots at {info.snapshots}"
        )
    weights = load_file(_folder(name) / f"{chosen:012d}.safetensors")
    agent = Drc(info.config)
    agent.load_state_dict({key: weight.float() for key, weight in weights.items()})
    return agent.eval().requires_grad_(False)


def export_agent(
    run: str | Path,
    folder: str | Path,
    *,
    config: DrcConfig,
    snapshots: list[int],
    training: dict[str, Any],
) -> None:
    """Make a loadable folder of a training run's snapshots and learning curve.

    Args:
        run: A folder that `train_agent` wrote.
        folder: Where to write; its last part is the agent's name.
        config: The agent's size and form.
        snapshots: Transitions of the snapshots to keep.
        training: What to say about the training, as JSON types.
    """
    run, folder = Path(run), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for transitions in snapshots:
        name = f"{transitions:012d}.safetensors"
        (folder / name).write_bytes((run / "snapshots" / name).read_bytes())
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    info = {"name": folder.name, "config": asdict(config), "training": training, "curve": curve}
    (folder / "info.json").write_text(json.dumps(info, indent=1) + "\n")


def choose_snapshots(run: str | Path, n_snapshots: int = 7) -> list[int]:
    """Snapshots of a run at even steps from the untrained to the last one (they are log-spaced)."""
    found = sorted(int(path.stem) for path in (Path(run) / "snapshots").glob("*.safetensors"))
    if len(found) <= n_snapshots:
        return found
    places = torch.linspace(0, len(found) - 1, n_snapshots).round().long().tolist()
    return [found[place] for place in places]


def _folder(name: str | Path) -> Path:
    """The folder of an agent: of the package, or the given one."""
    shipped = Path(str(files("interp.planning"))) / _WEIGHTS / str(name)
    for folder in (shipped, Path(name)):
        if (folder / "info.json").is_file():
            return folder
    known = list_agents()
    raise ModelNotFoundError(
        f"no agent {str(name)!r}: the package has {known}, and there is no folder of that name "
        f"with an info.json{near_miss(str(name), known)}"
    )
