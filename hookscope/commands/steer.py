"""`hookscope steer`: does steering work on these items, and could one have known?"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from hookscope.commands.parser import DTYPES, Commands
from interp import load_model
from steering import Instruction, StudyResult, load_datasets, run_study
from steering.reliability import StudyConfig, fitted_config

_SIZES = ("n_train", "n_validation", "n_test", "n_shots")


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add("steer", run, "The reliability of steering on items of your own.")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="a file of items (.jsonl or .json with question, answer_matching_behavior, "
        "answer_not_matching_behavior, and statement where answers are Yes and No), or a folder of "
        "such files, with persona_prompts.json and published*.json if there are any",
    )
    parser.add_argument("--types", nargs="+", help="prompt types and statement, all by default")
    parser.add_argument("--layers", type=int, nargs="+", default=[], help="candidates, or the one")
    parser.add_argument(
        "--instructions",
        type=Path,
        metavar="FILE",
        help="JSON: for the name of each data set, its positive and its negative instruction",
    )
    parser.add_argument(
        "--published", type=Path, metavar="FILE", help="JSON rows of values to compare with"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the study can resume")
    parser.add_argument("--dtype", choices=list(DTYPES), help="of the weights")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the study and print its tables."""
    instructions = _instructions(arguments.instructions)
    datasets = load_datasets(arguments.data, instructions=instructions)
    published = _published(arguments)
    model = load_model(arguments.model, dtype=DTYPES.get(arguments.dtype))
    config = fitted_config(
        model, datasets, types=arguments.types, layers=arguments.layers, seed=arguments.seed
    )
    print(f"{len(datasets)} data sets; {_said(config)}")
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(desc="steer", unit=" vectors") as bar,
    ):
        result = run_study(
            model,
            datasets,
            arguments.out or folder,
            config=config,
            on_result=lambda row: bar.update(),
        )
        made = result.to_dict(published=published)
    print(_summary(result))
    return {"model": model.name, "config": asdict(config), **made}


def _instructions(path: Path | None) -> dict[str, Instruction]:
    if path is None:
        return {}
    table = _read(path)
    try:
        return {name: Instruction(**sides) for name, sides in table.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f'{path}: needed {{"name": {{"positive": "...", "negative": "..."}}}} ({error})'
        ) from error


def _published(arguments: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Published values: those that were named, or those that lie beside the data."""
    path = arguments.published
    if path is None and arguments.data.is_dir():
        path = next(iter(sorted(arguments.data.glob("published*.json"))), None)
    if path is None:
        return None
    rows, columns = _read(path), ("dataset", "mean_per_sample_steerability", "frac_anti_steerable")
    if not isinstance(rows, list) or not all(set(columns) <= set(row) for row in rows):
        raise ValueError(f"{path}: needed a list of rows with {', '.join(columns)}")
    return rows


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON at line {error.lineno} ({error.msg})") from error


def _said(config: StudyConfig) -> str:
    """The sizes, and what is not as usual."""
    usual = StudyConfig()
    parts = [f"{name[2:]} {getattr(config, name)}" for name in _SIZES]
    small = [name for name in _SIZES if getattr(config, name) < getattr(usual, name)]
    note = f"; smaller than usual ({getattr(usual, small[0])} {small[0][2:]}) " if small else ""
    note += "for lack of items: intervals are wide" if small else ""
    return f"sizes: {', '.join(parts)}{note}"


def _summary(result: StudyResult) -> str:
    number = "{:.3f}".format
    parts = [result.by_type().to_string(index=False, float_format=number)]
    for propensity in ("statement", "choice"):
        table = result.verdicts(propensity).to_string(index=False, float_format=number)
        parts.append(f"verdicts ({propensity} propensity)\n{table}")
    return "\n\n".join(parts)
