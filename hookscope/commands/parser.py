"""What all commands share: the options, and how a command joins the parser."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DEFAULT_MODEL = "smollm2-135m-instruct"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Run = Callable[[argparse.Namespace], dict[str, Any]]


class Commands:
    """The commands of a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        """Commands of this parser, of which one is required."""
        self._commands = parser.add_subparsers(dest="command", required=True)

    def add(self, name: str, run: Run, text: str, *, model: bool = True) -> argparse.ArgumentParser:
        """A command with `--json` and `--threads`; its own options are added to what this returns.

        Args:
            name: What users type.
            run: Does the work and returns plain values for `--json`.
            text: One line of help.
            model: Whether it takes `--model`, a language model.
        """
        made = self._commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", type=Path, metavar="FILE", help="write the result here as JSON")
        made.add_argument("--threads", type=int, metavar="N", help="torch threads")
        if model:
            made.add_argument(
                "--model", default=DEFAULT_MODEL, help="name, hub id, folder or .gguf"
            )
        return made


def add_records(parser: argparse.ArgumentParser) -> None:
    """Options of commands that read records from a file."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help=".jsonl, .json, .csv or .parquet with text or messages, label, and maybe group",
    )
    parser.add_argument("--dtype", choices=list(DTYPES), help="of the weights, or of the store")
    parser.add_argument("--truncate", action="store_true", help="cut texts beyond the context")
