"""`hookscope persuasion`: the study of persuasion dynamics, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.persuasion_study import PersuasionConfig, run_persuasion_study
from interp import load_model
from probes.persuasion_for_good import load_persuasion_for_good


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "The study of persuasion along dialogues (most of an hour on a CPU)."
    parser = commands.add("persuasion", run, text)
    default = PersuasionConfig()
    parser.add_argument("--folder", type=Path, required=True, metavar="F", help="to go on in")
    parser.add_argument(
        "--data", type=Path, metavar="F", help="default: HOOKSCOPE_DATA/persuasion_for_good"
    )
    parser.add_argument("--dialogues", type=int, metavar="N", help="annotated ones; default: all")
    parser.add_argument("--others", type=int, metavar="N", help="not annotated; default: all")
    parser.add_argument(
        "--devices", type=int, default=default.n_devices, metavar="N", help="read in other ways"
    )
    parser.add_argument(
        "--prompted", type=int, default=default.n_prompted, metavar="N", help="asked about"
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", metavar="L", help="default: every third one"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the report (HTML)")
    parser.add_argument("--seed", type=int, default=default.seed)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print the tables."""
    config = PersuasionConfig(
        n_annotated=arguments.dialogues,
        n_others=arguments.others,
        n_devices=arguments.devices,
        n_prompted=arguments.prompted,
        layers=None if arguments.layers is None else tuple(arguments.layers),
        seed=arguments.seed,
    )
    data = load_persuasion_for_good(arguments.data)
    study = run_persuasion_study(
        data, arguments.folder, load_model(arguments.model), config=config, progress=True
    )
    print(study.summary())
    if arguments.out is not None:
        print(f"\nreport: {study.report().save(arguments.out)}")
    return study.to_dict()
