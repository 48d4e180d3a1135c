"""Losses of unlearning, each a function of what a model predicts for answers.

All of them are minimized: what is to be forgotten carries its minus sign here. Only answer tokens
count, never prompts or padding. None needs a second model: where a reference enters, it is a tensor
that was computed once.

Sources: gradient ascent and difference (Maini et al. 2024, arXiv 2401.06121), NPO (Zhang et al.
2024, arXiv 2404.05868), SimNPO (Fan et al. 2024, arXiv 2410.07163), UNDIAL (Dong et al. 2024, arXiv
2402.10052), RMU (Li et al. 2024, arXiv 2403.03218), circuit breakers (Zou et al. 2024, arXiv
2406.04313), ELM (Gandikota et al. 2024, arXiv 2410.02760), CE-U (Yang 2025, arXiv 2503.01224), WGA
(Wang et al. 2025, arXiv 2502.19301). IdkDPO (Maini et al.) is `interp.training.dpo_loss`
with an answer that refuses as the chosen one.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from interp.training.loop import Predictions, nll, sequence_losses, token_losses


def gradient_ascent(found: Predictions) -> Float[Tensor, ""]:
    """The negative of `nll`; unbounded below."""
    return -nll(found)


def npo(
    found: Predictions, reference: Float[Tensor, " example"], *, beta: float = 0.1
) -> Float[Tensor, ""]:
    """Negative preference optimization: gradient ascent that saturates.

    Args:
        found: Predictions for the answers to forget.
        reference: `sequence_losses` of the same answers before unlearning.
        beta: How soon it saturates; towards 0 it is gradient ascent.
    """
    gain = sequence_losses(found) - reference
    return -2 / beta * functional.logsigmoid(beta * gain).mean()


def simnpo(found: Predictions, *, beta: float = 4.5, delta: float = 0.0) -> Float[Tensor, ""]:
    """NPO without a reference, on the mean loss per token.

    Args:
        found: Predictions for the answers to forget.
        beta: How soon it saturates.
        delta: Loss per token, in nats, beyond which it saturates.
    """
    mean = sequence_losses(found) / found.counted.sum(-1)
    return -2 / beta * functional.logsigmoid(beta * (mean - delta)).mean()


def undial(
    found: Predictions, reference: Float[Tensor, "example pos vocabulary"], *, beta: float = 10.0
) -> Float[Tensor, ""]:
    """Distillation from the reference with the logit of the answer token lowered by `beta`.

    Args:
        found: Predictions for the answers to forget.
        reference: Logits of the same tokens before unlearning.
        beta: By how much the logit of each answer token is lowered in the target.
    """
    lowered = functional.one_hot(found.targets, found.logits.shape[-1])
    target = (reference - beta * lowered).softmax(-1)
    return _mean(_cross_entropy(target, found.logits), found.counted)


def ce_u(found: Predictions) -> Float[Tensor, ""]:
    """Cross entropy to the model's own distribution without the answer token."""
    excluded = torch.zeros_like(found.logits).scatter(-1, found.targets[..., None], -torch.inf)
    target = (found.logits.detach() + excluded).softmax(-1)
    return _mean(_cross_entropy(target, found.logits), found.counted)


def wga(found: Predictions, *, beta: float = 1.0) -> Float[Tensor, ""]:
    """Gradient ascent in which tokens that are already unlikely weigh less.

    Args:
        found: Predictions for the answers to forget.
        beta: Power of the probability that weighs each token; 0 is gradient ascent.
    """
    losses = token_losses(found)
    weights = (-beta * losses).exp().detach()
    return -_mean(weights * losses, found.counted)


def negative_entropy(found: Predictions) -> Float[Tensor, ""]:
    """Sum of p log p at answer tokens, on average: lowest for the uniform distribution."""
    logprobs = found.logits.log_softmax(-1)
    return _mean((logprobs.exp() * logprobs).sum(-1), found.counted)


def elm_target(
    reference: Float[Tensor, "*any vocabulary"],
    novice: Float[Tensor, "*any vocabulary"],
    expert: Float[Tensor, "*any vocabulary"],
    *,
    eta: float,
) -> Float[Tensor, "*any vocabulary"]:
    """Probabilities that erase a concept: the reference, moved from expert towards novice.

    Args:
        reference: Logits without a prompt.
        novice: Logits behind a prompt that claims to know nothing of the concept.
        expert: Logits behind a prompt that claims to know it.
        eta: How far to move.
    """
    shift = novice.log_softmax(-1) - expert.log_softmax(-1)
    return (reference.log_softmax(-1) + eta * shift).softmax(-1)


def distillation(
    found: Predictions, target: Float[Tensor, "example pos vocabulary"]
) -> Float[Tensor, ""]:
    """Cross entropy to given probabilities: how ELM is trained towards `elm_target`."""
    return _mean(_cross_entropy(target, found.logits), found.counted)


def rmu(
    hidden: Float[Tensor, "example pos d_model"],
    target: Float[Tensor, "*any d_model"],
    counted: Bool[Tensor, "example pos"],
) -> Float[Tensor, ""]:
    """Mean squared distance of hidden states to a target, over tokens and dimensions.

    To forget, the target is one random vector of some length; to retain, the states before.
    """
    return _mean((hidden - target).square().mean(-1), counted)


def random_target(d_model: int, length: float, generator: torch.Generator) -> Tensor:
    """RMU's target: a random vector with positive entries, shape (d_model)."""
    vector = torch.rand(d_model, generator=generator)
    return length * vector / vector.norm()


def circuit_breaker(
    hidden: Float[Tensor, "example pos d_model"],
    reference: Float[Tensor, "example pos d_model"],
    counted: Bool[Tensor, "example pos"],
) -> Float[Tensor, ""]:
    """Positive part of the cosine of hidden states with those before: 0 where they are orthogonal.

    Its retain part is the distance of the hidden states, `representation_distance`.
    """
    return _mean(functional.cosine_similarity(hidden, reference, dim=-1).relu(), counted)


def representation_distance(
    hidden: Float[Tensor, "example pos d_model"],
    reference: Float[Tensor, "example pos d_model"],
    counted: Bool[Tensor, "example pos"],
) -> Float[Tensor, ""]:
    """Mean Euclidean distance of hidden states to those before."""
    return _mean((hidden - reference).norm(dim=-1), counted)


def mlp_confusion(
    output: Float[Tensor, "example pos d_model"],
    reference: Float[Tensor, "example pos d_model"],
    counted: Bool[Tensor, "example pos"],
) -> Float[Tensor, ""]:
    """CIR's loss: how far an MLP still writes along what it wrote before, in its squared length."""
    along = (output * reference).sum(-1).clamp(min=0)
    return _mean(along, counted) / _mean(reference.norm(dim=-1), counted).square()


def _cross_entropy(target: Tensor, logits: Tensor) -> Float[Tensor, "example pos"]:
    return -(target * logits.log_softmax(-1)).sum(-1)


def _mean(
    values: Float[Tensor, "example pos"], counted: Bool[Tensor, "example pos"]
) -> Float[Tensor, ""]:
    """Mean over counted tokens."""
    return values.masked_fill(~counted, 0.0).sum() / counted.sum()
