"""`hookscope planning`: an agent of Sokoban on your levels: how it plays, plans and is steered."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add(
        "planning",
        run,
        "An agent of Sokoban on your levels: solve rate, probes of its plan, interventions.",
        model=False,
    )
    parser.add_argument(
        "what",
        choices=["play", "probe", "intervene", "emergence", "unseen"],
        help="what to measure",
    )
    parser.add_argument(
        "--levels", type=Path, metavar="PATH", help="a file or a folder of levels (else new ones)"
    )
    parser.add_argument("--agent", required=True, help="name of a shipped agent, or a folder")
    parser.add_argument("--limit", type=int, help="steps within which to solve (else the agent's)")
    parser.add_argument("--n-levels", type=int, metavar="N", help="use the first N levels only")
    parser.add_argument(
        "--train", type=Path, metavar="PATH", help="levels to fit probes to (else new ones)"
    )
    parser.add_argument(
        "--kernels", type=int, nargs="+", default=[1, 3], help="widths of the probes, in squares"
    )
    parser.add_argument(
        "--mover", choices=["agent", "box"], default="agent", help="whose way to change"
    )
    parser.add_argument(
        "--coefficients", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0, 4.0], metavar="X"
    )
    parser.add_argument(
        "--n-directed", type=int, default=1, help="squares of the long way that get a direction"
    )
    parser.add_argument("--n-random", type=int, default=1, help="draws of the random vectors")
    parser.add_argument("--think", type=int, nargs="*", default=[0, 5], help="steps to think")
    parser.add_argument("--check", action="store_true", help="first solve every level")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the table, and return it."""
    from hookscope.planning_study import measure  # noqa: PLC0415  slow: it needs transformer-lens

    table, result = measure(arguments.what, arguments)
    print(table.to_string(index=False, float_format="%.3f"))
    return result
