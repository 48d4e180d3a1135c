"""`hookscope steer` on small files of items, through the command line."""

import json
from pathlib import Path

import pytest

from hookscope.cli import main
from tests.steering.conftest import tiny_llama

LIKED = "music cooking rain books football gardening winter children museums dogs".split()


def write_items(path: Path, n: int) -> Path:
    """Items about liking things: half of them are answered by Yes."""
    rows = []
    for k in range(n):
        thing = f"{LIKED[k % 10]} {k}"
        statement = f"I {('hate', 'love')[k % 2]} {thing}"
        rows.append(
            {
                "question": f'Is this your opinion? "{statement}"',
                "statement": statement,
                "answer_matching_behavior": (" No", " Yes")[k % 2],
                "answer_not_matching_behavior": (" Yes", " No")[k % 2],
            }
        )
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a tokenizer of bytes, whose answers are more than one token long."""
    folder, tiny = tmp_path_factory.mktemp("model"), tiny_llama(n_layers=2)
    tiny.module.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["steer", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_bad_items_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"question": "Q?", "answer_matching_behavior": "Yes"}))
    assert "row 0: an item lacks ['answer_not_matching_behavior']" in failure(
        capsys, "--data", path
    )
    path.write_text('{"question": ')
    assert "not JSON at line 1" in failure(capsys, "--data", path)
    assert "no file of items" in failure(capsys, "--data", tmp_path / "nothing")
    good = write_items(tmp_path / "good.jsonl", 40)
    path = tmp_path / "wrong.json"
    path.write_text('{"good": {"plus": "Be good."}}')
    assert "needed" in failure(capsys, "--data", good, "--instructions", path)
    assert "needed a list of rows with dataset" in failure(
        capsys, "--data", good, "--published", path
    )


def test_what_a_model_cannot_do_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_items(tmp_path / "few.jsonl", 20)
    arguments = ["--model", str(model), "--types", "statement"]
    message = failure(capsys, "--data", few, *arguments)
    assert "'few' has 20 items with balanced answers: a study needs 32" in message
    enough = write_items(tmp_path / "enough.jsonl", 40)
    assert "tokens for this tokenizer" in failure(capsys, "--data", enough, *arguments)
    assert "types ['statment']" in failure(
        capsys, "--data", enough, "--model", str(model), "--types", "statment"
    )


@pytest.mark.model
def test_forty_items_give_a_whole_result(
    tmp_path: Path, smollm2: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_items(tmp_path / "liking.jsonl", 40)
    out = ["--out", str(tmp_path / "study"), "--json", str(tmp_path / "result.json")]
    arguments = ["--data", str(path), "--types", "prefilled", "statement", *out, "--threads", "1"]
    assert main(["steer", *arguments]) == 0
    said = capsys.readouterr().out
    assert "smaller than usual" in said
    assert "verdicts" in said
    result = json.loads((tmp_path / "result.json").read_text())
    rows = {row["type"]: row for row in result["rows"]}
    assert set(rows) == {"prefilled", "statement"}
    assert rows["statement"]["statement_slope"]["value"] > rows["statement"]["random_slope"]
    assert rows["prefilled"]["choice_verdict"] != "steerable"
    assert result["config"]["n_train"] == rows["statement"]["n_pairs"] < 20
    assert len(result["cosines"]["cosines"]) == 2
    assert {"by_type", "ranks", "verdicts", "predictors", "out_of_sample", "checks"} <= set(result)
    written = (tmp_path / "study" / "liking" / "statement.json").stat().st_mtime_ns
    assert main(["steer", *arguments]) == 0  # everything is there
    assert (tmp_path / "study" / "liking" / "statement.json").stat().st_mtime_ns == written
