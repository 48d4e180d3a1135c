"""The toxicity study: preference training, what it changed, and what else changes as much.

Each part is written to a file of its own as soon as it is done, so that an interrupted study goes
on with the next; training goes on from its last checkpoint.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hookscope.toxicity.directions import (
    hits,
    main_directions,
    neuron_scores,
    probe_direction,
    probe_quality,
    random_direction,
    top_neurons,
)
from hookscope.toxicity.materials import Materials, Sizes, token_ids
from hookscope.toxicity.methods import (
    Method,
    WeightChange,
    ablation,
    gated_ablation,
    matched,
    shrinkage,
    subtraction,
    tuning_free,
)
from hookscope.toxicity.scoring import Judge, ToxicityClassifier, fit_classifier, next_logprobs
from interp import Activations, Direction, HookedModel, extract, generate
from interp.attribution import (
    GROUPS,
    Cell,
    NeuronChange,
    align,
    align_vectors,
    attribute_change,
    patch_groups,
    same_texts,
    token_mass,
    value_vectors,
)
from interp.core.files import write_atomically
from interp.core.seeds import derive
from interp.training import DpoConfig, Preference, train_dpo

SHUFFLED, ALL_MAPS = "shuffled", "all maps"
"""The run whose preferences were turned around at random, and the one with adapters everywhere."""


@dataclass(frozen=True, kw_only=True)
class ToxicityConfig:
    """How much of the study to run; the defaults run all of it."""

    sizes: Sizes = field(default_factory=Sizes)
    """How many texts."""
    training: DpoConfig = field(
        default_factory=lambda: DpoConfig(
            learning_rate=1e-4,
            n_steps=20,
            lora_rank=16,
            lora_targets=("gate_proj", "up_proj"),
            warmup=4,
            checkpoint_every=5,
        )
    )
    """Settings of training. Adapters sit where neurons read, so that all that training does passes
    through activations, of which the published attribution speaks; value vectors stay. One run has
    adapters on all maps and a third of the learning rate, to see what that leaves out."""
    n_seeds: int = 2
    """Training runs of that kind, beside one on shuffled preferences and one on all maps."""
    n_top: int = 128
    """How many most toxic neurons are looked at."""
    n_random: int = 20
    """Random directions behind the null of the groups."""
    seed: int = 0
    """Seed of the draws."""


QUICK = ToxicityConfig(
    sizes=Sizes(
        n_comments=80,
        n_preferences=8,
        n_prompts=8,
        n_calibration=4,
        n_continued=4,
        n_neutral=2,
        n_words=16,
    ),
    training=DpoConfig(
        learning_rate=1e-3,
        lora_rank=2,
        lora_targets=("gate_proj", "up_proj"),
        n_steps=3,
        batch_size=2,
        warmup=1,
        checkpoint_every=3,
    ),
    n_seeds=1,
    n_top=16,
    n_random=2,
)
"""Enough to see every part work, too little for the numbers."""


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
    study = Study(model, materials, folder, config, progress)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "probes": study.probes,
        "training": study.training,
        "neurons": study.neurons,
        "groups": study.groups,
        "patching": study.patching,
        "methods": study.methods,
    }
    if contrast is not None:
        parts["contrast"] = lambda: study.contrast(contrast)
    if unknown := set(only or ()) - set(parts):
        raise ValueError(f"no parts {sorted(unknown)}: needed some of {list(parts)}")
    found: dict[str, Any] = {}
    for name, run in parts.items():
        if only is not None and name not in only:
            continue
        path = folder / f"{name}.json"
        if not path.exists():
            start = time.process_time()
            result = run() | {"cpu_seconds": round(time.process_time() - start, 1)}
            write_atomically(path, json.dumps(result, indent=1).encode())
        found[name] = json.loads(path.read_text(encoding="utf-8"))
        write_atomically(
            folder / "results.json", json.dumps({"config": about, **found}, indent=1).encode()
        )
    return {"config": about, **found}


class Study:
    """The parts, and what several of them need, made when it is first asked for."""

    def __init__(
        self,
        model: HookedModel,
        materials: Materials,
        folder: Path,
        config: ToxicityConfig,
        progress: bool,
    ) -> None:
        """Keep what the parts read."""
        self.model, self.materials, self.folder = model, materials, folder
        self.config, self._progress = config, progress
        self.ids = token_ids(model, materials.words)
        self.shown, self.held_out = (token_ids(model, materials.words[k::2]) for k in (0, 1))
        self.runs = [*(f"seed {k}" for k in range(config.n_seeds)), SHUFFLED, ALL_MAPS]

    @cached_property
    def comments(self) -> tuple[Activations, Activations]:
        """Pooled activations of the comments at all layers: of training, and of the test."""
        found = []
        for name in ("comments", "test_comments"):
            path = self.folder / f"{name}.safetensors"
            if not path.exists():
                records = getattr(self.materials, name)
                extract(self.model, records, pooling="mean", progress=self._progress).save(path)
            found.append(Activations.load(path))
        return found[0], found[1]

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """Directions of toxicity by name."""
        return main_directions(self.model, self.comments[0], self.ids)

    @cached_property
    def judge(self) -> Judge:
        """What scores every change."""
        return Judge(
            self.model,
            self.materials,
            self.classifier,
            self.ids,
            self.held_out,
            n_continued=self.config.sizes.n_continued,
            seed=self.config.seed,
        )

    @cached_property
    def classifier(self) -> ToxicityClassifier:
        """What scores continuations."""
        return fit_classifier(self.materials.other_comments, self.materials.test_comments)

    @cached_property
    def trained(self) -> dict[str, HookedModel]:
        """The model after each training run."""
        found = {}
        self.histories: dict[str, dict[str, Any]] = {}
        for name in self.runs:
            result = train_dpo(
                self.model,
                self._preferences(name),
                config=self._training(name),
                seed=derive(self.config.seed, name),
                checkpoint=self.folder / "checkpoints" / f"{name}.pt",
                progress=self._progress,
            )
            found[name] = result.model
            end = slice(-max(1, len(result.loss) // 10), None)
            self.histories[name] = {
                "loss": result.loss.tolist(),
                "first_loss": float(result.loss[0]),
                "last_margin": float(result.margin[end].mean()),
                "last_accuracy": float(result.accuracy[end].mean()),
            }
        return found

    @cached_property
    def changes(self) -> dict[str, NeuronChange]:
        """Every neuron's change in each run, along the published direction."""
        first = next(iter(self.directions.values()))
        written = generate(self.model, self.materials.prompts, max_new_tokens=16, temperature=1.0)
        texts = [p + t for p, t in zip(self.materials.prompts, written.texts, strict=True)]
        return {
            name: attribute_change(self.model, after, first, texts)
            for name, after in self.trained.items()
        }

    def probes(self) -> dict[str, Any]:
        """The classifier, the words, and probes at every layer."""
        train, test = self.comments
        records = self.materials.comments, self.materials.test_comments
        texts = [np.array([r.content for r in part], object) for part in records]
        return {
            "classifier": self.classifier.quality,
            "n_words": len(self.materials.words),
            "n_tokens": len(self.ids),
            **probe_quality(train, test, (texts[0], texts[1])),
        }

    def training(self) -> dict[str, Any]:
        """Each run: its losses, and what it did to the model."""
        scores = {}
        for name, after in self.trained.items():
            change = WeightChange.between(self.model, after)
            cost = self.judge.cost(change)
            scores[name] = self.judge.scores(change) | {"calibration_kl": cost}
        runs = {name: self.histories[name] | scores[name] for name in self.runs}
        return {"before": self.judge.before, "runs": runs}

    def neurons(self) -> dict[str, Any]:
        """Which value vectors write toxic words, by each score, beside random neurons."""
        return _toxic_neurons(
            self.model, next(iter(self.directions.values())), self.shown, self.ids
        )

    def groups(self) -> dict[str, Any]:
        """Shares of the groups by run and direction, with their nulls."""
        first = next(iter(self.directions))
        table = []
        for run, change in self.changes.items():
            vectors = self._value_vectors(run)
            for name, direction in self.directions.items():
                along = self._along(change, vectors, direction)
                table.append({"run": run, "direction": name, **self._shares(along)})
                if name == first:
                    ends = along.intervals(n_resamples=100)
                    table[-1]["intervals"] = {g: list(ends[g]) for g in GROUPS}
        vectors = self._value_vectors("seed 0")
        null = [
            self._shares(self._along(self.changes["seed 0"], vectors, chance))
            for chance in self._random_directions(self.config.n_random)
        ]
        reductions = [self.changes[run].reduction.ravel() for run in self.runs]
        return {
            "rows": table,
            "random_directions": null,
            "correlation_between_runs": dict(
                zip(self.runs, np.corrcoef(reductions)[0].tolist(), strict=True)
            ),
        }

    def patching(self) -> dict[str, Any]:
        """Activations of the trained model put into the base model, and back."""
        after, change = self.trained["seed 0"], self.changes["seed 0"]
        pairs, metric = same_texts(self.model, self.materials.prompts), token_mass(self.ids)
        groups = self._patched(change)
        there = patch_groups(self.model, pairs, metric, groups, source_model=after)
        few = {k: groups[k] for k in ("all neurons", "reducing", "TP reducing", "most toxic")}
        back = patch_groups(after, pairs, metric, few, source_model=self.model)
        return {
            "into_base": there.to_frame().to_dict("records"),
            "into_trained": back.to_frame().to_dict("records"),
            "n_neurons": {k: sum(len(c.units or ()) for c in cells) for k, cells in groups.items()},
        }

    def methods(self) -> dict[str, Any]:
        """Every method at the divergence of the first run, and the published edit as it is."""
        budget = self.judge.cost(WeightChange.between(self.model, self.trained["seed 0"]))
        rows, methods = {}, self._methods()
        for name, (method, start) in methods.items():
            strength = matched(lambda s, m=method: self.judge.cost(m(s)), budget, start=start)
            rows[name] = {"strength": strength, **self.judge.scores(method(strength))}
        published = methods["tuning-free edit"][0](0.5)
        return {
            "budget": budget,
            "rows": rows,
            "published_edit": self.judge.scores(published),
        }

    def contrast(self, other: HookedModel) -> dict[str, Any]:
        """Toxic neurons of another model, and what their ablation does beside random neurons."""
        train = extract(other, self.materials.comments, layers=other.n_layers - 1, pooling="mean")
        direction = probe_direction(train, other.n_layers - 1)
        ids = token_ids(other, self.materials.words)
        shown = token_ids(other, self.materials.words[::2])
        found = _toxic_neurons(other, direction, shown, ids)
        scores = neuron_scores(other, align(other, direction).cosine, shown)
        plain = np.exp(next_logprobs(other, self.materials.prompts).numpy()[:, ids]).sum(1)
        masses = {}
        for name, values in scores.items():
            with other.intervene(ablation(values)(self.config.n_top)):
                changed = next_logprobs(other, self.materials.prompts).numpy()[:, ids]
            masses[name] = float(np.exp(changed).sum() / plain.sum())
        return {"model": other.name, "mass": float(plain.mean()), "ablated": masses, **found}

    def _methods(self) -> dict[str, tuple[Method, float]]:
        """Each method with a strength to begin with."""
        first = next(iter(self.directions.values()))
        sides = align(self.model, first)
        mean = self.changes["seed 0"].before.mean(0)
        scores = neuron_scores(self.model, sides.cosine, self.shown)
        found: dict[str, tuple[Method, float]] = {}
        shuffled = WeightChange.between(self.model, self.trained[SHUFFLED])
        found[f"DPO, {SHUFFLED}"] = (shuffled.scaled, 1.0)
        for name, values in scores.items():
            found[f"ablated neurons, {name}"] = (ablation(values), 32.0)
        found["ablated where toxic, vocabulary"] = (gated_ablation(scores["vocabulary"]), 32.0)
        for name in (next(iter(self.directions)), *list(self.directions)[-2:]):
            found[f"subtracted {name}"] = (subtraction(self.directions[name]), 8.0)
        (chance,) = self._random_directions(1)
        found["subtracted random direction"] = (subtraction(chance), 8.0)
        found["tuning-free edit"] = (tuning_free(sides, mean), 0.02)
        found["all activations shrunk"] = (shrinkage(self.model.n_layers), 0.05)
        return found

    def _value_vectors(self, run: str) -> tuple[list[Tensor], list[Tensor]]:
        """Value vectors of each layer, before and after a run."""
        models = self.model, self.trained[run]
        layers = range(self.model.n_layers)
        before, after = ([value_vectors(model, layer) for layer in layers] for model in models)
        return before, after

    def _along(
        self, change: NeuronChange, vectors: tuple[list[Tensor], list[Tensor]], direction: Direction
    ) -> NeuronChange:
        before, after = (align_vectors(side, direction) for side in vectors)
        return change.along(before, after)

    def _random_directions(self, n: int) -> list[Direction]:
        like = next(iter(self.directions.values()))
        return [random_direction(like, seed) for seed in range(n)]

    def _shares(self, change: NeuronChange) -> dict[str, Any]:
        """What is said of one change along one direction, and of uniform shrinkage."""
        groups = change.groups()
        toxic = top_neurons(np.where(change.cosine > 0, change.cosine, 0), self.config.n_top)
        return {
            "reductions": dict(groups.reductions),
            "shares": groups.shares,
            "shrunk": change.shrunk().groups().shares,
            "balance": groups.balance,
            "share_reducing": sum(groups.n_reducing.values()) / change.cosine.size,
            "share_of_dampened": change.share_of(change.dampened(self.config.n_top)),
            "share_of_most_aligned": change.share_of(toxic),
        }

    def _patched(self, change: NeuronChange) -> dict[str, tuple[Cell, ...]]:
        """Groups of neurons to patch, each beside random ones of its size."""
        scores = neuron_scores(self.model, change.cosine, self.shown)
        reducing = change.reduction > 0
        masks = {
            "all neurons": np.ones_like(reducing),
            "reducing": reducing,
            "increasing": ~reducing,
            **{f"{g} reducing": change.group(g) & reducing for g in GROUPS},
            "dampened": change.dampened(self.config.n_top),
            "most toxic": top_neurons(scores["vocabulary"], self.config.n_top),
            "largest change": top_neurons(change.reduction, self.config.n_top),
        }
        rng = np.random.default_rng(derive(self.config.seed, "random group"))
        for k in range(2):
            masks[f"random {k}"] = top_neurons(rng.normal(size=reducing.shape), self.config.n_top)
        size = int(masks["TP reducing"].sum())
        masks["random, as many as TP reducing"] = top_neurons(rng.normal(size=reducing.shape), size)
        half = int(reducing.sum())
        masks["random, as many as reducing"] = top_neurons(rng.normal(size=reducing.shape), half)
        cells = {name: change.cells(mask) for name, mask in masks.items()}
        layers = range(self.model.n_layers)
        outputs = tuple(Cell(site="mlp_out", layer=layer) for layer in layers)
        attention = tuple(Cell(site="attn_out", layer=layer) for layer in layers)
        return cells | {"MLP outputs": outputs, "attention outputs": attention}

    def _training(self, run: str) -> DpoConfig:
        given = self.config.training
        if run != ALL_MAPS:
            return given
        return replace(given, lora_targets=None, learning_rate=given.learning_rate / 3)

    def _preferences(self, run: str) -> list[Preference]:
        """The preferences of a run; of the shuffled one half of them are turned around."""
        given = list(self.materials.preferences)
        if run != SHUFFLED:
            return given
        turned = np.random.default_rng(derive(self.config.seed, SHUFFLED)).permutation(len(given))
        for k in turned[: len(given) // 2]:
            one = given[k]
            given[k] = Preference(prompt=one.prompt, chosen=one.rejected, rejected=one.chosen)
        return given


def _toxic_neurons(
    model: HookedModel, direction: Direction, shown: np.ndarray, ids: np.ndarray
) -> dict[str, Any]:
    """The top neurons of each score, and how many of their ten tokens are toxic."""
    scores = neuron_scores(model, align(model, direction).cosine, shown)
    rows = {name: hits(model, values, ids) for name, values in scores.items()}
    return {
        "tokens_of_ten": {
            name: float(np.mean([len(row["toxic_tokens"]) for row in found]))
            for name, found in rows.items()
        },
        "top": {name: found[:8] for name, found in rows.items()},
    }


def _check_folder(folder: Path, about: dict[str, Any]) -> None:
    path, wanted = folder / "config.json", json.loads(json.dumps(about))
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=1).encode())
    elif json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise ValueError(f"{folder} holds a study with other choices; use another folder")
