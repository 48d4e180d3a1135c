"""A dialogue as one text: its pieces are found letter by letter."""

import numpy as np
import pytest

from interp import Record
from interp.data import load_fixture
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue, transcribe

TWO = Dialogue(
    name="two",
    pieces=("Hello.", "Will you give?", "No, I will not.", "A pity."),
    turns=(0, 0, 1, 2),
    roles=(PERSUADER, PERSUADER, PERSUADEE, PERSUADER),
)


def test_every_piece_stands_where_the_bounds_say() -> None:
    for dialogue in (TWO, *map(Dialogue.from_record, load_fixture("persuasion"))):
        found = transcribe(dialogue)
        cut = tuple(found.text[start:stop] for start, stop in found.bounds)
        assert cut == dialogue.pieces


def test_a_turn_is_one_line_behind_its_speaker() -> None:
    lines = transcribe(TWO, instruction="").text.splitlines()
    assert lines[0] == "Persuader: Hello. Will you give?"
    assert len(lines) == 3


def test_a_prefix_is_written_like_the_beginning_of_the_whole() -> None:
    whole = transcribe(TWO).text
    for n in range(1, 5):
        assert whole.startswith(transcribe(TWO.pick(range(n))).text)


def test_turns_end_at_their_last_piece() -> None:
    np.testing.assert_array_equal(TWO.turn_ends, [1, 2, 3])
    assert TWO.turn_texts() == ("Hello. Will you give?", "No, I will not.", "A pity.")


def test_words_are_left_out_for_one_role_only() -> None:
    changed = TWO.without({"no", "not", "will"}, role=PERSUADEE)
    assert changed.pieces == ("Hello.", "Will you give?", "I", "A pity.")
    assert TWO.without({"hello"}).pieces[0] == "..."


def test_words_are_turned_around_and_nothing_else_changes() -> None:
    changed = TWO.replacing({"no": "yes", "not": ""}, role=PERSUADEE)
    assert changed.pieces == ("Hello.", "Will you give?", "yes I will", "A pity.")
    assert (changed.turns, changed.roles) == (TWO.turns, TWO.roles)
    assert TWO.replacing({}) == TWO


def test_a_piece_alone_has_no_context() -> None:
    assert transcribe(TWO.alone(2), instruction="").text == "Persuadee: No, I will not."


def test_bad_dialogues_are_refused() -> None:
    with pytest.raises(ValueError, match="2 pieces, 1 turns and 1 roles"):
        Dialogue(name="x", pieces=("a", "b"), turns=(0,), roles=("r",))
    with pytest.raises(ValueError, match="piece 1 of dialogue 'x' is empty"):
        Dialogue(name="x", pieces=("a", " "), turns=(0, 1), roles=("r", "r"))
    with pytest.raises(ValueError, match="needed messages of"):
        Dialogue.from_record(Record(text="no conversation"))
