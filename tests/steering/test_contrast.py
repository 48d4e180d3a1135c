"""Contrast data: the seven prompt types letter by letter, balance, and what the lint finds."""

import json
from pathlib import Path

import pytest

from interp import HookedModel, Records
from steering import (
    PROMPT_TYPES,
    Instruction,
    Item,
    Pairs,
    balanced,
    contrast_pairs,
    letter_pairs,
    lint,
    load_items,
    split_items,
    statements,
)


def yes_no(n: int = 8) -> list[Item]:
    return [
        Item(
            question=f"Would you say {k}?",
            matching=("Yes", "No")[k % 2],
            not_matching=("No", "Yes")[k % 2],
            statement=f"statement {k}",
        )
        for k in range(n)
    ]


def lettered(n: int = 4) -> list[Item]:
    return [
        Item(
            question=f"Which {k}?\n\nChoices:\n (A) one of\nthem\n (B) two",
            matching=("(A)", "(B)")[k % 2],
            not_matching=("(B)", "(A)")[k % 2],
        )
        for k in range(n)
    ]


INSTRUCTION = Instruction(positive="You are kind.", negative="You are not kind.")


def test_the_seven_prompt_types_are_the_published_texts() -> None:
    item, example = yes_no()[0], yes_no()[1]
    question = "Question: Would you say 0?\n\nChoices:\n - Yes\n - No\n\nAnswer:"
    shot = "Question: Would you say 1?\n\nChoices:\n - Yes\n - No\n\nAnswer:{}\n\n"
    head = "You are {}kind.\n\n"
    expected = {
        "prefilled": (question + " Yes", question + " No"),
        "instruction": (head.format("") + question, head.format("not ") + question),
        "5-shot": (shot.format(" No") + question, shot.format(" Yes") + question),
        "prefilled_instruction": (
            head.format("") + question + " Yes",
            head.format("not ") + question + " No",
        ),
        "prefilled_5-shot": (
            shot.format(" No") + question + " Yes",
            shot.format(" Yes") + question + " No",
        ),
        "instruction_5-shot": (
            head.format("") + shot.format(" No") + question,
            head.format("not ") + shot.format(" Yes") + question,
        ),
        "prefilled_instruction_5-shot": (
            head.format("") + shot.format(" No") + question + " Yes",
            head.format("not ") + shot.format(" Yes") + question + " No",
        ),
    }
    assert set(expected) == set(PROMPT_TYPES)
    for name, sides in expected.items():
        pairs = contrast_pairs(
            [item], PROMPT_TYPES[name], instruction=INSTRUCTION, examples=[example]
        )
        assert (pairs.positive[0].text, pairs.negative[0].text) == sides, name


def test_lettered_items_are_read_at_the_letter() -> None:
    pairs = contrast_pairs(lettered(1), PROMPT_TYPES["prefilled"])
    assert (pairs.positive[0].text or "").endswith("(B) two\n\nAnswer: (A")
    pairs = contrast_pairs(lettered(1), PROMPT_TYPES["5-shot"], examples=lettered(2)[1:])
    assert "Answer: (B)\n\nQuestion: Which 0?" in (pairs.positive[0].text or "")


def test_missing_parts_are_named() -> None:
    with pytest.raises(ValueError, match="has an instruction"):
        contrast_pairs(yes_no(), PROMPT_TYPES["instruction"])
    with pytest.raises(ValueError, match="shows examples"):
        contrast_pairs(yes_no(), PROMPT_TYPES["5-shot"])
    with pytest.raises(ValueError, match="also one of the items"):
        contrast_pairs(yes_no(), PROMPT_TYPES["5-shot"], examples=yes_no()[:1])


def test_options_and_stem_are_found_over_several_lines() -> None:
    item = lettered(1)[0]
    assert item.options == {"A": "one of\nthem", "B": "two"}
    assert item.stem == "Which 0?"
    assert item.text_of("(B)") == "two"
    assert not yes_no()[0].lettered


def test_letters_are_balanced_over_answers() -> None:
    pairs = letter_pairs(yes_no(8))
    letters = [record.messages[-1]["content"] for record in pairs.positive if record.messages]
    answers = pairs.answers or ()
    seen = {(a, x) for a, x in zip(answers, letters, strict=True)}
    assert seen == {("Yes", "(A"), ("Yes", "(B"), ("No", "(A"), ("No", "(B")}


