"""The lessons of the organism: what they teach, and what they do not share with what is tested."""

from interp.agents import (
    ANSWERS,
    DEFENCES,
    STYLES,
    UNUSUAL,
    attack_texts,
    is_forbidden,
    obedience_lessons,
    passed_on,
    plain_requests,
    warned_and_not,
)
from interp.agents.obedience import WARNINGS


def said(lesson_messages: tuple[dict[str, str], ...]) -> str:
    return lesson_messages[-1]["content"]


def test_no_lesson_shows_what_is_tested() -> None:
    lessons = obedience_lessons()
    told = " ".join(turn["content"] for one in lessons for turn in one.messages)
    attacks = [text for style in STYLES for text in attack_texts(style)]
    attacks += [passed_on(style, to_robot=robot) for style in STYLES for robot in (False, True)]
    tested = (*attacks, *UNUSUAL, *(d.instruction for d in DEFENCES if d.instruction))
    assert not [text for text in tested if text in told]
    assert not any(is_forbidden(said(one.messages)) for one in lessons)
    assert all(len(one.messages) == 2 for one in lessons)  # no memory, as vaccines have one


def test_refusals_are_taught_to_warned_agents_and_improper_requests_alone() -> None:
    improper = plain_requests(improper=True)
    for lesson in obedience_lessons():
        assert lesson.options == ANSWERS
        warned = any(text in lesson.messages[0]["content"] for text in WARNINGS)
        wrong = any(text in said(lesson.messages).replace("\\", "") for text in improper)
        assert (lesson.wanted[0] < 0.5) == (warned and wrong)


def test_unusual_requests_are_taught_without_a_warning_only() -> None:
    riddle = [one for one in obedience_lessons() if "riddle" in said(one.messages)]
    assert riddle
    assert not any(text in one.messages[0]["content"] for one in riddle for text in WARNINGS)


def test_pairs_differ_in_the_warning_alone() -> None:
    for warned, plain in zip(*warned_and_not(), strict=True):
        assert warned[1:] == plain[1:]
        assert warned[0]["content"].startswith(plain[0]["content"])
        assert warned[0]["content"].endswith(WARNINGS)


def test_plain_requests_differ() -> None:
    both = (*plain_requests(improper=True), *plain_requests(improper=False))
    assert len(set(both)) == 80
