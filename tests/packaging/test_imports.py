"""Importing the packages is quick: what is slow to import waits until it is needed."""

import subprocess
import sys

import pytest

SLOW = ("transformer_lens", "transformers", "datasets")

pytestmark = pytest.mark.packaging


def slow_modules_after(statement: str) -> list[str]:
    code = f"{statement}\nimport sys\nprint(*(m for m in {SLOW!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("package", ["interp", "probes", "steering", "hookscope"])
def test_import_does_not_import_slow_libraries(package: str) -> None:
    assert slow_modules_after(f"import {package}") == []


def test_an_import_of_a_slow_library_would_be_seen() -> None:
    assert "datasets" in slow_modules_after("import datasets")
