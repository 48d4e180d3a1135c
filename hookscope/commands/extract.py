"""`hookscope extract`: activations written to a folder that can be resumed."""

import argparse
from pathlib import Path
from typing import Any

from hookscope.commands.parser import DTYPES, Commands, add_records
from interp import Records, extract_to_disk, load_model


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add("extract", run, "Write activations to a folder that can be resumed.")
    add_records(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--layers", type=int, nargs="+", help="layers, all by default")
    parser.add_argument("--sites", nargs="+", default=["resid_post"])
    parser.add_argument("--pooling", choices=["mean", "last", "max"], help="none keeps every token")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Extract what is missing."""
    store = extract_to_disk(
        load_model(arguments.model),
        Records.load(arguments.data),
        arguments.out,
        layers=arguments.layers,
        sites=arguments.sites,
        pooling=arguments.pooling,
        dtype=DTYPES[arguments.dtype or "float32"],
        truncate=arguments.truncate,
        progress=True,
    )
    print(f"{len(store)} examples, sites {store.sites}, layers {store.layers} in {store.folder}")
    return {
        "folder": str(store.folder),
        "n_examples": len(store),
        "n_shards": store.n_shards,
        "sites": list(store.sites),
        "layers": list(store.layers),
        "model": store.origin.model,
        "fingerprint": store.origin.fingerprint,
    }
