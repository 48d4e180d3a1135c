"""The prompted baseline: ask the model itself, and compare two fixed answers by their likelihood.

No text is generated, so nothing is refused and nothing must be parsed. The prompt runs once for
both answers, which share its keys and values (McKenzie et al. 2025, arXiv 2506.10805, use the same
baseline). It says what a model tells when asked, and costs a whole forward pass of the prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp import HookedModel, Record, Records
from interp.core.extraction import BATCH_TOKENS
from interp.core.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question about a text and the two answers to it."""

    question: str
    """What is asked; `{text}` stands for the text."""
    positive: str
    """The answer of the positive class, without white space in front."""
    negative: str
    """The answer of the negative class."""

    def __post_init__(self) -> None:
        """Check that there is a place for the text, and that the answers differ."""
        if "{text}" not in self.question:
            raise ValueError(f"question={self.question!r}: needed {{text}} where the text stands")
        if not self.positive or not self.negative or self.positive == self.negative:
            raise ValueError(
                f"answers {self.positive!r} and {self.negative!r}: needed two that differ"
            )

    def asked(self, records: Records, *, max_chars: int | None = None) -> Records:
        """The question about each record, as the message of a user."""
        return Records(
            Record(
                messages=(
                    {
                        "role": "user",
                        "content": self.question.replace("{text}", _told(record, max_chars)),
                    },
                ),
                label=record.label,
                group=record.group,
            )
            for record in records
        )


STAKES_PROMPTS: Mapping[str, Prompt] = {
    "single word": Prompt(
        question="{text}\n\nAre the stakes of the situation above high or low? In a high-stakes "
        "situation a mistake may cost health, life, freedom or a fortune. Answer with one word.",
        positive="high",
        negative="low",
    ),
    "sentence": Prompt(
        question="Read this text.\n\n{text}\n\nHow much is at stake for the people in it?",
        positive="The stakes are high.",
        negative="The stakes are low.",
    ),
    "yes or no": Prompt(
        question="Text: {text}\n\nCould somebody be seriously harmed if this went wrong? "
        "Answer yes or no.",
        positive="Yes",
        negative="No",
    ),
    "letter": Prompt(
        question="{text}\n\nWhich describes the situation above?\nA. Serious consequences are "
        "possible.\nB. Nothing important is at stake.\nAnswer with the letter.",
        positive="A",
        negative="B",
    ),
}
"""Questions about stakes; choose among them on a development set."""


def prompted_scores(
    model: HookedModel,
    records: Records,
    prompt: Prompt,
    *,
    max_chars: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Float[np.ndarray, " example"]:
    """Log-odds of the positive answer: log p(positive | prompt) - log p(negative | prompt).

    Args:
        model: A causal language model; one without a chat template reads the bare question.
        records: What is asked about.
        prompt: The question and its answers.
        max_chars: Longer texts lose their middle; `None` for none.
        batch_tokens: Tokens of a batch, padding included.

    Raises:
        ValueError: If a prompt is longer than the model's context.
    """
    tokens = asked_tokens(model, records, prompt, max_chars=max_chars)
    answers = [_ids(model, answer) for answer in (prompt.positive, prompt.negative)]
    scores = np.empty(len(tokens))
    for examples in _batches(tokens, batch_tokens):
        batch = tokens.batch(examples, side="left")
        logs = answer_log_likelihoods(model, batch, answers)
        scores[examples] = (logs[:, 0] - logs[:, 1]).cpu().numpy()
    return scores


def asked_tokens(
    model: HookedModel, records: Records, prompt: Prompt, *, max_chars: int | None = None
) -> Tokens:
    """The prompts as the model reads them, for instance to count them."""
    asked = prompt.asked(records, max_chars=max_chars)
    if getattr(model.tokenizer, "chat_template", None) is None:
        return model.tokenize(Records.from_texts([record.content for record in asked]))
    return model.tokenize(asked, add_generation_prompt=True)


def answer_log_likelihoods(
    model: HookedModel, batch: Mapping[str, Int[Tensor, "batch pos"]], answers: Sequence[list[int]]
) -> Float[Tensor, "batch answer"]:
    """Log-likelihood of each answer behind each prompt of a batch, whose prompts run once.

    Args:
        model: A causal language model.
        batch: Inputs, padded on the left.
        answers: Token ids of each answer.
    """
    device, n_answers = model.device, len(answers)
    inputs = {name: tensor.to(device) for name, tensor in batch.items()}
    width = max(map(len, answers))
    ids = torch.tensor([[*a, *[0] * (width - len(a))] for a in answers], device=device)
    real = torch.tensor([[k < len(a) for k in range(width)] for a in answers], device=device)
    with torch.no_grad():
        start = model.module(**inputs, use_cache=True, logits_to_keep=1)
        logits = start.logits.float().repeat_interleave(n_answers, 0)  # (batch answer) 1 vocab
        n = len(inputs["input_ids"])
        ids, real = ids.repeat(n, 1), real.repeat(n, 1)
        if width > 1:
            start.past_key_values.batch_repeat_interleave(n_answers)
            more = _continued(inputs, ids[:, :-1], real[:, :-1], n_answers)
            rest = model.module(**more, past_key_values=start.past_key_values, use_cache=True)
            logits = torch.cat([logits, rest.logits.float()], 1)
    logs = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return logs.masked_fill(~real, 0).sum(-1).unflatten(0, (n, n_answers))


def _continued(
    inputs: Mapping[str, Tensor], ids: Tensor, real: Tensor, n_answers: int
) -> dict[str, Tensor]:
    """Inputs of the answers behind their prompts, each prompt repeated for each answer."""
    before = inputs["attention_mask"].repeat_interleave(n_answers, 0)
    begin = before.sum(-1, keepdim=True)
    return {
        "input_ids": ids,
        "attention_mask": torch.cat([before, real.long()], 1),
        "position_ids": begin + torch.arange(ids.shape[1], device=ids.device),
    }


def _told(record: Record, max_chars: int | None) -> str:
    """A text, or a conversation with roles in front of its turns; long ones cut in the middle."""
    messages, text = record.messages or (), record.content
    if len(messages) > 1:
        text = "\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)
    if max_chars is None or len(text) <= max_chars:
        return text
    head = max_chars // 4
    return f"{text[:head]} [...] {text[len(text) - (max_chars - head) :]}"


def _ids(model: HookedModel, answer: str) -> list[int]:
    return model.tokenizer(answer, add_special_tokens=False)["input_ids"]


def _batches(tokens: Tokens, batch_tokens: int) -> Iterator[np.ndarray]:
    """Examples of similar length together, the longest first."""
    order = np.argsort(-tokens.lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, int(batch_tokens // tokens.lengths[order[start]]))
        yield order[start:stop]
        start = stop
