"""The reliability study: for which data and prompts does steering work, and could one have known?

For every data set and every prompt type of Braun et al. (2025, 2505.22637), and for vectors from
statements: fit a vector, measure the coherence of its pairs, and sweep both propensities on items
that gave neither the vector nor the layer. `run_study` writes one file for each data set and type,
so that an interrupted study goes on where it stopped; `steering.study_results` draws conclusions.

What it does not show: anything about text that the model writes under a vector (propensities are
likelihoods of given texts), about other models, or about layers and coefficients that it leaves
out.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.core.files import write_atomically
from interp.core.model import HookedModel
from interp.core.tokens import Span
from steering.coherence import CoherenceReport, coherence
from steering.contrast import (
    PROMPT_TYPES,
    Instruction,
    Pairs,
    StatementData,
    contrast_pairs,
    lint,
    statements,
)
from steering.fitting import fit
from steering.items import Item, load_items, split_items, unique
from steering.propensity import choices, statement_contests
from steering.reading import PairActivations, extract_pairs
from steering.study_results import STATEMENT, StudyResult
from steering.sweep_results import SweepResult
from steering.sweeps import COEFFICIENTS, SweepPlan, sweep_layers
from steering.verdicts import judge, random_vector

_SCHEMA = "hookscope.reliability/1"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Items about one trait."""

    name: str
    """Name of the data set."""
    items: tuple[Item, ...]
    """Its items."""
    instruction: Instruction | None = None
    """An instruction to have the trait; without one the types that need it are left out."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Sizes and choices of the study."""

    types: tuple[str, ...] = (*PROMPT_TYPES, STATEMENT)
    """Prompt types, and "statement" for vectors from statements."""
    layers: tuple[int, ...] = ()
    """Layers of which one is chosen on validation items; by default four in the middle."""
    n_train: int = 100
    """Items that give a vector: as many pairs, or half as many where pairs join two items."""
    n_validation: int = 20
    """Items that choose the layer, over all data sets together."""
    n_test: int = 60
    """Items that are measured."""
    n_predict: int = 25
    """Pairs from which an effect is predicted."""
    n_shots: int = 5
    """Answered examples of the types that show some."""
    choice_coefficients: tuple[float, ...] = COEFFICIENTS
    """Coefficients of the multiple-choice sweep."""
    statement_coefficients: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Coefficients of the statement sweep."""
    n_null: int = 200
    """Draws of swapped pairs behind each coherence."""
    seed: int = 0
    """Seed of the splits and of the random vectors."""

    def __post_init__(self) -> None:
        """Check types and sizes."""
        unknown = [name for name in self.types if name not in (*PROMPT_TYPES, STATEMENT)]
        if unknown or not self.types:
            raise ValueError(f"types {unknown}: needed some of {(*PROMPT_TYPES, STATEMENT)}")
        sizes = (self.n_train, self.n_validation, self.n_test)
        if any(size % 2 or size < 10 for size in sizes):
            raise ValueError(f"sizes {sizes}: each must be even and 10 or more")


def load_datasets(
    path: str | Path, *, instructions: Mapping[str, Instruction] | None = None
) -> tuple[DataSet, ...]:
    """Data sets from a file of items or a folder of such files.

    In a folder, every .jsonl file at any depth is one (or every .json file, if there is none). An
    instruction comes from `persona_prompts.json` in the folder, by the name of the data set.

    Args:
        path: File or folder.
        instructions: Instructions by name, before those of the folder.

    Raises:
        ValueError: If there is no file of items.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    prompts = path / "persona_prompts.json"
    if path.is_dir() and not files:
        files = [file for file in sorted(path.rglob("*.json")) if file != prompts]
    if not files:
        raise ValueError(f"no file of items in {str(path)!r}: needed .jsonl or .json files")
    known: dict[str, Instruction] = {}
    if path.is_dir() and prompts.exists():
        table = json.loads(prompts.read_text(encoding="utf-8"))
        known = {name: Instruction(**sides) for name, sides in table.items()}
    known |= dict(instructions or {})
    sets = []
    for file in files:
        name = file.parent.name if file.stem.endswith(("_dataset", "_dataset_ab")) else file.stem
        sets.append(DataSet(name=name, items=load_items(file), instruction=known.get(name)))
    names = [data.name for data in sets]
    if len(set(names)) < len(names):
        raise ValueError(f"two data sets have the same name: {sorted(names)}")
    return tuple(sets)


