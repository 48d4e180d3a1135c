"""`hookscope surrogate`: the study of surrogate goals, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.surrogate_study import SurrogateConfig, run_surrogate_study
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Make an agent respond to threats to burn money as it does to threats of harm."
    parser = commands.add("surrogate", run, text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts of the study to run")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print how much of the gap each implementation closes."""
    found = run_surrogate_study(
        arguments.out,
        load_model(arguments.model),
        config=SurrogateConfig(seed=arguments.seed),
        only=arguments.only,
        progress=True,
    )
    for name, part in found.items():
        rows = {row["measure"]: row for row in part.get("measures", [])}
        for measure in ("closed", "side_effect") if rows else ():
            row = rows[measure]
            print(f"{name}: {measure} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    print(f"results: {arguments.out / 'results.json'}")
    return found
