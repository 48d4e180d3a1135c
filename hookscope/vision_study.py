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

import pandas as pd
import torch
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
    variants: tuple[tuple[str, float], ...] = ()
    """Methods that are run with their strength times a factor as well, so that they cost as much
    test accuracy as others; attacked without forgotten images only."""

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
    variants=(
        ("SCRUB", 0.5),
        ("circuit breakers", 2.0),
        ("NegGrad+", 0.5),
        ("SSD", 2.0),
        ("weight attenuation", 0.5),
        ("CBFT", 0.5),
        ("L1-sparse", 2.0),
        ("TAR", 0.5),
    ),
)
MNIST = Setting(
    images="mnist",
    n_train=1600,
    n_forget=120,
    n_attack=60,
    unlearn_epochs=20,
    attack_epochs=9,
    variants=(
        ("circuit breakers", 5.0),
        ("weight distortion", 0.7),
        ("SSD", 2.0),
        ("weight attenuation", 2.0),
        ("weight dropout", 0.7),
    ),
)
QUICK = replace(
    DIGITS,
    n_given=(0, 5),
    variants=(("NegGrad+", 0.5),),
    pretrain_epochs=20,
    unlearn_epochs=8,
    attack_epochs=4,
)
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
    parts = [_Part(folder / s.images, s, seeds, methods) for s in settings]
    bar = tqdm(total=sum(len(p.labels) for p in parts), disable=not progress, desc="relearning")
    rows: list[dict[str, Any]] = []
    for part in parts:
        for label in part.labels:
            rows += part.result(label)
            write_json(folder / "results.json", about | {"rows": rows})
            bar.update()
    return about | {"rows": rows}


class _Part:
    """One image set: its networks, and what each method does to them."""

    def __init__(
        self, folder: Path, setting: Setting, seeds: list[int], methods: Sequence[Method]
    ) -> None:
        self._folder, self._setting, self._seeds = folder, setting, seeds
        known = {method.name: method for method in methods}
        varied = [known[name].scaled(f) for name, f in setting.variants if name in known]
        self._methods = {method.label: method for method in (*methods, *varied)}
        self._made: tuple[Task, Networks, Networks] | None = None

    @property
    def labels(self) -> list[str]:
        """The references, then the methods."""
        return [*REFERENCES, *self._methods]

    def result(self, label: str) -> list[dict[str, Any]]:
        """Rows of one method, from its file if there is one."""
        path = self._folder / f"{label}.json"
        if not path.exists():
            start = time.process_time()
            task, base, _ = self._networks()
            setting, factor = self._setting, 1.0
            if label not in REFERENCES and (factor := self._methods[label].factor) != 1:
                setting = replace(setting, n_given=(0,))
            columns = _measured(self._forgotten(label), base, task, setting, self._seeds)
            about = {
                "images": setting.images,
                "method": label if label in REFERENCES else self._methods[label].name,
                "factor": factor,
                "cpu_seconds": time.process_time() - start,
            }
            numbered = pd.DataFrame(columns).assign(seed=self._seeds, **about)
            write_json(path, numbered.to_dict("records"))
        return json.loads(path.read_text(encoding="utf-8"))

    def _forgotten(self, label: str) -> Networks:
        task, base, retrained = self._networks()
        if label in REFERENCES:
            return retrained if label == "retrained" else base
        method = self._methods[label]
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
