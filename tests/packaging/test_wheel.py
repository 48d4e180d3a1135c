"""The built wheel holds what users need, and nothing else, and works where it is unpacked."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("interp", "probes", "steering", "hookscope")

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_top_level_names_are_the_four_packages(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}
    (metadata,) = (name for name in top if name.endswith(".dist-info"))
    assert top - {metadata} == set(PACKAGES)
    assert f"{metadata}/licenses/LICENSE" in names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(names: set[str], package: str) -> None:
    assert f"{package}/py.typed" in names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_and_fixture_is_inside(names: set[str], package: str) -> None:
    files = [*(ROOT / package).rglob("*.py"), *(ROOT / package).rglob("fixtures/*.jsonl")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names


def test_fixtures_are_inside(names: set[str]) -> None:
    assert any(
        name.startswith("interp/data/fixtures/") and name.endswith(".jsonl") for name in names
    )


def test_console_script_is_declared(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hookscope = hookscope.cli:main" in archive.read(entry).decode()


def test_unpacked_wheel_imports_elsewhere(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"import {', '.join(PACKAGES)}\nfor p in ({', '.join(PACKAGES)}): print(p.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [Path(line).parent for line in done.stdout.split()] == [tmp_path / p for p in PACKAGES]
