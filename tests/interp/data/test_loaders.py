"""Loaders: the shipped sets are what they claim to be, and local data is asked for by name."""

from pathlib import Path

import pytest

from interp.data import check_leakage, data_folder, load_fixture


def test_high_stakes_pairs_are_matched() -> None:
    records = load_fixture("high_stakes")
    assert len(records) >= 240
    groups: dict[str, list] = {}
    for record in records:
        groups.setdefault(str(record.group), []).append(record.label)
    assert {tuple(sorted(labels)) for labels in groups.values()} == {(0, 1)}
    lengths = {label: [len(r.content) for r in records if r.label == label] for label in (0, 1)}
    mean = {label: sum(values) / len(values) for label, values in lengths.items()}
    assert abs(mean[0] - mean[1]) < 0.1 * mean[0]


def test_the_other_distribution_shares_nothing_with_the_first() -> None:
    check_leakage(load_fixture("high_stakes"), load_fixture("high_stakes_ood"))


def test_an_unknown_set_is_refused() -> None:
    import inspect

    with pytest.raises(ValueError, match="no shipped data set 'banana': there are high_stakes"):
        inspect.unwrap(load_fixture)("banana")


def test_local_data_is_found_below_the_folder_of_the_environment(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOOKSCOPE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set HOOKSCOPE_DATA to the folder"):
        data_folder("boxoban")
    monkeypatch.setenv("HOOKSCOPE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no 'boxoban/medium' in HOOKSCOPE_DATA"):
        data_folder("boxoban", "medium")
    (tmp_path / "boxoban").mkdir()
    assert data_folder("boxoban") == tmp_path / "boxoban"
