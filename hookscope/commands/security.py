"""`hookscope security`: the study of multi-agent security, resumed where it stopped."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.security_study import (
    SecurityConfig,
    load_transcript,
    run_security_study,
    security_table,
)
from interp import load_model
from interp.agents import STYLES


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Attack a team of seven agents, and measure what defences win and cost."
    parser = commands.add("security", run, text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts of the study to run")
    parser.add_argument(
        "--page",
        nargs=2,
        metavar=("CONDITION", "STYLE"),
        help=f"write a transcript as a page; styles: {', '.join(s.name for s in STYLES)}",
    )
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing and print robustness, cooperation and tax."""
    found = run_security_study(
        arguments.out,
        load_model(arguments.model),
        config=SecurityConfig(seed=arguments.seed),
        only=arguments.only,
        progress=True,
    )
    if "none" in found:
        table = security_table(found)
        print(table.to_string(index=False, float_format="{:.3f}".format))
    if arguments.page is not None:
        condition, style = arguments.page
        transcript = load_transcript(arguments.out, condition, style, 0)
        path = arguments.out / f"{condition}-{style}.html"
        print(f"page: {transcript.report(f'{condition}: {style}').save(path)}")
    print(f"results: {arguments.out / 'results.json'}")
    return found
