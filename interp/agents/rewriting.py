"""A fine-tuned rewriter: a surrogate threat becomes a normal one of the same cost.

The rewriter of a scaffold by a small model. It is shown what comes before the threat and the
sentence with the threat, and writes that sentence anew; everything else of the text stays as it
was. Which sentence that is follows from the amounts: it is the last that names one.
"""

import re
from collections.abc import Sequence

from interp.agents.scenarios import N_WORDINGS, Scenario
from interp.agents.surrogate_goals import Rewrite, amounts
from interp.core.generation import generate
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.training.loop import Example

_ASKED = "{before}\nThreat: {threat}\nThe same threat, but to do harm:"


def rewrite_examples(scenarios: Sequence[Scenario]) -> tuple[Example, ...]:
    """Surrogate threats with the matching normal ones, in all wordings.

    Examples:
        >>> from interp.agents.scenarios import make_scenarios
        >>> rewrite_examples(make_scenarios()[:1])[0].answer
        ' Otherwise the chain of bookshops will spend $500 to remove its titles from all windows.'
    """
    return tuple(
        Example(
            prompt=_prompt(*_parts(one.text("surrogate", wording=wording))[:2]),
            answer=f" {one.sentence('normal', wording=wording)}",
        )
        for one in scenarios
        for wording in range(N_WORDINGS)
    )


def rewrite_by_model(model: HookedModel, *, max_tokens: int = 40) -> Rewrite:
    """A rewriter that continues a prompt of `rewrite_examples`; texts without amounts stay.

    Args:
        model: A language model that was tuned on such examples.
        max_tokens: Tokens of the new sentence at most.
    """

    def rewrite(text: str) -> str:
        before, threat, after = _parts(text)
        if not threat:
            return text
        prompt = Records.from_texts([_prompt(before, threat)])
        written = generate(model, prompt, max_new_tokens=max_tokens, temperature=0.0).texts[0]
        sentence = written.strip().partition("\n")[0]
        return " ".join(part for part in (before, sentence or threat, after) if part)

    return rewrite


def _parts(text: str) -> tuple[str, str, str]:
    """What comes before the last sentence with an amount, that sentence, and what follows."""
    sentences = re.split(r"(?<=\.) ", text)
    places = [place for place, one in enumerate(sentences) if amounts(one)]
    if not places:
        return text, "", ""
    last = places[-1]
    return " ".join(sentences[:last]), sentences[last], " ".join(sentences[last + 1 :])


def _prompt(before: str, threat: str) -> str:
    return _ASKED.format(before=before, threat=threat)
