"""`hookscope influence`: the influence study, resumed where it stopped."""

import argparse
import os
from pathlib import Path
from typing import Any

from hookscope.commands.parser import DEFAULT_MODEL, Commands
from hookscope.influence_study import QUICK, InfluenceConfig, run_influence_study
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Which training examples change the law of what a model does."
    parser = commands.add("influence", run, text, model=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="every part, too small for numbers")
    parser.add_argument("--model", help=f"also probe this language model, such as {DEFAULT_MODEL}")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; MNIST needs the folder that HOOKSCOPE_DATA names."""
    sizes = QUICK if arguments.quick else InfluenceConfig()
    folder = os.environ.get("HOOKSCOPE_DATA")
    found = run_influence_study(
        arguments.out,
        data=Path(folder) if folder else None,
        model=load_model(arguments.model) if arguments.model else None,
        config=InfluenceConfig(**{**vars(sizes), "seed": arguments.seed}),
        progress=True,
    )
    for name, part in found.items():
        if name != "config":
            print(f"{name}: {part['cpu_seconds']:g} CPU seconds")
    print(f"results: {arguments.out / 'results.json'}")
    return found
