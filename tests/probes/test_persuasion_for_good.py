"""Reading the files of PersuasionForGood."""

from pathlib import Path

import pandas as pd
import pytest

from probes.persuasion_for_good import AGREE, load_persuasion_for_good
from probes.transcripts import PERSUADEE, PERSUADER

TRAITS = ("extrovert.x", "agreeable.x", "conscientious.x", "neurotic.x", "open.x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sentences = [
        ("a", 0, 0, "Hello.", "greeting", None),
        ("a", 0, 0, " Nine in ten  dollars help.", "logical-appeal", None),
        ("a", 1, 0, "Yes, I will.", None, AGREE),
        ("a", 0, 1, "Thanks.", "thank", None),
    ]
    columns = ["B2", "B4", "Turn", "Unit", "er_label_1", "ee_label_1"]
    frame = pd.DataFrame(sentences, columns=columns).assign(er_label_2=None, ee_label_2=None)
    frame.to_csv(tmp_path / "300_dialog.csv", index=False)
    turns = [("Hi. Give?", 0, 0, "b"), ("No.", 0, 1, "b"), ("Hello.", 0, 0, "a")]
    pd.DataFrame(turns, columns=["Unit", "Turn", "B4", "B2"]).to_csv(tmp_path / "full_dialog.csv")
    people = [
        {"B2": name, "B3": f"user-{name}-{role}", "B4": role, "B6": 0.5 * role}
        | dict.fromkeys(TRAITS, 3.0 + role)
        for name in "ab"
        for role in (0, 1)
    ]
    pd.DataFrame(people).to_csv(tmp_path / "full_info.csv", index=False)
    return tmp_path


def test_sentences_turns_acts_and_facts(folder: Path) -> None:
    data = load_persuasion_for_good(folder)
    (annotated,), (other,) = data.annotated, data.others
    assert annotated.pieces[:2] == ("Hello.", "Nine in ten dollars help.")
    assert annotated.turns == (0, 0, 1, 2)
    assert annotated.roles == (PERSUADER, PERSUADER, PERSUADEE, PERSUADER)
    assert annotated.meta["acts"][1:3] == [("logical-appeal",), (AGREE,)]
    assert (annotated.meta["donation"], annotated.meta["user"]) == (0.5, "user-a-1")
    assert annotated.meta["traits"]["openness"] == 4.0
    assert (other.name, other.pieces) == ("b", ("Hi. Give?", "No."))
    assert [d.name for d in data.all] == ["a", "b"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"full_info\.csv"):
        load_persuasion_for_good(tmp_path)
