"""Records: every format gives back what was written, and broken input is named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import Record, Records

TEXTS = st.one_of(
    st.sampled_from(
        ["None", "NA", "null", "nan", "123", "1e5", "True", "a,b", '"q"', "é🙂", "x\ny"]
    ),
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=20
    ).filter(str.strip),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS | st.just("")}
    ),
    min_size=1,
    max_size=3,
)
LABELLED = {"label": st.integers(0, 3), "group": st.sampled_from(["01", "b", "None"])}
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS, **LABELLED}), min_size=1, max_size=4)
CHATS = st.lists(st.fixed_dictionaries({"messages": MESSAGES, **LABELLED}), min_size=1, max_size=4)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@given(rows=ROWS | CHATS)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_files_give_back_what_was_saved(tmp_path: Path, ending: str, rows: list[dict]) -> None:
    records = Records([{**row, "source": "s"} for row in rows])
    records.save(tmp_path / f"records{ending}")
    assert list(Records.load(tmp_path / f"records{ending}")) == list(records)


@pytest.mark.parametrize("kind", ["frame", "dataset", "json"])
def test_tables_give_back_what_went_in(tmp_path: Path, kind: str) -> None:
    records = Records(
        [
            {"text": "a fire", "label": 1, "group": "p1", "style": "news"},
            {"messages": [{"role": "user", "content": "tea?"}], "label": 0, "group": "p2"},
        ]
    )
    if kind == "frame":
        back = Records.from_frame(records.to_frame())
    elif kind == "dataset":
        back = Records.from_dataset(records.to_dataset())
    else:
        path = tmp_path / "records.json"
        path.write_text(json.dumps([record.to_dict() for record in records]))
        back = Records.load(path)
    assert list(back) == list(records)
    assert records[0].meta == {"style": "news"}
    assert records[1].meta == {}


def test_datasets_with_lists_of_messages_are_read() -> None:
    import datasets

    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    dataset = datasets.Dataset.from_list([{"messages": messages, "label": 1}])
    assert Records.from_dataset(dataset)[0].messages == tuple(messages)


def test_parquet_with_nested_messages_is_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    pd.DataFrame({"messages": [messages], "label": [1]}).to_parquet(tmp_path / "nested.parquet")
    assert Records.load(tmp_path / "nested.parquet")[0].messages == tuple(messages)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "no end', "line 3 is not JSON"),
        (b'{"text": "\xff"}', "line 3 is not JSON"),
        (b'["text"]', r"line 3 is \['text'\]: needed an object"),
        (b'{"label": 1}', "line 3: a record needs either text or messages"),
        (b'{"text": "  "}', "line 3: text is empty"),
        (b'{"text": 7}', "line 3: text is 7: needed a string"),
        (b'{"messages": []}', "line 3: messages is empty"),
        (b'{"messages": ["hi"]}', "line 3: a message is 'hi'"),
        (b'{"messages": [{"role": "user"}]}', "line 3: message 0 is {'role': 'user'}: needed"),
        (b'{"text": "a", "messages": [{}]}', "line 3: a record needs either"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    with pytest.raises(ValueError, match=f"records.jsonl: {message}"):
        Records.load(path)


def test_a_broken_row_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text("text,label\nfine,1\nfine,0,9\n")
    with pytest.raises(ValueError, match="line 3"):
        Records.load(path)
    path.write_text("text,label\nfine,1\n,0\n")
    with pytest.raises(ValueError, match="record 1: a record needs either text or messages"):
        Records.load(path)


def test_files_that_are_no_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no records: needed at least one"):
        Records.load(tmp_path / "empty.jsonl")
    (tmp_path / "one.json").write_text('{"text": "not in a list"}')
    with pytest.raises(ValueError, match=r"one\.json: a dict: needed a list"):
        Records.load(tmp_path / "one.json")
    with pytest.raises(ValueError, match=r"'records.txt': needed a file that ends in \.jsonl"):
        Records.load(tmp_path / "records.txt")
    with pytest.raises(FileNotFoundError):
        Records.load(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="no records"):
        Records([])


def test_labels_and_groups_of_lists() -> None:
    records = Records.from_texts(["a", "b", "a"], labels=np.array([1, 0, 1]))
    assert records.labels.tolist() == [1, 0, 1]
    assert all(isinstance(record.label, int) for record in records)
    first, second, third = records.groups
    assert first == third != second
    assert records[[2]].groups[0] == first  # the same in every part
    assert Records.from_texts(["a"], groups=["g"]).groups.tolist() == ["g"]
    with pytest.raises(ValueError, match="labels has 1 entries, but there are 2 texts"):
        Records.from_texts(["a", "b"], labels=[1])


def test_indexing_keeps_the_order_asked_for() -> None:
    records = Records.from_texts(["a", "b", "c"])
    assert records[1].text == "b"
    assert records[-1].text == "c"
    assert [r.text for r in records[np.array([True, False, True])]] == ["a", "c"]
    assert [r.text for r in records[[2, 0]]] == ["c", "a"]
    assert [r.text for r in records[1:] + records[:1]] == ["b", "c", "a"]
    with pytest.raises(IndexError):
        records[np.array([True])]


def test_texts_become_conversations() -> None:
    messages = ({"role": "system", "content": "old"}, {"role": "user", "content": "b"})
    records = Records([Record(text="a", label=1), Record(messages=messages)])
    chats = records.as_chat(system="new")
    assert chats[0].messages == (
        {"role": "system", "content": "new"},
        {"role": "user", "content": "a"},
    )
    assert chats[0].label == 1
    assert chats[1].messages == messages
    assert records.as_chat(role="assistant")[0].messages == ({"role": "assistant", "content": "a"},)
    assert chats[1].content == "old\nb"
