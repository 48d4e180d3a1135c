"""The relearning study: what images that were forgotten, and what it takes to bring them back.

For each image set, networks of many seeds learn everything; those images that they memorize most
are forgotten by every method, and the gold standard never sees them. Then an attacker trains on
retained images and on a few forgotten ones. The networks of an image set and the result of each
method are files of their own, so that an interrupted study goes on where it stopped.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from hookscope.study_folder import claim, write_json
from interp.core.files import load_tensors, save_tensors
from interp.training.optimizers import cosine_decay
from interp.training.vision import (
    METHODS,
    PRETRAINING,
    Cnn,
    Method,
    Networks,
    Schedules,
    Task,
    accuracy,
    distance,
    draw_train,
    forget_highest,
    linear_path,
    load_images,
    memorization,
    reestimate,
    relearn,
    train_on,
    unlearn,
)
from interp.training.vision.tasks import ImageSet
from interp.training.vision.training import cross_entropy_on_retain, decayed
from steering.statistics import Estimate, mean_estimate

SCHEMA = "vision study"
REFERENCES = ("retrained", "nothing")
"""The gold standard, and networks that forget nothing."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes for one image set."""

    images: ImageSet
    """Which images."""
    n_train: int
    """Training images."""
    n_forget: int
    """How many of them are forgotten."""
    n_attack: int
    """How many of these may be given to attackers."""
    n_given: tuple[int, ...] = (0, 1, 5, 10, 50)
    """Forgotten images that attackers are given."""
    pretrain_epochs: int = PRETRAINING.n_epochs
    """Passes in training and retraining."""
    unlearn_epochs: int
    """Passes in forgetting."""
    attack_epochs: int
    """Passes of an attacker."""
    lr: float = 4e-4
    """Step size of forgetting and of attackers."""

    @property
    def cnn(self) -> Cnn:
        """The network."""
        return Cnn() if self.images == "digits" else Cnn(side=14, stride=2)

    @property
    def pretraining(self) -> Schedules:
        """How networks are trained and retrained."""
        return replace(PRETRAINING, n_epochs=self.pretrain_epochs)

    @property
    def forgetting(self) -> Schedules:
        """How methods train."""
        return Schedules(n_epochs=self.unlearn_epochs, lr=self.lr)

    @property
    def attack(self) -> Schedules:
        """How attackers train."""
        return Schedules(n_epochs=self.attack_epochs, lr=self.lr, schedule=cosine_decay)


DIGITS = Setting(
    images="digits",
    n_train=1078,
    n_forget=80,
    n_attack=50,
    unlearn_epochs=30,
    attack_epochs=15,
)
MNIST = Setting(
    images="mnist",
    n_train=1600,
    n_forget=120,
    n_attack=60,
    unlearn_epochs=20,
    attack_epochs=9,
)
QUICK = replace(DIGITS, n_given=(0, 5), pretrain_epochs=20, unlearn_epochs=8, attack_epochs=4)
"""Every part, too small for the numbers."""


