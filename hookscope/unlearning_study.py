"""The unlearning study: which methods survive relearning at the same disruption.

For every seed a model learns fictitious authors, some to be forgotten and some to be kept, and a
second copy learns only the latter. Every method unlearns to every budget and is then attacked:
relearning on the other half of the forget set, few-shot prompts, other wordings, and the unlearning
depth score. Every cell is a file of its own, so that an interrupted study goes on with the next.
"""

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from hookscope.study_folder import claim, write_json
from hookscope.unlearning_tasks import Fact, author_task
from interp import HookedModel, load_model
from interp.data import load_fixture
from interp.training import Example, SftConfig, train_sft
from interp.training.unlearning import (
    Budget,
    Cir,
    Disruption,
    Method,
    Mudman,
    RepSelect,
    Tar,
    few_shot,
    grad_diff,
    npo,
    probabilities,
    relearning_curve,
    rmu,
    simnpo,
    undial,
    unlearn,
    unlearning_depth,
)
from interp.training.unlearning.attacks import AttackSuite


@dataclass(frozen=True, kw_only=True)
class UnlearningConfig:
    """How much of the study to run; the defaults run all of it."""

    n_seeds: int = 3
    """Seeds: each has its own authors, models and draws."""
    n_forget: int = 2
    """Authors to forget, with four facts each, of which the attackers have two."""
    n_retain: int = 2
    """Authors to keep."""
    budgets: tuple[float, ...] = (0.05, 0.01)
    """KL divergence from the model before unlearning, in nats per token."""
    n_steps: int = 3
    """Steps of the methods that take several."""
    n_texts: int = 4
    """Neutral texts of the budget, and as many others to check it."""
    max_tokens: int = 24
    """Tokens of each of them."""
    learning_rate: float = 2e-4
    """At which the authors are learned."""
    n_learning_steps: int = 10
    """Steps in which they are learned, on all facts at once."""
    relearning_rates: tuple[float, ...] = (1e-5, 5e-5)
    """Learning rates of the attackers."""
    n_relearning_steps: int = 3
    """Steps of the attackers."""
    n_depth_layers: int = 4
    """Layers at which the depth score patches, spread over the model."""
    methods: tuple[str, ...] | None = None
    """Names of the methods to compare; all by default."""


HARD = UnlearningConfig(
    budgets=(0.05,),
    relearning_rates=(5e-5, 2e-4),
    n_relearning_steps=6,
    methods=("RepSelect", "TAR", "NPO"),
)
"""Attackers who learn as fast as the authors were learned, on the methods that forget most."""
TINY = UnlearningConfig(
    n_seeds=1,
    n_forget=2,
    n_retain=2,
    budgets=(0.5,),
    n_steps=2,
    learning_rate=5e-3,
    n_learning_steps=60,
    relearning_rates=(1e-3,),
    n_relearning_steps=2,
    n_depth_layers=2,
)
"""For a small random model: enough to see every part work, too little for the numbers."""


