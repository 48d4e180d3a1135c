"""The HyperForget study: sampled classifiers that never knew a class, and attacks on them.

For each image set, one hypernetwork is asked for two losses of a fixed class, and one for a loss of
every class. Each is a file of its own, so that an interrupted study goes on with the next.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hookscope.study_folder import claim, kept, write_json
from interp.core.seeds import derive, generator
from interp.training.hyperforget import (
    DiffusionConfig,
    HyperNetwork,
    Mlp,
    RunBank,
    Split,
    alignment,
    disagreement,
    distance_to_bank,
    each_class,
    forget_and_retain,
    forget_retain_accuracy,
    membership_auroc,
    nearest_in_bank,
    relearn_class,
    train_bank,
    train_hypernetwork,
)
from interp.training.hyperforget.bank import Prompt
from interp.training.vision import load_images
from interp.training.vision.tasks import ImageSet
from steering.statistics import mean_estimate

NETWORKS = ("two losses", "each class")
"""The two hypernetworks."""


@dataclass(frozen=True, kw_only=True)
class HyperForgetConfig:
    """How much of the study to run."""

    images: tuple[ImageSet, ...] = ("digits", "mnist")
    """Image sets."""
    train_share: float = 0.6
    """Share of the images that classifiers train on."""
    class_: int = 3
    """The class of the network that is asked for two losses."""
    classes: tuple[int, ...] = tuple(range(10))
    """Classes that the other network is asked to forget."""
    n_runs: int = 120
    """Runs in the bank of the first network; that of the second has twice as many."""
    n_samples: int = 16
    """Classifiers sampled for each class."""
    n_given: tuple[int, ...] = (0, 10)
    """Images of the class that attackers are given."""
    attack_steps: int = 200
    """Steps of an attack."""
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    """The hypernetworks."""
    seed: int = 0
    """Seed of everything."""


QUICK = HyperForgetConfig(
    images=("digits",),
    classes=(0, 3),
    n_runs=40,
    n_samples=8,
    n_given=(0, 10),
    diffusion=DiffusionConfig(d_model=32, n_layers=1, n_steps=150),
)
"""Every part, too small for the numbers."""


def run_hyperforget_study(
    folder: str | Path, *, config: HyperForgetConfig | None = None, progress: bool = False
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where the results of each part are kept.
        config: How much to run.
        progress: Show progress bars.

    Raises:
        ValueError: If the folder holds a study with other choices.
        FileNotFoundError: If the images are not there.
    """
    config, folder = config or HyperForgetConfig(), Path(folder)
    choices = claim(folder, asdict(config))
    found: dict[str, Any] = {"config": choices, "parts": {}}
    for images in config.images:
        for name in NETWORKS:
            compute = partial(_part, images, name, config, progress)
            part = f"{images}, {name}"
            found["parts"][part] = kept(folder / f"{part}.json", compute)
            write_json(folder / "results.json", found)
    return found


def image_split(images: ImageSet, train_share: float, *, seed: int = 0) -> Split:
    """An image set as rows, in random halves."""
    loaded = load_images(images)
    order = torch.randperm(len(loaded), generator=generator(seed, "split"))
    x, y = loaded.pixels.flatten(1)[order], loaded.labels[order]
    n = round(train_share * len(loaded))
    return Split(train_x=x[:n], train_y=y[:n], test_x=x[n:], test_y=y[n:])


def _part(images: ImageSet, name: str, config: HyperForgetConfig, progress: bool) -> dict[str, Any]:
    """One hypernetwork: its bank, its training, and the classes that it is asked to forget."""
    split = image_split(images, config.train_share, seed=config.seed)
    mlp = Mlp(d_in=split.train_x.shape[1])
    two = name == "two losses"
    classes = (config.class_,) if two else tuple(range(10))
    n_runs = config.n_runs if two else 2 * config.n_runs
    bank = train_bank(split, mlp=mlp, classes=classes, n_runs=n_runs, seed=config.seed)
    prompt = forget_and_retain(config.class_) if two else each_class
    held = bank.run >= n_runs * 9 // 10
    network = train_hypernetwork(
        bank[~held], prompt, config=config.diffusion, seed=config.seed, progress=progress
    )
    wanted = config.classes if not two else (config.class_,)
    return {
        "n_checkpoints": len(bank),
        "n_parameters": mlp.n_parameters,
        "alignment": _aligned(network, bank[~held], bank[held], prompt, split),
        "classes": [_forgotten(network, bank, prompt, split, c, config) for c in wanted],
        "denoising_loss": network.loss[-50:].mean().item(),
    }


def _aligned(
    network: HyperNetwork, known: RunBank, held: RunBank, prompt: Prompt, split: Split
) -> dict[str, Any]:
    """Losses of runs that were held out, asked for and obtained, beside what a look-up gives."""
    wanted = prompt(held.losses)
    drawn = network.sample(wanted, seed=derive(0, "alignment"))
    found = prompt(held.mlp.class_losses(drawn, split.train_x, split.train_y))
    shuffled = wanted[torch.randperm(len(wanted), generator=generator(0, "shuffled"))]
    nearest = prompt(known.losses)[nearest_in_bank(known, prompt, wanted)]
    apart = {"sampled": drawn, "held out": held.weights}
    return {
        "r2": alignment(wanted, found).tolist(),
        "r2 of shuffled prompts": alignment(shuffled, found).tolist(),
        "r2 of the nearest in the bank": alignment(wanted, nearest).tolist(),
        "distance to the bank": {
            name: mean_estimate(distance_to_bank(weights, known)).to_dict()
            for name, weights in apart.items()
        },
        "prompted": wanted[:, :2].tolist(),
        "obtained": found[:, :2].tolist(),
    }


def _forgotten(
    network: HyperNetwork,
    bank: RunBank,
    prompt: Prompt,
    split: Split,
    class_: int,
    config: HyperForgetConfig,
) -> dict[str, Any]:
    """Classifiers that were to forget a class, beside retrained ones and ones that know it."""
    retrained = bank.retrained(class_)
    knowing = bank[(bank.step == bank.step.max()) & (bank.weight > 0.3)]
    groups = {"retrained": retrained.weights, "knowing": knowing.weights}
    for name, model in (("sampled", retrained), ("asked to know", knowing)):
        wanted = prompt(model.losses).median(0).values.expand(config.n_samples, -1)
        groups[name] = network.sample(wanted, seed=derive(config.seed, "sample", class_))
    return {"class": class_} | {
        name: _measured(network.mlp, weights[: config.n_samples], split, class_, config)
        for name, weights in groups.items()
    }


def _measured(
    mlp: Mlp, weights: torch.Tensor, split: Split, class_: int, config: HyperForgetConfig
) -> dict[str, Any]:
    """Mean and interval of each quantity over classifiers."""
    forget, retain = forget_retain_accuracy(mlp, weights, split, class_)
    found = {
        "forget": forget,
        "retain": retain,
        "membership": membership_auroc(mlp, weights, split, class_),
    }
    seeds = [derive(config.seed, "attack", run) for run in range(len(weights))]
    for n in config.n_given:
        after = relearn_class(
            mlp, weights, split, class_, n_given=n, n_steps=config.attack_steps, seeds=seeds
        )
        found[f"forget after {n}"] = forget_retain_accuracy(mlp, after, split, class_)[0]
    estimates = {key: mean_estimate(values).to_dict() for key, values in found.items()}
    return estimates | {"disagreement": disagreement(mlp, weights, split.test_x)}
