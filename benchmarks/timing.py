"""Timing for the scripts in this folder: contenders take turns, medians of CPU seconds.

Wall time lies on shared machines; CPU time of one thread does not. Contenders run one after the
other in every round, so that a slow minute slows all of them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch


def arguments(description: str, **options: str) -> argparse.Namespace:
    """The options that every benchmark has, `--quick` and `--json FILE`, and its own with help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    for name, text in options.items():
        parser.add_argument(f"--{name}", metavar=name.upper(), help=text)
    torch.set_num_threads(1)
    return parser.parse_args()


def median_cpu_seconds(
    contenders: Mapping[str, Callable[[], Any]], *, repeats: int
) -> dict[str, float]:
    """Median CPU seconds of each contender, after one warm-up round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(repeats + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if round_:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_mebibytes(run: Callable[[], Any]) -> float:
    """How far the resident memory rises while `run` runs, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def report(tables: Mapping[str, pd.DataFrame], numbers: dict[str, Any], path: Path | None) -> None:
    """Print the tables and, if a path is given, write the numbers as JSON."""
    for title, table in tables.items():
        print(f"\n{title}\n{table.to_string(float_format='{:.2f}'.format)}")
    if path is not None:
        path.write_text(json.dumps(numbers, indent=2))
