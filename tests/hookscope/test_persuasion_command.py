"""`hookscope persuasion` says what it lacks before it loads a model."""

from pathlib import Path

import pytest

from hookscope.cli import main


def test_data_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["persuasion", "--folder", str(tmp_path / "run"), "--data", str(tmp_path)]
    assert main(arguments) == 2
    assert "full_info.csv" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["persuasion"])
    assert "--folder" in capsys.readouterr().err
