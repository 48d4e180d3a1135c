"""The folder of a study: resumed, refused, and never half written."""

import json
from pathlib import Path

import pytest

from hookscope.study_folder import claim, kept, run_parts


def test_parts_that_are_there_are_not_computed_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def part(name: str) -> dict[str, str]:
        calls.append(name)
        return {"name": name}

    parts = {name: lambda name=name: part(name) for name in ("first", "second")}
    found = run_parts(tmp_path, {"size": 3}, parts, only=["second"])
    assert list(found) == ["config", "second"]
    found = run_parts(tmp_path, {"size": 3}, parts)
    assert calls == ["second", "first"]
    assert list(found) == ["config", "first", "second"]
    assert found["first"]["name"] == "first"
    assert found["first"]["cpu_seconds"] >= 0
    assert json.loads((tmp_path / "results.json").read_text()) == found


def test_what_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> dict[str, str]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_parts(tmp_path, {}, {"good": lambda: {"x": 1}, "bad": fail})
    assert not (tmp_path / "bad.json").exists()
    assert list(json.loads((tmp_path / "results.json").read_text())) == ["config", "good"]


def test_other_choices_and_unknown_parts_are_refused(tmp_path: Path) -> None:
    assert claim(tmp_path, {"layers": (1, 2)}) == {"layers": [1, 2]}
    claim(tmp_path, {"layers": (1, 2)})
    with pytest.raises(ValueError, match="other choices"):
        claim(tmp_path, {"layers": (1, 3)})
    with pytest.raises(ValueError, match=r"no parts \['other'\]: needed some of \['one'\]"):
        run_parts(tmp_path / "new", {}, {"one": lambda: {}}, only=["other"])
    assert kept(tmp_path / "x.json", lambda: {"y": 2})["y"] == 2
