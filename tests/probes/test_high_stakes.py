"""Loading the high-stakes sets: what becomes of rows, and that no text is in two sets."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp import LeakageError
from probes.high_stakes import load_evaluation, load_high_stakes, load_training, stakes_records


def _row(text: Any, high: bool, **more: Any) -> dict[str, Any]:
    return {"inputs": text, "labels": "high-stakes" if high else "low-stakes", **more}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A small layout: two pairs for training, one for testing, sets with duplicates."""
    pairs = [("p1", "train"), ("p2", "train"), ("p3", "test")]
    rows = [
        _row(f"{pair} {high}", high, pair_id=pair, split=part)
        for pair, part in pairs
        for high in (True, False)
    ]
    _write(tmp_path / "training" / "prompts.jsonl", rows)
    test = [_row("a fire", True), _row("A  Fire", True), _row("a game", False)]
    _write(tmp_path / "evals_test" / "mt_samples_clean_balanced.jsonl", test)
    dev = [_row("a fire", True), _row("a flood", True), _row("p1 True", False)]
    _write(tmp_path / "evals_dev" / "mt_samples_balanced.jsonl", dev)
    _write(tmp_path / "evals_test" / "mts_samples_balanced.jsonl", [_row("other", True)])
    return tmp_path


def test_texts_become_conversations_and_labels_numbers() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [
        _row("a fire", True, pair_id=7),
        _row(json.dumps(turns), False),
        {"inputs": "who knows", "labels": "ambiguous"},
    ]
    records = stakes_records(rows)
    assert records.labels.tolist() == [1, 0]
    assert records[0].group == "7"
    assert records[0].messages == ({"role": "user", "content": "a fire"},)
    assert [m["role"] for m in records[1].messages or ()] == ["user", "assistant"]


def test_duplicates_are_removed_within_and_across_sets(layout: Path) -> None:
    sets = load_high_stakes(layout, names=["mt"])
    assert [r.content for r in sets.test["mt"]] == ["a fire", "a game"]
    assert [r.content for r in sets.dev["mt"]] == ["a flood", "p1 True"]
    assert [r.content for r in sets.train] == ["p1 False", "p2 True", "p2 False"]
    assert sets.n_removed == {"mt test": 1, "synthetic": 0, "mt dev": 1, "train": 1}


def test_a_name_is_not_taken_for_the_beginning_of_another(layout: Path) -> None:
    assert [r.content for r in load_evaluation("mts", folder=layout)] == ["other"]
    assert len(load_evaluation("mt", folder=layout)) == 3


def test_a_set_without_development_part_is_tested_only(layout: Path) -> None:
    sets = load_high_stakes(layout, names=["mt", "mts"])
    assert list(sets.dev) == ["mt"]
    assert list(sets.test) == ["mt", "mts"]


def test_choices_need_no_test_set_of_their_own(layout: Path) -> None:
    sets = load_high_stakes(layout, names=["mts"])
    assert list(sets.dev) == ["mt"]
    assert list(sets.test) == ["mts"]


def test_tables_are_read_like_lines(layout: Path) -> None:
    path = layout / "evals_test" / "aya_redteaming_balanced.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["inputs", "labels"])
        writer.writeheader()
        writer.writerow(_row("two\nlines", True))
    assert load_evaluation("aya", folder=layout)[0].content == "two\nlines"


def test_the_split_is_by_pair(layout: Path) -> None:
    synthetic, train = load_training(layout)
    assert set(synthetic.groups) == {"p3"}
    assert set(train.groups) == {"p1", "p2"}
    rows = [
        _row("x", True, pair_id="p", split="train"),
        _row("y", False, pair_id="p", split="test"),
    ]
    _write(layout / "training" / "prompts.jsonl", rows)
    with pytest.raises(LeakageError, match="groups are on both sides"):
        load_high_stakes(layout, names=["mt"])


def test_missing_sets_are_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no test set 'nope'"):
        load_evaluation("nope", folder=layout)
    with pytest.raises(FileNotFoundError, match=r"no training/\*.jsonl"):
        load_training(tmp_path / "evals_dev")


def test_the_public_sets(data_dir: Path) -> None:
    sets = load_high_stakes(data_dir / "high_stakes")
    assert (len(sets.train), len(sets.synthetic)) == (836, 483)
    assert len(sets.test["mt"]) == 529
    assert not set(sets.train.groups) & set(sets.synthetic.groups)
    assert all(np.isin(records.labels, [0, 1]).all() for records in sets.test.values())
