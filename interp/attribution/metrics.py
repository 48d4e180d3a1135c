"""What a patched run is judged by: a number for each pair, from the logits at its last tokens.

Prefer a metric that is linear in the logits: the logit difference shows components that speak
against the answer, which the probability hides (Zhang and Nanda 2023, arXiv 2309.16042).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution.pairs import Pairs
from interp.attribution.resuming import last_logits, left_padded
from interp.core.model import HookedModel

Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number for each run of a pair.

    Examples:
        >>> top = Metric(name="largest logit", score=lambda logits, rows: logits[:, -1].amax(-1))
        >>> top.score(torch.tensor([[[1.0, 4.0]]]), torch.tensor([0]))
        tensor([4.])
    """

    name: str
    """What it is, with its unit."""
    score: Score
    """From float32 logits of the last tokens, shape (batch, n_kept, d_vocab), and the pair to
    which each run belongs, shape (batch), to numbers of shape (batch)."""
    n_kept: int = 1
    """How many tokens at the end it needs logits of."""


def logit_diff(pairs: Pairs) -> Metric:
    """Logit of the clean text's answer minus that of the corrupted text's.

    Raises:
        ValueError: If the pairs have no answers.
    """
    right, wrong = _answers(pairs, "answers"), _answers(pairs, "wrong_answers")

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        last = logits[:, -1]
        return _at(last, right[rows.cpu()]) - _at(last, wrong[rows.cpu()])

    return Metric(name="logit difference", score=score)


def answer_probability(pairs: Pairs) -> Metric:
    """Probability of the clean text's answer."""
    right = _answers(pairs, "answers")
    return Metric(
        name="probability of the answer",
        score=lambda logits, rows: _at(logits[:, -1].softmax(-1), right[rows.cpu()]),
    )


def continuation_logprob(pairs: Pairs, n_tokens: int) -> Metric:
    """Log-probability, in nats, of the tokens that end both texts of each pair.

    Args:
        pairs: Pairs whose two texts end in the same continuation.
        n_tokens: How many tokens it has.

    Raises:
        ValueError: If the two texts of a pair end differently.
    """
    ends = []
    for side in (pairs.clean, pairs.corrupted):
        stops = side.offsets[1:]
        if (side.lengths <= n_tokens).any():
            raise ValueError(f"n_tokens={n_tokens}: some text has no more than these tokens")
        ends.append(np.stack([side.ids[stop - n_tokens : stop] for stop in stops]))
    if (ends[0] != ends[1]).any():
        pair = int(np.argmax((ends[0] != ends[1]).any(axis=1)))
        raise ValueError(f"the texts of pair {pair} do not end in the same {n_tokens} tokens")
    ids = torch.from_numpy(ends[0])

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        logprobs = logits[:, :-1].log_softmax(-1)
        wanted = ids[rows.cpu()].to(logits.device)
        return logprobs.gather(-1, wanted[..., None])[..., 0].sum(-1)

    return Metric(name="log-probability [nat]", score=score, n_kept=n_tokens + 1)


def token_mass(ids: Int[np.ndarray, " token"]) -> Metric:
    """Probability that the next token is one of these, such as the tokens of toxic words.

    Args:
        ids: Token ids.
    """
    wanted = torch.from_numpy(ids)
    return Metric(
        name="probability of the tokens",
        score=lambda logits, rows: logits[:, -1].softmax(-1)[:, wanted].sum(-1),
    )


def kl_from(logprobs: Float[Tensor, "pair d_vocab"]) -> Metric:
    """Divergence, in nats, of the next token's distribution from a given one.

    Args:
        logprobs: Log-probabilities of each pair's next token.
    """

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        reference = logprobs[rows.cpu()].to(logits.device)
        return (reference.exp() * (reference - logits[:, -1].log_softmax(-1))).sum(-1)

    return Metric(name="KL from the clean run [nat]", score=score)


def kl_from_clean(model: HookedModel, pairs: Pairs) -> Metric:
    """Divergence, in nats, of the next token's distribution from that of the clean run."""
    with torch.no_grad():
        logits = last_logits(model, left_padded(model, pairs.clean, range(len(pairs))), 1)
    return kl_from(logits[:, -1].log_softmax(-1).cpu())


def _answers(pairs: Pairs, name: str) -> Int[Tensor, " pair"]:
    ids = getattr(pairs, name)
    if not len(ids):
        raise ValueError(f"these pairs have no {name}: pass {name}= to make_pairs")
    return torch.from_numpy(ids)


def _at(values: Tensor, ids: Tensor) -> Tensor:
    return values.gather(1, ids.to(values.device)[:, None])[:, 0]
