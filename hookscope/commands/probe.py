"""`hookscope probe`: every layer of a model, probed for a label of the user's own."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import DTYPES, Commands, add_records
from hookscope.probing import run_probe_study
from interp import Records, load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add("probe", run, "Probe every layer of a model for a label of your own.")
    add_records(parser)
    parser.add_argument(
        "--test", type=Path, nargs="*", default=[], metavar="FILE", help="test sets"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the report (HTML)")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the study and print its tables."""
    train = Records.load(arguments.data)
    tests = {path.stem: Records.load(path) for path in arguments.test}
    model = load_model(arguments.model, dtype=DTYPES.get(arguments.dtype))
    study = run_probe_study(
        model, train, tests, seed=arguments.seed, truncate=arguments.truncate, progress=True
    )
    print(study.summary())
    if arguments.out is not None:
        print(f"\nreport: {study.report(f'Probes on {arguments.data.name}').save(arguments.out)}")
    return study.to_dict()
