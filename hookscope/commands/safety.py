"""`hookscope safety`: what benign fine-tuning does to refusal, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.safety_study import SafetyConfig, run_safety_study, summarize
from hookscope.safety_tasks import Materials
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "What benign fine-tuning does to refusal, and what averaging the weights saves."
    parser = commands.add("safety", run, text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="PART", help='parts to run now, as "start"')


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print the rates."""
    config = SafetyConfig()
    materials = Materials.load(n_train=config.n_refusals, n_test=config.n_seeds * config.n_harmful)
    found = run_safety_study(
        arguments.out,
        load_model(arguments.model),
        materials,
        config=config,
        only=arguments.only,
        progress=True,
    )
    if len(found) > 2:  # more than the choices and the start
        for score in ("responded", "log_odds", "held_loss"):
            print(f"\n{score}\n{summarize(found, score).to_string(index=False)}")
    print(f"results: {arguments.out / 'results.json'}")
    return found
