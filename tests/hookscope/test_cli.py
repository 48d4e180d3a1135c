"""The command line on small files, through its own entry point."""

import json
from pathlib import Path

import pytest

from hookscope.cli import main
from interp import ActivationStore
from interp.data import load_fixture

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    load_fixture("high_stakes")[:40].save(path)
    return path


@pytest.fixture(scope="module")
def probed(rows: Path, smollm2: object) -> dict:
    folder = rows.parent
    load_fixture("high_stakes_ood")[:20].save(folder / "other.csv")
    arguments = ["probe", "--data", str(rows), "--test", str(folder / "other.csv")]
    results = ["--out", str(folder / "report.html"), "--json", str(folder / "result.json")]
    assert main([*arguments, *results, "--threads", "1"]) == 0
    return json.loads((folder / "result.json").read_text())


def test_probe_gives_every_layer_with_its_interval(probed: dict) -> None:
    layers = probed["layers"]["linear probe"]
    assert [row["layer"] for row in layers] == list(range(30))
    assert all(row["low"] <= row["value"] <= row["high"] for row in layers)


def test_probe_puts_controls_and_test_sets_beside_the_score(probed: dict) -> None:
    names = {row["name"] for row in probed["controls"]}
    assert {"probe", "words (TF-IDF)", "length only", "embedding layer", "shuffled labels"} <= names
    assert probed["tests"]["other"]["n_examples"] == 20


def test_probe_writes_a_report_that_needs_no_network(probed: dict, rows: Path) -> None:
    html = (rows.parent / "report.html").read_text()
    assert "Plotly.newPlot" in html
    assert 'src="http' not in html


def test_extract_writes_a_store(rows: Path, smollm2: object) -> None:
    folder = rows.parent / "store"
    arguments = ["extract", "--data", str(rows), "--out", str(folder), "--layers", "0", "3"]
    assert main([*arguments, "--pooling", "mean", "--json", str(rows.parent / "e.json")]) == 0
    store = ActivationStore(folder)
    assert store.read(3).matrix.shape == (40, 576)
    assert json.loads((rows.parent / "e.json").read_text())["layers"] == [0, 3]


def test_models_tells_how_to_get_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "smollm2-135m-instruct" in capsys.readouterr().out


def test_a_broken_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "a", "label": 0}\n{"text": \n')
    assert main(["probe", "--data", str(path)]) == 2
    assert "line 2 is not JSON" in capsys.readouterr().err


def test_labels_of_one_class_are_refused(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rows.parent / "one.jsonl"
    load_fixture("high_stakes")[[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]].save(path)
    assert main(["probe", "--data", str(path)]) == 2
    assert "class" in capsys.readouterr().err


def test_a_test_set_that_shares_texts_is_refused(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "--data", str(rows), "--test", str(rows)]) == 2
    assert "both sides" in capsys.readouterr().err
