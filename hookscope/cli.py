"""The command line: `hookscope demo | probe | extract | models`, each with `--json`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hookscope.demo import run_demo
from hookscope.models import installed_models
from hookscope.probing import run_probe_study
from interp import InterpError, Records, extract_to_disk, load_model

DEFAULT_MODEL = "smollm2-135m-instruct"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = _parser().parse_args(argv)
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


def _demo(arguments: argparse.Namespace) -> dict[str, Any]:
    return run_demo(load_model(arguments.model), out=arguments.out, seed=arguments.seed)


def _probe(arguments: argparse.Namespace) -> dict[str, Any]:
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


def _extract(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_model(arguments.model)
    store = extract_to_disk(
        model,
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


def _models(arguments: argparse.Namespace) -> dict[str, Any]:
    models = installed_models()
    for name, row in models.items():
        state = "installed" if row["installed"] else f"not installed; get it with: {row['install']}"
        print(f"{name}: {state}")
    return models


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hookscope", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", type=Path, metavar="FILE", help="write the result here as JSON")
        made.add_argument("--threads", type=int, metavar="N", help="torch threads")
        if name != "models":
            made.add_argument(
                "--model", default=DEFAULT_MODEL, help="name, hub id, folder or .gguf"
            )
        return made

    demo = command("demo", _demo, "The main job on the embedded model and the shipped data.")
    demo.add_argument("--out", type=Path, default=Path("report.html"), help="the report (HTML)")
    demo.add_argument("--seed", type=int, default=0)

    probe = command("probe", _probe, "Probe every layer of a model for a label of your own.")
    _add_data(probe)
    probe.add_argument("--test", type=Path, nargs="*", default=[], metavar="FILE", help="test sets")
    probe.add_argument("--out", type=Path, metavar="FILE", help="the report (HTML)")
    probe.add_argument("--seed", type=int, default=0)

    extract = command("extract", _extract, "Write activations to a folder that can be resumed.")
    _add_data(extract)
    extract.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    extract.add_argument("--layers", type=int, nargs="+", help="layers, all by default")
    extract.add_argument("--sites", nargs="+", default=["resid_post"])
    extract.add_argument(
        "--pooling", choices=["mean", "last", "max"], help="none keeps every token"
    )

    command("models", _models, "The embedded models, and how to get those that are missing.")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help=".jsonl, .json, .csv or .parquet with text or messages, label, and maybe group",
    )
    parser.add_argument("--dtype", choices=list(DTYPES), help="of the weights, or of the store")
    parser.add_argument("--truncate", action="store_true", help="cut texts beyond the context")
