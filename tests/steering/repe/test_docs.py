"""The table of published methods names every method, and only steps that exist."""

import inspect
import re
from pathlib import Path

from steering import repe
from steering.repe import published

TABLE = [
    line
    for line in (Path(__file__).parents[3] / "docs" / "repe.md").read_text().splitlines()
    if line.startswith("|")
]


def test_every_published_method_has_a_row() -> None:
    methods = {
        name
        for name, member in inspect.getmembers(published, inspect.isfunction)
        if member.__module__ == published.__name__ and not name.startswith("_")
    }
    rows = {match[1] for line in TABLE if (match := re.search(r"\| `(\w+)` \|", line))}
    assert rows == methods


def test_every_step_of_the_table_exists() -> None:
    steps = {
        name
        for line in TABLE[2:]
        for cell in line.split("|")[3:6]
        for name in re.findall(r"`(\w+)", cell)
    }
    assert steps <= set(repe.__all__)
    assert len(steps) > 10
