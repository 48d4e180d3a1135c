"""What several parts of the toxicity study need, made when it is first asked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hookscope.study_folder import kept
from hookscope.toxicity.config import ALL_MAPS, SHUFFLED, ToxicityConfig
from hookscope.toxicity.directions import main_directions, random_direction
from hookscope.toxicity.hub_classifier import HubClassifier
from hookscope.toxicity.materials import Materials, token_ids
from hookscope.toxicity.scoring import Judge, ToxicityClassifier, fit_classifier
from interp import Activations, Direction, HookedModel, extract, generate
from interp.attribution import NeuronChange, align_vectors, attribute_change, value_vectors
from interp.core.seeds import derive
from interp.training import DpoConfig, Preference, TrainingResult, train_dpo


class Shared:
    """A model, its texts, and what is made of them."""

    def __init__(
        self,
        model: HookedModel,
        materials: Materials,
        folder: Path,
        config: ToxicityConfig,
        *,
        second_judge: HubClassifier | None = None,
        progress: bool = False,
    ) -> None:
        """Keep what the parts read.

        Args:
            model: The model before training.
            materials: The texts.
            folder: Where activations, checkpoints and results are kept.
            config: How much to run.
            second_judge: A published classifier that scores continuations too.
            progress: Show progress bars.
        """
        self.model, self.materials, self.folder = model, materials, folder
        self.config, self.progress = config, progress
        self._second_judge = second_judge
        self.ids = token_ids(model, materials.words)
        self.shown, self.held_out = (token_ids(model, materials.words[k::2]) for k in (0, 1))
        self.runs = [*(f"seed {k}" for k in range(config.n_seeds)), SHUFFLED, ALL_MAPS]
        self._trained: dict[str, TrainingResult] = {}
        self._changes: dict[str, NeuronChange] = {}

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A result from its file, or made now and written there with its CPU seconds."""
        return kept(self.folder / f"{name}.json", make)

    @cached_property
    def comments(self) -> tuple[Activations, Activations]:
        """Pooled activations of the comments at all layers: of training, and of the test."""
        found = []
        for name in ("comments", "test_comments"):
            path = self.folder / f"{name}.safetensors"
            if not path.exists():
                records = getattr(self.materials, name)
                extract(self.model, records, pooling="mean", progress=self.progress).save(path)
            found.append(Activations.load(path))
        return found[0], found[1]

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """Directions of toxicity by name."""
        return main_directions(self.model, self.comments[0], self.ids)

    @property
    def published(self) -> Direction:
        """The direction of a linear probe on the last layer."""
        return next(iter(self.directions.values()))

    def random_directions(self, n: int) -> list[Direction]:
        """Directions of chance on the last layer."""
        return [random_direction(self.published, seed) for seed in range(n)]

    @cached_property
    def classifier(self) -> ToxicityClassifier:
        """What scores continuations."""
        return fit_classifier(self.materials.other_comments, self.materials.test_comments)

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
            second=self._second_judge,
            seed=self.config.seed,
        )

    def trained(self, run: str) -> TrainingResult:
        """The model after a training run, and how the run went."""
        if run not in self._trained:
            self._trained[run] = train_dpo(
                self.model,
                self._preferences(run),
                config=self._training(run),
                seed=derive(self.config.seed, run),
                checkpoint=self.folder / "checkpoints" / f"{run}.pt",
                progress=self.progress,
            )
        return self._trained[run]

    def change(self, run: str) -> NeuronChange:
        """Every neuron's change in a run, along the published direction."""
        if run not in self._changes:
            after = self.trained(run).model
            self._changes[run] = attribute_change(self.model, after, self.published, self._written)
        return self._changes[run]

    def value_vectors(self, run: str) -> tuple[list[Tensor], list[Tensor]]:
        """Value vectors of each layer, before and after a run."""
        layers = range(self.model.n_layers)
        before, after = (
            [value_vectors(model, layer) for layer in layers]
            for model in (self.model, self.trained(run).model)
        )
        return before, after

    @cached_property
    def _written(self) -> list[str]:
        """Prompts with a continuation that the model samples."""
        prompts = self.materials.prompts
        written = generate(
            self.model, prompts, max_new_tokens=16, temperature=1.0, seed=self.config.seed
        )
        return [p + t for p, t in zip(prompts, written.texts, strict=True)]

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


def along(
    change: NeuronChange, vectors: tuple[list[Tensor], list[Tensor]], direction: Direction
) -> NeuronChange:
    """A change along another direction, from the value vectors before and after."""
    before, after = (align_vectors(side, direction) for side in vectors)
    return change.along(before, after)
