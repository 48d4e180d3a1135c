"""The version is written in three files, which agree."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def first_match(pattern: str, file: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{file} has no line like {pattern!r}"
    return found[1]


@pytest.fixture
def version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]


def test_citation_names_the_version(version: str) -> None:
    assert first_match(r"^version: (\S+)$", "CITATION.cff") == version


def test_changelog_begins_with_the_version(version: str) -> None:
    assert first_match(r"^## \[([^\]]+)\]", "CHANGELOG.md") == version
