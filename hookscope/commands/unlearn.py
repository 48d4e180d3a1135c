"""`hookscope unlearn`: the unlearning study, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.unlearning_study import HARD, UnlearningConfig, run_unlearning_study, summarize
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Methods of unlearning at the same disruption, and what attacks bring back."
    parser = commands.add("unlearn", run, text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--hard", action="store_true", help="fewer methods, stronger attackers")
    parser.add_argument("--seeds", type=int, nargs="+", help="run only these seeds now")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print the drops after relearning."""
    found = run_unlearning_study(
        arguments.out,
        load_model(arguments.model),
        config=HARD if arguments.hard else UnlearningConfig(),
        seeds=arguments.seeds,
        progress=True,
    )
    for score in ("drop", "depth"):
        print(f"\n{score}\n{summarize(found, score).to_string(index=False)}")
    print(f"results: {arguments.out / 'results.json'}")
    return found
