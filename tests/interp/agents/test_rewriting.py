"""The tuned rewriter: its examples, where it writes, and that a perfect one closes the gap."""

import pytest

from interp.agents import VARIANTS, amounts, make_scenarios, rewrite_by_model, rewrite_examples
from interp.agents.rewriting import _parts
from tests.tiny_models import tiny_llama

SCENARIOS = make_scenarios()[::7]


@pytest.mark.parametrize("wording", range(4))
def test_the_threat_is_found_in_every_wording(wording: int) -> None:
    for one in SCENARIOS:
        for variant in VARIANTS[:5]:
            text = one.text(variant, wording=wording)
            before, threat, after = _parts(text)
            assert threat == one.sentence(variant, wording=wording)
            assert f"{before} {threat} {after}" == text


def test_examples_keep_the_amount_and_lose_the_fire() -> None:
    for example in rewrite_examples(SCENARIOS):
        threat = example.prompt.partition("Threat: ")[2].partition("\n")[0]
        assert amounts(threat) == amounts(example.answer)
        assert threat.strip() != example.answer.strip()
    assert len(rewrite_examples(SCENARIOS)) == 4 * len(SCENARIOS)


def test_only_the_threat_is_written_anew() -> None:
    rewrite, one = rewrite_by_model(tiny_llama(), max_tokens=4), SCENARIOS[0]
    text = one.text("surrogate")
    before, _, after = _parts(text)
    assert rewrite(text).startswith(before)
    assert rewrite(text).endswith(after)
    assert rewrite("Nothing costs anything here.") == "Nothing costs anything here."
