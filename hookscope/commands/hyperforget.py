"""`hookscope hyperforget`: classifiers sampled without a class, resumed where it stopped."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.hyperforget_study import QUICK, HyperForgetConfig, run_hyperforget_study


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Sample classifiers that never knew a class, and try to teach it to them."
    parser = commands.add("hyperforget", run, text, model=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="digits only, too small for numbers")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; MNIST needs the folder that HOOKSCOPE_DATA names."""
    config = HyperForgetConfig()
    if "HOOKSCOPE_DATA" not in os.environ:
        config = replace(config, images=("digits",))
    config = replace(QUICK if arguments.quick else config, seed=arguments.seed)
    found = run_hyperforget_study(arguments.out, config=config, progress=True)
    for name, part in found["parts"].items():
        print(f"{name}: R2 {', '.join(f'{value:.2f}' for value in part['alignment']['r2'])}")
        for row in part["classes"]:
            sampled, gold = row["sampled"], row["retrained"]
            print(
                f"  class {row['class']}: forget {sampled['forget']['value']:.3f}, retain "
                f"{sampled['retain']['value']:.3f} (retrained {gold['retain']['value']:.3f})"
            )
    return found
