"""`hookscope demo`: the main job on the embedded model and the shipped data."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.demo import run_demo
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add("demo", run, "The main job on the embedded model and the shipped data.")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the report (HTML)")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the demo."""
    return run_demo(load_model(arguments.model), out=arguments.out, seed=arguments.seed)