def methods(model: HookedModel, n_steps: int) -> dict[str, Method]:
    """The methods that are compared, by name."""
    third = max(1, model.n_layers // 3)
    return {
        "RepSelect": RepSelect(),
        "GradDiff": grad_diff(n_steps=n_steps),
        "NPO": npo(n_steps=n_steps),
        "SimNPO": simnpo(n_steps=n_steps),
        "RMU": rmu(third, length=2.0, n_steps=n_steps),
        "UNDIAL": undial(n_steps=n_steps),
        "TAR": Tar(n_inner=2, n_steps=n_steps),
        "MUDMAN": Mudman(n_steps=n_steps),
        "CIR": Cir(layers=tuple(range(third // 2, third + 1)), n_steps=n_steps),
    }


def run_unlearning_study(
    folder: str | Path,
    model: HookedModel,
    *,
    config: UnlearningConfig | None = None,
    seeds: Sequence[int] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where the models of each seed and the result of each cell are kept; two models take
            as much as the one given, for every seed.
        model: A language model that knows nothing of the authors.
        config: How much to run.
        seeds: Which seeds to run, all by default; the results hold what is there.
        progress: Show a progress bar.

    Raises:
        ValueError: If the folder holds results of another configuration.
    """
    config, folder = config or UnlearningConfig(), Path(folder)
    claim(folder, asdict(config))
    names = config.methods or tuple(methods(model, config.n_steps))
    wanted = range(config.n_seeds) if seeds is None else seeds
    with tqdm(
        total=len(wanted) * (1 + len(names) * len(config.budgets)), disable=not progress
    ) as bar:
        for seed in wanted:
            cells = [("none", 0.0), *((n, b) for b in config.budgets for n in names)]
            missing = [one for one in cells if not _path(folder, seed, *one).exists()]
            bar.update(len(cells) - len(missing))
            bench = _Bench(folder, model, config, seed) if missing else None
            for name, budget in missing:
                assert bench is not None
                bar.set_description(f"{name}, seed {seed}")
                cell = bench.cell(name, budget)
                write_json(_path(folder, seed, name, budget), cell)
                bar.update()
    return _collect(folder, config)


def to_frame(results: dict[str, Any]) -> pd.DataFrame:
    """One row for each cell, with means over the facts."""
    rows = [
        {key: np.mean(value) if isinstance(value, list) else value for key, value in cell.items()}
        for cell in results["cells"]
    ]
    return pd.DataFrame(rows)


def summarize(results: dict[str, Any], score: str, *, n_draws: int = 2000) -> pd.DataFrame:
    """Mean of a score over the facts of all seeds with a 95 % bootstrap interval.

    Args:
        results: What `run_unlearning_study` returned.
        score: One of the lists of a cell, or "drop": how much less of each held-out answer
            relearning brings back than it brings back in the model before unlearning.
        n_draws: Draws of the bootstrap, over facts within seeds.

    Returns:
        One row for each budget and method.
    """
    before = {
        cell["seed"]: np.array(cell["relearned"])
        for cell in results["cells"]
        if cell["method"] == "none"
    }
    facts: dict[tuple[float, str], list[np.ndarray]] = {}
    for cell in results["cells"]:
        if cell["method"] != "none":
            values = before[cell["seed"]] - cell["relearned"] if score == "drop" else cell[score]
            facts.setdefault((cell["budget"], cell["method"]), []).append(np.array(values, float))
    rng = np.random.default_rng(0)
    rows = []
    for (budget, method), seeds in facts.items():
        drawn = [rng.choice(part, (n_draws, len(part))) for part in seeds]
        draws = np.mean([np.nanmean(part, axis=1) for part in drawn], 0)
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        mean = float(np.mean([np.nanmean(part) for part in seeds]))
        rows.append({"budget": budget, "method": method, "mean": mean, "low": low, "high": high})
        rows[-1]["n_seeds"] = len(seeds)
    return pd.DataFrame(rows)


class _Bench:
    """The models and facts of one seed."""

    def __init__(
        self, folder: Path, model: HookedModel, config: UnlearningConfig, seed: int
    ) -> None:
        self._config, self._seed = config, seed
        self.task = author_task(config.n_forget, config.n_retain, seed=seed)
        self._base = self._learned(folder, model, "base", self.task.forget + self.task.retain)
        self._retrained = self._learned(folder, model, "retrained", self.task.retain)
        texts = [record.content for record in load_fixture("high_stakes")]
        self._texts = texts[: config.n_texts]
        others = texts[config.n_texts : 2 * config.n_texts]
        self._others = Disruption(self._base, others, max_tokens=config.max_tokens)
        step = self._base.n_layers / config.n_depth_layers
        self._layers = [round((k + 1) * step) - 1 for k in range(config.n_depth_layers)]

    def cell(self, name: str, budget: float) -> dict[str, Any]:
        """One method at one budget, unlearned and attacked; "none" is the model before."""
        start, found = time.process_time(), {"seed": self._seed, "method": name, "budget": budget}
        if name == "none":
            found |= {"kl": 0.0, "retrained": self._scores(self._retrained)}
            return found | self._scores(self._base) | _spent(start)
        method = methods(self._base, self._config.n_steps)[name]
        allowed = Budget(texts=tuple(self._texts), kl=budget, max_tokens=self._config.max_tokens)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the cell holds what the warning says
            done = unlearn(
                self._base,
                _examples(self.task.forget),
                _examples(self.task.retain),
                method=method,
                budget=allowed,
                seed=self._seed,
            )
        found |= {"kl": done.kl, "met": done.met, "stopped": done.stopped}
        found["seconds_unlearning"] = round(time.process_time() - start, 1)
        return found | self._scores(done.model) | _spent(start)

    def _scores(self, model: HookedModel) -> dict[str, Any]:
        task, config = self.task, self._config
        relearn, held = _examples(task.relearn), _examples(task.held)
        curves = [
            relearning_curve(
                model, relearn, held, rate=rate, n_steps=config.n_relearning_steps, seed=self._seed
            )
            for rate in config.relearning_rates
        ]
        best = np.concatenate(curves)
        suite = AttackSuite(
            relearn=relearn,
            held=held,
            retain=_examples(task.retain),
            base=self._base,
            retrained=self._retrained,
            attacks=(),
        )
        depth = unlearning_depth(model, self._base, self._retrained, held, layers=self._layers)
        scores = {
            "forget": probabilities(model, _examples(task.forget)),
            "retain": probabilities(model, suite.retain),
            "asked": curves[0][0],
            "relearned": best[best.mean(1).argmax()],
            "few_shot": few_shot().run(model, suite),
            "paraphrase": probabilities(model, [fact.paraphrase for fact in task.held]),
            "choice": probabilities(model, [fact.choice(self._seed) for fact in task.held]),
        }
        curve = [c.mean(1).tolist() for c in curves]
        return {
            **{name: values.tolist() for name, values in scores.items()},
            "depth": depth.by_example.tolist(),
            "held_kl": self._others.kl(model),
            "relearning_curves": curve,
        }

    def _learned(
        self, folder: Path, model: HookedModel, name: str, facts: Sequence[Fact]
    ) -> HookedModel:
        """A model that knows some facts, learned once and kept."""
        path = folder / f"seed-{self._seed}" / name
        if not (path / "config.json").exists():
            config = SftConfig(
                learning_rate=self._config.learning_rate,
                n_steps=self._config.n_learning_steps,
                batch_size=len(facts),
            )
            train_sft(model, _examples(facts), config=config, seed=self._seed).model.save(path)
        return load_model(path)


def _examples(facts: Sequence[Fact]) -> list[Example]:
    return [fact.example for fact in facts]


def _spent(start: float) -> dict[str, float]:
    return {"cpu_seconds": round(time.process_time() - start, 1)}


def _path(folder: Path, seed: int, method: str, budget: float) -> Path:
    return folder / f"seed-{seed}" / f"{method}-{budget:g}.json"


def _collect(folder: Path, config: UnlearningConfig) -> dict[str, Any]:
    """All cells that are there, as one file."""
    paths = sorted(folder.glob("seed-*/*-*.json"))
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    results = {"config": asdict(config), "cells": cells}
    write_json(folder / "results.json", results)
    return results
