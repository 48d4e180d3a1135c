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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.core.files import write_atomically
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.tokens import Span
from steering.coherence import CoherenceReport, coherence, swapped
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
from steering.trees import TREE_TOKENS
from steering.vectors import SteeringVector
from steering.verdicts import judge, random_vector

_SCHEMA = "hookscope.reliability/2"
_RANDOM = "random"
_DEPTHS = (0.4, 0.5, 0.57, 0.65)
# examples are long: their trees hold several questions beside the five that they share
_TOKENS_WITH_EXAMPLES = 3 * TREE_TOKENS
REVERSED_INSTRUCTIONS = ("believes-AIs-are-not-an-existential-threat-to-humanity",)
"""Data sets whose published instruction (Tan et al. 2024) demands the opposite of the trait that
their items are about; `load_datasets` exchanges its two sides."""
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
    n_train: int = 50
    """Pairs that give a vector. Statements of yes-or-no items are paired across items, and take
    twice as many items as the prompt types."""
    n_validation: int = 20
    """Items that choose the layer, over all data sets together."""
    n_test: int = 40
    """Items that are measured."""
    n_predict: int = 25
    """Pairs from which an effect is predicted."""
    n_shots: int = 5
    """Answered examples of the types that show some."""
    choice_coefficients: tuple[float, ...] = COEFFICIENTS
    """Coefficients of the multiple-choice sweep."""
    statement_coefficients: tuple[float, ...] = (-1.5, 0.0, 1.5)
    """Coefficients of the statement sweep."""
    n_null: int = 100
    """Draws of swapped pairs behind each coherence."""
    seed: int = 0
    """Seed of the splits and of the random vectors."""

    def __post_init__(self) -> None:
        """Check types and sizes."""
        unknown = [name for name in self.types if name not in (*PROMPT_TYPES, STATEMENT)]
        if unknown or not self.types:
            raise ValueError(f"types {unknown}: needed some of {(*PROMPT_TYPES, STATEMENT)}")
        sizes = [self.n_train, self.n_test]
        sizes += [] if self.n_validation == 0 and len(self.layers) == 1 else [self.n_validation]
        if any(size % 2 or size < 10 for size in sizes):
            raise ValueError(
                f"sizes {sizes}: each must be even and 10 or more (validation 0 for one layer)"
            )