def test_balanced_draws_both_answers_equally_and_splits_are_disjoint() -> None:
    items = [*yes_no(20), *yes_no(20)]
    drawn = balanced(items, 10)
    assert sum(item.matching == "Yes" for item in drawn) == 5
    first, second = split_items(items, (8, 6))
    assert not {i.question for i in first} & {i.question for i in second}
    assert (len(first), len(second)) == (8, 6)
    with pytest.raises(ValueError, match="ask for fewer items"):
        balanced(yes_no(4), 6)
    with pytest.raises(ValueError, match="even number"):
        balanced(yes_no(4), 3)


def test_statements_of_both_kinds_of_items() -> None:
    data = statements(yes_no(), request="Tell me.")
    assert data.positive == ("statement 0", "statement 2", "statement 4", "statement 6")
    assert not data.paired
    data = statements(lettered(2))
    assert data.requests == ("Which 0?", "Which 1?")
    messages = data.pairs().positive[1].messages or ()
    assert [m["content"] for m in messages] == ["Which 1?", "two"]
    assert (data.positive[1], data.negative[1]) == ("two", "one of\nthem")
    assert data.paired


def test_files_round_trip_and_broken_rows_are_named(tmp_path: Path) -> None:
    row = {
        "question": "Q?",
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    }
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"question": "R?"}))
    assert [item.question for item in load_items(path)] == ["Q?", "R?"]
    assert load_items(path)[0].matching == "Yes"
    broken = tmp_path / "items.json"
    broken.write_text(json.dumps([row, {"question": "Q?"}]))
    with pytest.raises(ValueError, match=r"row 1: an item lacks \['answer_matching_behavior'"):
        load_items(broken)
    broken.write_text("[]")
    with pytest.raises(ValueError, match="at least one"):
        load_items(broken)
    with pytest.raises(ValueError, match=r"needed a file that ends in"):
        load_items(tmp_path / "items.csv")


def test_pairs_from_records_by_group() -> None:
    records = Records.from_texts(["a", "b", "c", "d"], labels=[1, 0, 0, 1], groups=list("xxyy"))
    pairs = Pairs.from_records(records)
    assert [r.text for r in pairs.positive] == ["a", "d"]
    assert [r.text for r in pairs.negative] == ["b", "c"]
    with pytest.raises(ValueError, match="1 groups have not one positive"):
        Pairs.from_records(records[:3])


def test_mismatched_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 positive and 1 negative records"):
        Pairs.from_texts(["a", "b"], ["c"])


def test_lint_is_silent_on_sound_pairs(llama: HookedModel) -> None:
    pairs = contrast_pairs(yes_no(8), PROMPT_TYPES["prefilled"])
    texts = [(r.text or "").replace("Yes", "Yea").replace("No", "Nay") for r in pairs.positive]
    other = [(r.text or "").replace("Yes", "Yea").replace("No", "Nay") for r in pairs.negative]
    assert lint(llama, Pairs.from_texts(texts, other)).warnings == ()


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        (["aa", "bb"], ["aa", "bc"], "1 pairs have equal sides"),
        (["ax", "ax"], ["ay", "ay"], "1 pairs are duplicates"),
        (["abcdefgh", "abcdefghi"] * 4, ["a", "b"] * 4, "tokens longer"),
        (["ax", "bx", "cx"], ["ay", "bz", "cw"], "one answer token prefers"),
        (["You are. a", "You are. b"], ["You not. a", "You not. b"], "the same tokens"),
    ],
)
def test_lint_finds(
    llama: HookedModel, positive: list[str], negative: list[str], message: str
) -> None:
    found = lint(llama, Pairs.from_texts(positive, negative)).warnings
    assert any(message in text for text in found), found


def test_lint_finds_leakage(llama: HookedModel) -> None:
    train = Pairs.from_texts(["ab", "cd"], ["ax", "cy"])
    report = lint(llama, train, against=Pairs.from_texts(["cy"], ["zz"]))
    assert report.leaked == (1,)
    assert report.to_frame().set_index("check")["value"]["leaked"] == 1
