"""`hookscope toxicity`: the toxicity study, resumed where it stopped."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from hookscope.commands.parser import DEFAULT_MODEL, Commands
from hookscope.toxicity.config import QUICK, ToxicityConfig
from hookscope.toxicity.hub_classifier import DETOXIFY, load_hub_classifier
from hookscope.toxicity.materials import load_materials
from hookscope.toxicity.study import run_toxicity_study
from interp import load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "What preference training changes about toxicity, and which neurons do (an hour)."
    parser = commands.add("toxicity", run, text, model=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="to go on in")
    parser.add_argument("--model", default="gemma-3-270m", help="a base model")
    parser.add_argument("--contrast", default=DEFAULT_MODEL, help="looked into for toxic neurons")
    parser.add_argument("--judge", metavar="NAME", help=f"such as {DETOXIFY}, a second classifier")
    parser.add_argument("--quick", action="store_true", help="every part, too small for numbers")
    parser.add_argument("--only", nargs="+", metavar="PART", help="run these parts alone")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print the methods at one divergence."""
    config = replace(QUICK if arguments.quick else ToxicityConfig(), seed=arguments.seed)
    found = run_toxicity_study(
        load_model(arguments.model),
        load_materials(config.sizes, seed=config.seed),
        arguments.out,
        contrast=load_model(arguments.contrast),
        second_judge=None if arguments.judge is None else load_hub_classifier(arguments.judge),
        config=config,
        only=arguments.only,
        progress=True,
    )
    tables = found.get("training", {}).get("runs", {}), found.get("methods", {}).get("rows", {})
    for name, row in {**tables[0], **tables[1]}.items():
        mass, kl = row["mass"], row["kl"]["value"]
        print(
            f"{name}: toxic mass x {mass['value']:.2f} [{mass['low']:.2f}, {mass['high']:.2f}] "
            f"at KL {kl:.3f}, perplexity x {row['perplexity_ratio']:.2f}"
        )
    print(f"results: {arguments.out / 'results.json'}")
    return found
