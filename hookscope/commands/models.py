"""`hookscope models`: the embedded models, and how to get those that are missing."""

import argparse
from typing import Any

from hookscope.commands.parser import Commands
from hookscope.models import installed_models


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "The embedded models, and how to get those that are missing."
    commands.add("models", run, text, model=False)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print one line for each model."""
    models = installed_models()
    for name, row in models.items():
        state = "installed" if row["installed"] else f"not installed; get it with: {row['install']}"
        print(f"{name}: {state}")
    return models