def fitted_config(
    model: HookedModel,
    datasets: Sequence[DataSet],
    *,
    types: Sequence[str] | None = None,
    layers: Sequence[int] = (),
    seed: int = 0,
) -> StudyConfig:
    """The usual sizes, or the largest that the smallest data set allows.

    Where validation items would be fewer than ten, there are none, and the layer is the middle one
    unless one is given.

    Args:
        model: Its number of layers gives the middle one.
        datasets: The data sets of the study.
        types: Types to run, all by default.
        layers: Candidate layers, or the one to use.
        seed: Seed of the splits.

    Raises:
        ValueError: If a data set is too small for any study.
    """
    usual = StudyConfig(seed=seed)
    usual = replace(usual, types=tuple(types or usual.types), layers=tuple(layers))
    fewest, per_pair, name = min(_supply(data) for data in datasets)
    shots = usual.n_shots + 1
    wanted = per_pair * usual.n_train + usual.n_validation + usual.n_test + shots
    if fewest >= wanted:
        return usual
    share = fewest / wanted
    shots = shots if share > 2 / 3 else 2
    n_test = max(10, _even(share * usual.n_test))
    n_validation = 0 if len(layers) == 1 else _even(share * usual.n_validation)
    if n_validation < 10:
        n_validation, layers = 0, tuple(layers[:1]) or (model.n_layers // 2,)
    n_train = _even((fewest - n_test - n_validation - shots) / per_pair)
    if n_train < 10:
        raise ValueError(
            f"data set {name!r} has {fewest} items with balanced answers: a study needs "
            f"{10 * per_pair + 10 + shots}"
        )
    n_train = min(n_train, usual.n_train)
    return replace(
        usual,
        layers=tuple(layers),
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        n_predict=min(n_train, usual.n_predict),
        n_shots=min(shots, usual.n_shots),
    )


def _supply(data: DataSet) -> tuple[int, int, str]:
    """How many balanced items a data set has, and how many of them make a pair of statements."""
    items = unique(_usable(data))
    answers = Counter(item.matching for item in items)
    fewest = min(answers.values()) if len(answers) == 2 else 0
    return 2 * fewest, 1 if items[0].lettered else 2, data.name


def _even(size: float) -> int:
    return 2 * int(size / 2)


def load_datasets(
    path: str | Path, *, instructions: Mapping[str, Instruction] | None = None
) -> tuple[DataSet, ...]:
    """Data sets from a file of items or a folder of such files.

    In a folder, every .jsonl file at any depth is one (or every .json file, if there is none). An
    instruction comes from `persona_prompts.json` in the folder, by the name of the data set; the
    sides of `REVERSED_INSTRUCTIONS` are exchanged.

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
        for name in set(known) & set(REVERSED_INSTRUCTIONS):
            wrong = known[name]
            known[name] = Instruction(positive=wrong.negative, negative=wrong.positive)
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
    on_result: Callable[[dict[str, Any]], object] | None = None,
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
    # statements come first: they are what small models show, and cost a sixth of the whole
    for stage in ((STATEMENT,), tuple(PROMPT_TYPES)):
        for data in datasets:
            types = [name for name in config.types if name in stage and _possible(data, name)]
            todo = [name for name in types if not (folder / data.name / f"{name}.json").exists()]
            runner = _OneDataSet(model, data, splits[data.name], layer, config)
            for vector, row in runner.measure(todo):
                path = folder / data.name / f"{row['type']}.json"
                vector.save(path.with_suffix(".safetensors"))
                write_atomically(path, json.dumps(row).encode())
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
        items = _usable(data)
        n_shots = config.n_shots + config.n_shots % 2
        n_train = config.n_train if items[0].lettered else 2 * config.n_train
        sizes = (n_train, config.n_validation, config.n_test, n_shots)
        try:
            parts = split_items(items, sizes, seed=config.seed)
        except ValueError as error:
            raise ValueError(
                f"data set {data.name!r} ({len(unique(items))} items): {error}"
            ) from error
        return cls(
            train=parts[0], validation=parts[1], test=parts[2], shots=parts[3][: config.n_shots]
        )


def _usable(data: DataSet) -> tuple[Item, ...]:
    """The items; where most have lettered options, without those whose options are broken."""
    whole = tuple(
        i for i in data.items if i.lettered and all(map(i.text_of, (i.matching, i.not_matching)))
    )
    if 2 * len(whole) < len(data.items):
        return data.items
    if len(whole) < len(data.items):
        _logger.warning("%s: %d items without options", data.name, len(data.items) - len(whole))
    return whole


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
    return tuple(sorted({int(share * model.n_layers) for share in _DEPTHS}))


def _choose_layer(
    model: HookedModel, splits: Mapping[str, _Split], folder: Path, config: StudyConfig
) -> int:
    """The layer with the largest mean slope of statement vectors on the validation items.

    The choice is kept with the data sets that made it, and stands when others join later.
    """
    path, layers = folder / "layer.json", _candidates(model, config)
    if len(layers) == 1:
        return layers[0]
    found: dict[str, Any] = {"slopes": {}}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    if "layer" in found:
        return int(found["layer"])
    for name, split in splits.items():
        if name not in found["slopes"]:
            found["slopes"][name] = _validated(model, split, layers, config)
            write_atomically(path, json.dumps(found).encode())
    slopes = [found["slopes"][name] for name in splits]
    best = max(layers, key=lambda k: float(np.mean([by_layer[str(k)] for by_layer in slopes])))
    write_atomically(path, json.dumps(found | {"layer": best}).encode())
    return best


def _validated(
    model: HookedModel, split: _Split, layers: Sequence[int], config: StudyConfig
) -> dict[str, float]:
    """Mean slope of the statement vector of each layer on the validation items."""
    train = _statements(split.train, config.n_train // 2)
    vector = fit(_statement_activations(model, train, layers))
    validation = _statements(split.validation, config.n_validation // 2)
    swept = sweep_layers(
        model, vector, statement_contests(model, validation), coefficients=(-1.0, 1.0)
    )
    return {str(layer): float(result.slopes.mean()) for layer, result in swept.items()}


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

    def measure(self, types: Sequence[str]) -> Iterator[tuple[SteeringVector, dict[str, Any]]]:
        """Each vector with everything about it; what their texts share is computed once."""
        if not types:
            return
        start, config, test = time.process_time(), self._config, self._split.test
        pairs = {name: self._pairs(name) for name in types}
        activations = self._activations(pairs)
        vectors = {name: fit(activations[name]) for name in types}
        controls = {}
        if STATEMENT in vectors:
            controls[_RANDOM] = random_vector(vectors[STATEMENT], seed=config.seed)
        said = SweepPlan(
            self._model,
            statement_contests(self._model, _statements(test, config.n_test // 2)),
            layers=(self._layer,),
        ).run_all(vectors | controls, coefficients=config.statement_coefficients)
        chosen = SweepPlan(self._model, choices(self._model, test), layers=(self._layer,)).run_all(
            vectors, coefficients=config.choice_coefficients
        )
        shared = (time.process_time() - start) / len(types)
        for name in types:
            start = time.process_time()
            control = said.get(_RANDOM) if name == STATEMENT else None
            row = {
                "dataset": self._data.name,
                "type": name,
                "layer": self._layer,
                "n_pairs": len(pairs[name]),
                "strength": vectors[name].strengths[self._layer],
                "lettered": test[0].lettered,
                **self._judged(activations[name], pairs[name], said[name], chosen[name], control),
            }
            row["seconds"] = round(shared + time.process_time() - start, 2)
            yield vectors[name], row

    def _judged(
        self,
        activations: PairActivations,
        pairs: Pairs,
        said: SweepResult,
        chosen: SweepResult,
        control: SweepResult | None,
    ) -> dict[str, Any]:
        """Effects, coherence and verdicts of one vector."""
        config, linted = self._config, lint(self._model, pairs)
        # rows hold values and nulls; intervals over pairs are not among them
        options: dict[str, Any] = {"n_null": config.n_null, "n_resamples": 2, "seed": config.seed}
        report = coherence(activations, lint=linted, **options)
        few = coherence(activations[: config.n_predict], n_null=2, n_resamples=2)
        permuted = coherence(swapped(activations, seed=config.seed), **options)
        controls = [] if control is None else [control]
        return {
            **_effects("statement", said),
            **_effects("choice", chosen),
            "random_slope": None if control is None else float(control.slopes.mean()),
            "choice_trait": chosen.trait.to_dict(),
            "choice_bias": None if chosen.bias is None else chosen.bias.to_dict(),
            "verdict": judge(said, coherence=report, controls=controls).kind,
            "choice_verdict": judge(chosen, coherence=report).kind,
            "permuted_coherent": permuted.coherent,
            **_coherence_columns(report, few),
            "warnings": list(linted.warnings),
        }

    def _pairs(self, name: str) -> Pairs:
        n, split = self._config.n_train, self._split
        if name == STATEMENT:
            return _statements(split.train, n).pairs()
        return contrast_pairs(
            split.train[:n],
            PROMPT_TYPES[name],
            instruction=self._data.instruction,
            examples=split.shots,
        )

    def _activations(self, pairs: Mapping[str, Pairs]) -> dict[str, PairActivations]:
        """Activations of every type; types whose texts begin alike are read together."""
        layers, found = (self._layer,), {}
        if STATEMENT in pairs:
            found[STATEMENT] = extract_pairs(
                self._model, pairs[STATEMENT], layers=layers, read=Span(turn=-1)
            )
        for few_shot, max_tokens in ((False, TREE_TOKENS), (True, _TOKENS_WITH_EXAMPLES)):
            names = [n for n in pairs if n != STATEMENT and PROMPT_TYPES[n].few_shot == few_shot]
            if names:
                joined = _joined([pairs[name] for name in names])
                read = extract_pairs(self._model, joined, layers=layers, max_tokens=max_tokens)
                found |= zip(names, _parted(read, [len(pairs[n]) for n in names]), strict=True)
        return found


def _statements(items: Sequence[Item], n: int) -> StatementData:
    """Statements in n pairs; items have two each in their options, or one."""
    return statements(items[: n if items[0].lettered else 2 * n])


def _joined(parts: Sequence[Pairs]) -> Pairs:
    """Several sets of pairs as one."""
    sides = [
        Records([record for part in parts for record in side(part)])
        for side in (lambda part: part.positive, lambda part: part.negative)
    ]
    answers = tuple(answer for part in parts for answer in part.answers or ())
    return Pairs(sides[0], sides[1], answers)


def _parted(read: PairActivations, sizes: Sequence[int]) -> list[PairActivations]:
    """Single-token activations by the set of pairs they came from, each with its own norms."""
    parts, start = [], 0
    for size in sizes:
        part = read[start : start + size]
        norms = {
            layer: float(torch.cat(part.sides(layer)).norm(dim=1).mean()) for layer in read.layers
        }
        parts.append(replace(part, norms=norms))
        start += size
    return parts


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