def run_study(
    model: HookedModel,
    datasets: Sequence[DataSet],
    folder: str | Path,
    *,
    config: StudyConfig | None = None,
    on_result: Callable[[dict[str, Any]], None] | None = None,
) -> StudyResult:
    """Run what is missing of the study, and read all of it.

    Args:
        model: A language model with a chat template.
        datasets: Data sets with enough items for the sizes of the configuration.
        folder: Where results are written; a study of another model or configuration that is there
            is not overwritten.
        config: Sizes and choices.
        on_result: Called with every new row.

    Raises:
        ValueError: If the folder holds another study, or a data set has too few items.
    """
    config, folder = config or StudyConfig(), Path(folder)
    _begin(model, folder, config)
    splits = {data.name: _Split.of(data, config) for data in datasets}
    layer = _choose_layer(model, splits, folder, config)
    for data in datasets:
        types = [name for name in config.types if _possible(data, name)]
        paths = {name: folder / data.name / f"{name}.json" for name in types}
        todo = [name for name in types if not paths[name].exists()]
        if not todo:
            continue
        runner = _OneDataSet(model, data, splits[data.name], layer, config)
        for name in todo:
            row = runner.row(name, folder / data.name / f"{name}.safetensors")
            write_atomically(paths[name], json.dumps(row).encode())
            _logger.info("%s, %s: slope %.3f", data.name, name, row["statement_slope"]["value"])
            if on_result is not None:
                on_result(row)
    return StudyResult.load(folder, names=[data.name for data in datasets])


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Disjoint items of a data set."""

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    shots: tuple[Item, ...]

    @classmethod
    def of(cls, data: DataSet, config: StudyConfig) -> "_Split":
        n_shots = config.n_shots + config.n_shots % 2
        sizes = (config.n_train, config.n_validation, config.n_test, n_shots)
        try:
            parts = split_items(data.items, sizes, seed=config.seed)
        except ValueError as error:
            raise ValueError(
                f"data set {data.name!r} ({len(unique(data.items))} items): {error}"
            ) from error
        return cls(
            train=parts[0], validation=parts[1], test=parts[2], shots=parts[3][: config.n_shots]
        )


def _begin(model: HookedModel, folder: Path, config: StudyConfig) -> None:
    """Write what the folder holds, or check that it is the same study."""
    header = {"schema": _SCHEMA, "origin": asdict(model.origin), "config": asdict(config)}
    header = json.loads(json.dumps(header))
    path = folder / "study.json"
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        differs = [key for key in header if there.get(key) != header[key]]
        if differs:
            raise ValueError(
                f"{str(folder)!r} holds a study that differs in {', '.join(differs)}: choose "
                "another folder, or delete that one"
            )
        return
    write_atomically(path, json.dumps(header).encode())


def _candidates(model: HookedModel, config: StudyConfig) -> tuple[int, ...]:
    if config.layers:
        return tuple(site.layer or 0 for site in model.sites.at("resid_post", config.layers))
    return tuple(sorted({int(share * model.n_layers) for share in (0.4, 0.5, 0.57, 0.65)}))


def _choose_layer(
    model: HookedModel, splits: Mapping[str, _Split], folder: Path, config: StudyConfig
) -> int:
    """The layer with the largest mean slope of statement vectors on the validation items.

    The choice is kept with the data sets that made it, and stands when others join later.
    """
    path, layers = folder / "layer.json", _candidates(model, config)
    if len(layers) == 1:
        return layers[0]
    if not path.exists():
        slopes: dict[str, dict[str, float]] = {}
        for name, split in splits.items():
            vector = fit(_statement_activations(model, statements(split.train), layers))
            contests = statement_contests(model, statements(split.validation))
            swept = sweep_layers(model, vector, contests, coefficients=(-1.0, 1.0))
            slopes[name] = {str(k): float(r.slopes.mean()) for k, r in swept.items()}
        means = {k: float(np.mean([s[str(k)] for s in slopes.values()])) for k in layers}
        best = max(means, key=lambda k: means[k])
        write_atomically(path, json.dumps({"layer": best, "slopes": slopes}).encode())
    return int(json.loads(path.read_text(encoding="utf-8"))["layer"])


def _possible(data: DataSet, name: str) -> bool:
    if name == STATEMENT or data.instruction is not None:
        return True
    return not PROMPT_TYPES[name].instruction


def _statement_activations(
    model: HookedModel, data: StatementData, layers: Sequence[int]
) -> PairActivations:
    return extract_pairs(model, data.pairs(), layers=layers, read=Span(turn=-1))


class _OneDataSet:
    """The vectors of one data set, measured on the same test items."""

    def __init__(
        self, model: HookedModel, data: DataSet, split: _Split, layer: int, config: StudyConfig
    ) -> None:
        self._model, self._data, self._split = model, data, split
        self._layer, self._config = layer, config
        contests = statement_contests(model, _test_statements(split.test))
        self._statements = SweepPlan(model, contests, layers=(layer,))
        self._choices = SweepPlan(model, choices(model, split.test), layers=(layer,))

    def row(self, name: str, path: Path) -> dict[str, Any]:
        """Everything about one vector; the vector itself is saved."""
        start, config = time.process_time(), self._config
        activations, pairs = self._activations(name)
        vector = fit(activations)
        vector.save(path)
        linted = lint(self._model, pairs)
        report = coherence(activations, lint=linted, n_null=config.n_null, seed=config.seed)
        few = coherence(activations[: config.n_predict], n_null=20, n_resamples=20)
        said = self._statements.run(vector, coefficients=config.statement_coefficients)
        chosen = self._choices.run(vector, coefficients=config.choice_coefficients)
        controls = [
            self._statements.run(drawn, coefficients=config.statement_coefficients)
            for drawn in ([random_vector(vector, seed=config.seed)] if name == STATEMENT else [])
        ]
        return {
            "dataset": self._data.name,
            "type": name,
            "layer": self._layer,
            "n_pairs": len(activations),
            "strength": vector.strengths[self._layer],
            "lettered": all(item.lettered for item in self._split.test),
            **_effects("statement", said),
            **_effects("choice", chosen),
            "random_slope": float(controls[0].slopes.mean()) if controls else None,
            "choice_trait": chosen.trait.to_dict(),
            "choice_bias": None if chosen.bias is None else chosen.bias.to_dict(),
            "verdict": judge(said, coherence=report, controls=controls).kind,
            "choice_verdict": judge(chosen, coherence=report).kind,
            **_coherence_columns(report, few),
            "warnings": list(linted.warnings),
            "seconds": round(time.process_time() - start, 2),
        }

    def _activations(self, name: str) -> tuple[PairActivations, Pairs]:
        split, layers = self._split, (self._layer,)
        if name == STATEMENT:
            data = statements(split.train)
            return _statement_activations(self._model, data, layers), data.pairs()
        pairs = contrast_pairs(
            split.train,
            PROMPT_TYPES[name],
            instruction=self._data.instruction,
            examples=split.shots,
        )
        return extract_pairs(self._model, pairs, layers=layers), pairs


def _test_statements(items: Sequence[Item]) -> StatementData:
    """Statements of the test items, as many pairs whether items have options or statements."""
    lettered = all(item.lettered for item in items)
    return statements(items[: len(items) // 2] if lettered else items)


def _effects(name: str, swept: SweepResult) -> dict[str, Any]:
    return {
        f"{name}_slope": swept.slope.to_dict(),
        f"{name}_anti": swept.anti_steerable.to_dict(),
        f"{name}_slopes": [round(float(slope), 5) for slope in swept.slopes],
    }


def _coherence_columns(report: CoherenceReport, few: CoherenceReport) -> dict[str, Any]:
    """Held-out and in-sample measures, and those of the few pairs that predict."""
    return {
        "coherent": report.coherent,
        "answer_cosine": report.answer_cosine,
        "held_out": {name: m.value for name, m in report.measures.items()},
        "in_sample": {name: m.in_sample for name, m in report.measures.items()},
        "null": {name: m.null for name, m in report.measures.items()},
        "few": {name: m.value for name, m in few.measures.items()},
    }
