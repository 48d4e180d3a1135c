"""`hookscope high-stakes`: the study of high-stakes probes, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from hookscope.commands.parser import Commands
from hookscope.high_stakes.sets import HighStakesConfig
from hookscope.high_stakes.study import run_high_stakes_study
from interp import load_model
from probes.high_stakes import TEST_SETS, load_high_stakes


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add("high-stakes", run, "The study of high-stakes probes (hours on a CPU).")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="default: HOOKSCOPE_DATA/high_stakes"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="to go on in")
    parser.add_argument("--tests", nargs="+", default=list(TEST_SETS), help="names of test sets")
    parser.add_argument("--layers", type=int, nargs="+", help="default: every second")
    parser.add_argument("--n-test", type=int, metavar="N", help="examples of each test set")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print the scores by set."""
    layers = tuple(arguments.layers) if arguments.layers else None
    config = HighStakesConfig(layers=layers, n_test=arguments.n_test, seed=arguments.seed)
    result = run_high_stakes_study(
        load_model(arguments.model),
        load_high_stakes(arguments.data, names=arguments.tests),
        arguments.out,
        config=config,
        progress=True,
    )
    columns = ["set", "value", "low", "high"]
    print(pd.DataFrame(result["sets"])[columns].to_string(index=False, float_format="%.3f"))
    print(f"gain over {result['best_floor']}: {result['gain']}")
    return result