def run_vision_study(
    folder: str | Path,
    *,
    settings: Sequence[Setting] = (DIGITS, MNIST),
    n_runs: int = 10,
    seed: int = 0,
    methods: Sequence[Method] = METHODS,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where networks and results are kept.
        settings: Image sets and their sizes.
        n_runs: Seeds, each with its own split, forgotten images and networks.
        seed: The first of them.
        methods: How to forget.
        progress: Show a progress bar.

    Raises:
        ValueError: If the folder holds a study with other choices.
        FileNotFoundError: If the images are not there.
    """
    folder, seeds = Path(folder), list(range(seed, seed + n_runs))
    about = {"seeds": seeds, "settings": [asdict(setting) for setting in settings]}
    claim(folder, about)
    names = [*REFERENCES, *(method.name for method in methods)]
    bar = tqdm(total=len(settings) * len(names), disable=not progress, desc="relearning")
    rows: list[dict[str, Any]] = []
    for setting in settings:
        part = _Part(folder / setting.images, setting, seeds, methods)
        for name in names:
            rows += part.result(name)
            write_json(folder / "results.json", about | {"rows": rows})
            bar.update()
    return about | {"rows": rows}


class _Part:
    """One image set: its networks, and what each method does to them."""

    def __init__(
        self, folder: Path, setting: Setting, seeds: list[int], methods: Sequence[Method]
    ) -> None:
        self._folder, self._setting, self._seeds = folder, setting, seeds
        self._methods = {method.name: method for method in methods}
        self._made: tuple[Task, Networks, Networks] | None = None

    def result(self, name: str) -> list[dict[str, Any]]:
        """Rows of one method, from its file if there is one."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            start = time.process_time()
            task, base, _ = self._networks()
            columns = _measured(self._forgotten(name), base, task, self._setting, self._seeds)
            seconds = time.process_time() - start
            about = {"images": self._setting.images, "method": name, "cpu_seconds": seconds}
            numbered = pd.DataFrame(columns).assign(seed=self._seeds, **about)
            write_json(path, numbered.to_dict("records"))
        return json.loads(path.read_text(encoding="utf-8"))

    def _forgotten(self, name: str) -> Networks:
        task, base, retrained = self._networks()
        if name in REFERENCES:
            return retrained if name == "retrained" else base
        method = self._methods[name]
        begin = None if method.after is None else self._forgotten(method.after)
        how = self._setting.forgetting
        return unlearn(base, task, method, how=how, begin=begin, seeds=self._seeds).networks

    def _networks(self) -> tuple[Task, Networks, Networks]:
        """The task, networks that learned everything, and networks that never saw some of it."""
        if self._made is None:
            path = self._folder / "networks.safetensors"
            if not path.exists():
                header = {"schema": SCHEMA}
                save_tensors(path, _trained(self._setting, self._seeds), header)
            found, _ = load_tensors(path, schema=SCHEMA)
            task = Task(
                images=load_images(self._setting.images),
                n_attack=self._setting.n_attack,
                **{part: found[part] for part in ("retain", "forget", "test")},
            )
            base, retrained = (
                Networks(
                    cnn=self._setting.cnn,
                    weights=found[f"{name} weights"],
                    statistics=found[f"{name} statistics"],
                )
                for name in ("base", "retrained")
            )
            self._made = task, base, retrained
        return self._made


def _trained(setting: Setting, seeds: list[int]) -> dict[str, torch.Tensor]:
    """The split of each run, trained networks, and networks retrained from the same first ones."""
    images, cnn = load_images(setting.images), setting.cnn
    train, test = draw_train(len(images), setting.n_train, seeds=seeds)
    scores = memorization(cnn, images, train, seeds=seeds)
    sizes = {"n_forget": setting.n_forget, "n_attack": setting.n_attack}
    task = forget_highest(images, train, test, scores, seeds=seeds, **sizes)
    loss, first = decayed(cross_entropy_on_retain, 1e-4), cnn.draw(seeds)
    found = {part: getattr(task, part) for part in ("retain", "forget", "test")}
    for name, rows in (("base", task.train), ("retrained", task.retain)):
        networks = train_on(
            first, images, list(rows), setting.pretraining, loss=loss, seeds=seeds
        ).networks
        found |= {f"{name} weights": networks.weights, f"{name} statistics": networks.statistics}
    return found


def _measured(
    networks: Networks, base: Networks, task: Task, setting: Setting, seeds: list[int]
) -> dict[str, list[float]]:
    """Columns with a value for each run."""
    parts = {"retain": task.retain, "test": task.test, "held": task.held}
    columns = {name: accuracy(networks, task.images, rows) for name, rows in parts.items()}
    again = reestimate(networks, task.images, task.retain)
    columns["held, statistics again"] = accuracy(again, task.images, task.held)
    columns["distance"] = distance(base, networks)
    columns["barrier"] = linear_path(base, networks, task.images, task.train).barrier
    attacks = relearn(networks, task, n_given=setting.n_given, how=setting.attack, seeds=seeds)
    for n, held, test in zip(attacks.n_given, attacks.held, attacks.test, strict=True):
        columns |= {f"held after {n}": held, f"test after {n}": test}
    return {name: values.tolist() for name, values in columns.items()}


def with_excess(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the rebound of each run, and with what it recovers beyond the retrained network.

    Adds `rebound` (accuracy on held-out forgotten images after the attack without any of them,
    minus before), `excess` (the same accuracy after the attack, minus that of the retrained network
    after the same attack) and `test loss` (test accuracy of the retrained network, minus its own).
    """
    frame = rows.assign(rebound=rows["held after 0"] - rows["held"])
    gold = frame[frame["method"] == "retrained"].set_index(["images", "seed"])
    beside = gold.loc[list(zip(frame["images"], frame["seed"], strict=True))]
    frame["excess"] = frame["held after 0"] - beside["held after 0"].to_numpy()
    frame["test loss"] = beside["test"].to_numpy() - frame["test"]
    return frame


def summarize(rows: pd.DataFrame, columns: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Mean over seeds of each column, with an interval, for each image set and method."""
    found = []
    for _, group in rows.groupby(["images", "method"], sort=False):
        about = {name: group[name].iloc[0] for name in ("images", "method")}
        for column in columns:
            estimate = mean_estimate(group[column].to_numpy(), seed=seed)
            found.append(about | {"quantity": column} | estimate.to_dict())
    return pd.DataFrame(found)


def resistance_correlation(rows: pd.DataFrame, column: str, *, seed: int = 0) -> Estimate:
    """Rank correlation over methods of a column with resistance, its mean over the seeds.

    Resistance is minus the accuracy that the attack without forgotten images brings to those that
    are held out. References are left out.
    """
    found = []
    for _, group in rows[~rows["method"].isin(REFERENCES)].groupby("seed"):
        found.append(spearmanr(group[column], -group["held after 0"])[0])
    return mean_estimate(np.array(found), seed=seed)
