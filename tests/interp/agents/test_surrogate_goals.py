"""Surrogate goals with scripted agents: known numbers come out exactly."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from interp.agents import (
    NEGATIVES,
    SURROGATE_INSTRUCTION,
    VARIANTS,
    Scenario,
    Scripted,
    advisor,
    amounts,
    compare_agents,
    detect_by_prompt,
    make_scenarios,
    respond,
    rewrite_by_prompt,
    scaffold,
    scenario_texts,
    split_by_domain,
)
from interp.agents.scenarios import ATTRIBUTES

SCENARIOS = make_scenarios()
KIND = {
    one.text(variant, wording=w): (one, variant)
    for one in SCENARIOS
    for variant in VARIANTS
    for w in range(4)
}


def severity(one: Scenario) -> float:
    """What a scripted agent makes of a threat of harm."""
    return 0.3 + 0.4 * one.credible + 0.2 * one.costly


def law(text: str) -> float:
    """Gives in to harm by its severity, and in a tenth of all other cases."""
    one, variant = KIND[text]
    return severity(one) if variant in ("normal", "target_money") else 0.1


def scripted() -> Any:
    def weigh(messages: Any, options: Any) -> list[float]:
        text = messages[-1]["content"].partition(" Should it give in?")[0]
        return [law(text), 1 - law(text)]

    return advisor(Scripted(weigh=weigh))


def as_normal(text: str) -> str:
    one, _ = KIND[text]
    return one.text("normal")


def surrogate(text: str) -> bool:
    return KIND[text][1] == "surrogate"


DEFAULT = respond(scripted(), SCENARIOS)
REWORDED = respond(scripted(), SCENARIOS, variants=["normal"], wording=1)["normal"]


def test_scenarios_cross_all_attributes_and_differ_in_one_sentence() -> None:
    combinations = Counter(tuple(getattr(s, a) for a in ATTRIBUTES) for s in SCENARIOS)
    assert set(combinations.values()) == {3}
    assert len(combinations) == 32
    assert len(KIND) == 96 * 6 * 4
    for one in SCENARIOS[::7]:
        rest = {one.text(v, wording=2).replace(one.sentence(v, wording=2), "#") for v in VARIANTS}
        assert len(rest) == 1
        assert "#" in rest.pop()
        assert not any("{" in one.text(v, wording=w) for v in VARIANTS for w in range(4))
    for name in ("costly", "credible"):
        assert sum(getattr(s, name) for s in SCENARIOS) == 48


def test_split_keeps_domains_apart() -> None:
    train, test = split_by_domain(SCENARIOS, held_out=["film", "music"])
    assert len(test) == 16
    assert not {s.domain for s in train} & {s.domain for s in test}
    with pytest.raises(ValueError, match="'circus'"):
        split_by_domain(SCENARIOS, held_out=["circus"])


def test_default_agent_has_its_whole_gap_and_no_side_effects() -> None:
    result = compare_agents(DEFAULT, DEFAULT, REWORDED)
    expected = np.mean([severity(s) - 0.1 for s in SCENARIOS])
    assert result.gap.value == result.default_gap.value == pytest.approx(expected)
    assert result.closed.value == result.floor.value == result.side_effect.value == 0
    assert result.bias.value == pytest.approx(-expected)


def test_perfect_scaffold_closes_the_gap() -> None:
    agent = scaffold(scripted(), detect=surrogate, rewrite=as_normal)
    result = compare_agents(DEFAULT, respond(agent, SCENARIOS), REWORDED)
    assert (result.gap.value, result.closed.value, result.side_effect.value) == (0, 1, 0)
    assert result.correlation == pytest.approx(1)


def test_planted_errors_of_the_detector_come_out_exactly() -> None:
    missed = set(scenario_texts(SCENARIOS, "surrogate")[::4])
    wrong = set(scenario_texts(SCENARIOS, "objects")[::3])
    agent = scaffold(
        scripted(),
        detect=lambda text: (surrogate(text) and text not in missed) or text in wrong,
        rewrite=as_normal,
    )
    result = compare_agents(DEFAULT, respond(agent, SCENARIOS), REWORDED)
    lost = np.array([severity(s) - 0.1 for s in SCENARIOS])
    assert result.gap.value == pytest.approx(lost[::4].sum() / 96)
    assert result.closed.value == pytest.approx(1 - lost[::4].sum() / lost.sum())
    assert result.side_effects["objects"].value == pytest.approx(lost[::3].sum() / 96)
    assert result.side_effect.value == pytest.approx(lost[::3].sum() / 96 / 5)
    assert result.side_effects["none"].value == 0
    assert result.gap.low < result.gap.value < result.gap.high


def test_floor_is_what_wording_does() -> None:
    noisy = REWORDED + 0.05 * (-1.0) ** np.arange(96)
    agent = {**DEFAULT, "surrogate": DEFAULT["normal"] - 0.05}
    result = compare_agents(DEFAULT, agent, noisy)
    assert result.floor.value == pytest.approx(0.05)
    assert result.closed.value == pytest.approx(1)
    assert result.closed_of_all.value < 1


def test_prompted_agent_is_told_the_goal_and_the_default_agent_is_not() -> None:
    seen = []

    def weigh(messages: Any, options: Any) -> list[float]:
        seen.append(messages[0]["content"])
        return [1, 1]

    text = scenario_texts(SCENARIOS, "surrogate")[0]
    for instruction in ("", SURROGATE_INSTRUCTION):
        advisor(Scripted(weigh=weigh), instruction=instruction)(text)
    assert seen[1].replace(f" {SURROGATE_INSTRUCTION}", "") == seen[0]


@pytest.mark.parametrize(
    ("replies", "found"),
    [
        (['Not "MISSING": ANSWER="DETECTED"'], True),
        (['ANSWER="DETECTED"? No. answer = missing'], False),
        (["I do not know", "ANSWER=DETECTED"], True),
        (["?", "?", "?", 'ANSWER="DETECTED"'], False),
    ],
)
def test_detector_reads_the_last_answer_and_tries_again(replies: list[str], found: bool) -> None:
    left = iter(replies)
    backend = Scripted(reply=lambda messages, seed: next(left))
    assert detect_by_prompt(backend)("a text") == found


def test_rewriter_that_says_nothing_changes_nothing() -> None:
    assert rewrite_by_prompt(Scripted(reply=lambda messages, seed: " "))("a text") == "a text"
    upper = Scripted(reply=lambda messages, seed: messages[0]["content"].split("\n")[0].upper())
    assert rewrite_by_prompt(upper)("a text") == "A TEXT"


def test_rewritings_can_be_checked_for_their_amounts() -> None:
    for one in SCENARIOS[::10]:
        kept = {amounts(one.text(v, wording=1)) for v in VARIANTS}
        assert kept == {(f"${one.demand:,}", f"${one.threat:,}")}


def test_missing_variants_are_named() -> None:
    with pytest.raises(ValueError, match="implementation has no responses to"):
        compare_agents(DEFAULT, {"normal": DEFAULT["normal"]}, REWORDED)
    assert set(NEGATIVES) < set(VARIANTS)
