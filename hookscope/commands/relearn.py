"""`hookscope relearn`: forgotten images and what brings them back, resumed where it stopped."""

import argparse
import os
from pathlib import Path
from typing import Any

import pandas as pd

from hookscope.commands.parser import Commands
from hookscope.vision_analysis import summarize, with_excess
from hookscope.vision_study import DIGITS, MNIST, QUICK, run_vision_study


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Whether networks that forgot images relearn them from others, method by method."
    parser = commands.add("relearn", run, text, model=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="digits only, too small for numbers")
    parser.add_argument("--n-runs", type=int, default=10, metavar="N", help="seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; MNIST needs the folder that HOOKSCOPE_DATA names."""
    settings = [DIGITS, MNIST] if os.environ.get("HOOKSCOPE_DATA") else [DIGITS]
    found = run_vision_study(
        arguments.out,
        settings=[QUICK] if arguments.quick else settings,
        n_runs=arguments.n_runs,
        seed=arguments.seed,
        progress=True,
    )
    rows = with_excess(pd.DataFrame(found["rows"]))
    rows = rows.loc[rows["factor"] == 1]
    columns = ["test", "held", "held after 0", "rebound", "excess"]
    table = summarize(rows, columns).pivot_table(
        index=["images", "method"], columns="quantity", values="value", sort=False
    )
    print(table[columns].to_string(float_format="%.3f"))
    return found
