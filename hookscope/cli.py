"""The command line: `hookscope <command>`, each with `--help` and `--json FILE`."""

import argparse
import json
import sys
from collections.abc import Sequence

import torch

from hookscope.commands import (
    demo,
    extract,
    high_stakes,
    hyperforget,
    influence,
    models,
    persuasion,
    planning,
    probe,
    refusal,
    relearn,
    safety,
    security,
    steer,
    surrogate,
    toxicity,
    unlearn,
)
from hookscope.commands.parser import Commands
from interp import InterpError

COMMANDS = (
    demo,
    probe,
    extract,
    high_stakes,
    persuasion,
    steer,
    refusal,
    planning,
    influence,
    relearn,
    hyperforget,
    toxicity,
    unlearn,
    safety,
    surrogate,
    security,
    models,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hookscope", description=__doc__)
    commands = Commands(parser)
    for command in COMMANDS:
        command.add(commands)
    arguments = parser.parse_args(argv)
    _quiet()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        result = arguments.run(arguments)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(result, indent=2))
    except (InterpError, ValueError, OSError) as error:
        print(f"hookscope {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _quiet() -> None:
    """No progress bars and advice of the libraries: only what the command itself says."""
    from transformers.utils import logging  # slow to import

    logging.disable_progress_bar()
    logging.set_verbosity_error()
