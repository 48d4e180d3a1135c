"""Train a Sokoban agent, resumably: imitation of optimal play, then learning from rewards.

`train_agent` works in a folder. It writes there a learning curve (`curve.jsonl`), numbered
snapshots of the weights (`snapshots/*.safetensors`, half precision, roughly log-spaced) and
`resume.pt`; started again with the same folder it goes on exactly where the last `resume.pt` was
written. Snapshots and evaluations use a running average of the weights.
"""

import copy
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from interp.planning.drc import Drc
from interp.planning.environment import BUSH_RULES, Rules
from interp.planning.evaluation import play_levels
from interp.planning.imitation import Imitation, ImitationConfig
from interp.planning.levels import Levels
from interp.planning.optimizers import Muon
from interp.planning.reinforcement import Reinforcement, ReinforcementConfig
from interp.planning.resnet import ResNet
from interp.planning.solver import DistanceTable, solve_distances

_CHANGEABLE = (
    "transitions",
    "imitation_transitions",
    "learning_rate",
    "final_learning_rate",
    "reinforcement_learning_rate",
)
"""Options that may change when training is resumed."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an agent is trained."""

    transitions: int = 4_000_000
    """Steps of all games after which training ends; the learning rate falls toward this end."""
    imitation_transitions: int = 4_000_000
    """Steps of imitation; those after them learn from rewards."""
    n_envs: int = 64
    """Games played at once."""
    unroll: int = 8
    """Steps between updates, through which the gradient goes."""
    learning_rate: float = 1.5e-3
    """Step size of Adam at its highest."""
    final_learning_rate: float = 1e-4
    """Step size at the end (it falls along a half cosine)."""
    reinforcement_learning_rate: float = 2e-4
    """Step size at the start of learning from rewards (it falls linearly to a tenth)."""
    warmup_updates: int = 100
    """Updates over which the step size rises from 0."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped."""
    average: float = 0.998
    """Share of the running average of the weights that stays at each update."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Rule of the updates."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type in which the network computes; bfloat16 where the processor has it."""
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    """Options of imitation."""
    reinforcement: ReinforcementConfig = field(default_factory=ReinforcementConfig)
    """Options of learning from rewards."""
    rules: Rules = BUSH_RULES
    """Rules of the games."""

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision is {self.precision!r}; 'float32' or 'bfloat16' is needed")
        for name in ("transitions", "n_envs", "unroll"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; at least 1 is needed")


@dataclass(frozen=True, kw_only=True)
class TrainingSchedule:
    """When to write, to evaluate and to stop."""

    max_seconds: float = math.inf
    """Stop after this much time (resumable)."""
    save_seconds: float = 180.0
    """Time between writes of `resume.pt`."""
    evaluate_seconds: float = 600.0
    """Time between evaluations on the held-out levels."""
    limit: int = 115
    """Steps within which a held-out level must be solved."""
    first_snapshot: int = 50_000
    """Transitions of the first snapshot after the untrained one; each next comes at `ratio`
    times more."""
    ratio: float = 2**0.5
    """Growth between snapshots."""


class _Trainer:
    """Everything that changes during training; `state_dict` holds all of it."""

    def __init__(
        self,
        agent: Drc | ResNet,
        levels: Levels,
        config: TrainingConfig,
        seed: int,
        solve: Callable[[Levels], DistanceTable],
    ) -> None:
        self.config, self.agent, self.levels, self.seed = config, agent, levels, seed
        self.average = copy.deepcopy(agent).requires_grad_(False)
        self.optimizer = _make_optimizer(agent, config)
        self.solve, self.device = solve, next(agent.parameters()).device
        self.transitions, self.updates, self.seconds, self.cpu_seconds = 0, 0, 0.0, 0.0
        self.learner = self._make_learner(imitate=self.imitates)

    @property
    def imitates(self) -> bool:
        return self.transitions < self.config.imitation_transitions

    def _make_learner(self, *, imitate: bool) -> Imitation | Reinforcement:
        config = self.config
        if imitate:
            return Imitation(
                self.levels,
                config.n_envs,
                config=config.imitation,
                rules=config.rules,
                seed=self.seed,
                solve=self.solve,
            )
        return Reinforcement(
            self.levels,
            config.n_envs,
            config=config.reinforcement,
            rules=config.rules,
            seed=self.seed,
            device=self.device,
        )

    def update(self) -> dict[str, int | float]:
        """One unroll and one step of the optimizer."""
        if self.imitates != isinstance(self.learner, Imitation):
            self.learner = self._make_learner(imitate=self.imitates)
        config, wall, cpu = self.config, time.monotonic(), time.process_time()
        half = config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            unroll = self.learner.unroll(self.agent, config.unroll)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.zero_grad()
        unroll.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.agent.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        self.transitions += config.unroll * config.n_envs
        self._follow()
        self.seconds += time.monotonic() - wall
        self.cpu_seconds += time.process_time() - cpu
        return {**unroll.terms, "grad_norm": float(norm)}

    def _learning_rate(self) -> float:
        config = self.config
        rise = min(1.0, (self.updates + 1) / config.warmup_updates)
        if not self.imitates:
            done = self.transitions - config.imitation_transitions
            share = done / max(1, config.transitions - config.imitation_transitions)
            return rise * config.reinforcement_learning_rate * max(0.1, 1 - share)
        share = min(1.0, self.transitions / min(config.imitation_transitions, config.transitions))
        low, high = config.final_learning_rate, config.learning_rate
        return rise * (low + (high - low) * 0.5 * (1 + math.cos(math.pi * share)))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average toward the weights; early on it forgets faster."""
        keep = min(self.config.average, self.updates / (self.updates + 10))
        for mean, now in zip(self.average.parameters(), self.agent.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)

    def state_dict(self) -> dict[str, Any]:
        return {
            "agent": self.agent.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "imitated": isinstance(self.learner, Imitation),
            "counts": (self.transitions, self.updates, self.seconds, self.cpu_seconds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.transitions, self.updates, self.seconds, self.cpu_seconds = state["counts"]
        if state["imitated"] != isinstance(self.learner, Imitation):
            self.learner = self._make_learner(imitate=state["imitated"])
        self.learner.load_state_dict(state["learner"])


def train_agent(
    agent: Drc | ResNet,
    levels: Levels,
    held_out: Levels,
    directory: str | Path,
    *,
    config: TrainingConfig,
    schedule: TrainingSchedule = TrainingSchedule(),
    seed: int = 0,
    solve: Callable[[Levels], DistanceTable] = solve_distances,
    progress: bool = True,
) -> Drc | ResNet:
    """Train an agent in place, or go on training it, in a folder.

    Args:
        agent: A new agent; if the folder has a `resume.pt`, its weights are replaced.
        levels: Levels to train on.
        held_out: Levels for the solve rates of the learning curve.
        directory: The folder; made if it does not exist.
        config: How to train.
        schedule: When to write, evaluate and stop.
        seed: Seed of games and exploration (weights come with the agent).
        solve: What makes the tables of the expert; a faster program can stand in.
        progress: Whether to show a progress bar.

    Returns:
        The agent with the averaged weights, in evaluation mode.

    Raises:
        ValueError: If the folder belongs to a training with another config.
    """
    directory = Path(directory)
    (directory / "snapshots").mkdir(parents=True, exist_ok=True)
    _check_config(directory / "config.json", config, seed)
    trainer = _Trainer(agent, levels, config, seed, solve)
    resume = directory / "resume.pt"
    if resume.exists():
        trainer.load_state_dict(torch.load(resume, map_location=trainer.device, weights_only=False))
        _cut_curve(directory / "curve.jsonl", trainer.transitions)
    else:
        save_snapshot(trainer.average, directory / "snapshots", 0)
    _train(trainer, held_out, directory, schedule, progress)
    return trainer.average


def save_snapshot(agent: nn.Module, directory: str | Path, transitions: int) -> Path:
    """Write an agent's weights in half precision, named after how long it was trained."""
    path = Path(directory) / f"{transitions:012d}.safetensors"
    weights = {name: w.detach().half().contiguous() for name, w in agent.state_dict().items()}
    save_file(weights, path)
    return path


def _train(
    trainer: _Trainer, held_out: Levels, directory: Path, schedule: TrainingSchedule, progress: bool
) -> None:
    """Updates, and between them whatever is due."""
    started = saved = evaluated = time.monotonic()
    target, recent = _next_snapshot(trainer.transitions, schedule), []
    bar = tqdm(
        total=trainer.config.transitions,
        initial=trainer.transitions,
        unit=" transitions",
        disable=not progress,
        mininterval=10,
    )
    with bar:
        while trainer.transitions < trainer.config.transitions:
            recent.append(trainer.update())
            bar.update(trainer.config.unroll * trainer.config.n_envs)
            bar.set_postfix(_means(recent[-100:]), refresh=False)
            now = time.monotonic()
            stop = now - started >= schedule.max_seconds
            if trainer.transitions >= target:
                save_snapshot(trainer.average, directory / "snapshots", trainer.transitions)
                target = _next_snapshot(trainer.transitions, schedule)
            ends = stop or trainer.transitions >= trainer.config.transitions
            if ends or now - saved >= schedule.save_seconds:
                _save(trainer.state_dict(), directory / "resume.pt")
                saved = now
            if ends or now - evaluated >= schedule.evaluate_seconds:
                row = _evaluate(trainer, held_out, recent, schedule.limit)
                _append(directory / "curve.jsonl", row)
                recent, evaluated = [], time.monotonic()
            if stop:
                break
    if trainer.transitions >= trainer.config.transitions:
        save_snapshot(trainer.average, directory / "snapshots", trainer.transitions)


def _evaluate(
    trainer: _Trainer, held_out: Levels, recent: list[dict[str, int | float]], limit: int
) -> dict[str, int | float]:
    """One row of the learning curve."""
    result = play_levels(trainer.average, held_out, limit=limit)
    return {
        "transitions": trainer.transitions,
        "updates": trainer.updates,
        "seconds": round(trainer.seconds, 1),
        "cpu_seconds": round(trainer.cpu_seconds, 1),
        "solve_rate": round(result.solve_rate, 4),
        "n_levels": len(held_out),
        **_means(recent),
    }


def _means(rows: list[dict[str, int | float]]) -> dict[str, int | float]:
    """Means of the terms of some updates, and the share of games that ended solved."""
    same = [row for row in rows if row.keys() == rows[-1].keys()]  # not those of another phase
    ends = max(1.0, sum(row["ends"] for row in same))
    means = {name: sum(row[name] for row in same) / len(same) for name in rows[-1]}
    means["solved"] = sum(row["solved"] for row in same) / ends
    del means["ends"]
    return {name: round(mean, 5) for name, mean in means.items()}


def _make_optimizer(agent: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "muon":
        return Muon(agent.parameters())
    return torch.optim.Adam(agent.parameters(), betas=(0.9, 0.99), eps=1e-5)


def _next_snapshot(transitions: int, schedule: TrainingSchedule) -> int:
    target = float(schedule.first_snapshot)
    while int(target) <= transitions:  # what was returned is never returned again
        target *= schedule.ratio
    return int(target)


def _save(state: dict[str, Any], path: Path) -> None:
    """Write so that a reader never finds half a file."""
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def _append(path: Path, row: dict[str, int | float]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _cut_curve(path: Path, transitions: int) -> None:
    """Drop rows that were written after the state that training resumes from."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(x for x in lines if json.loads(x)["transitions"] <= transitions))


def _check_config(path: Path, config: TrainingConfig, seed: int) -> None:
    """Write the config; if one was written before, it may differ in length and step sizes only."""
    stated = json.loads(json.dumps({**dataclasses.asdict(config), "seed": seed}))
    if path.exists():
        written = json.loads(path.read_text())
        differing = sorted(name for name in stated if stated[name] != written.get(name))
        differing = [name for name in differing if name not in _CHANGEABLE]
        if differing:
            raise ValueError(
                f"{str(path)!r} was written with other values of {', '.join(differing)}; "
                "resume with the same config, or train in another folder"
            )
    path.write_text(json.dumps(stated, indent=1) + "\n")
