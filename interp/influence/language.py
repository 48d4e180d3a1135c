"""Language models as problems: which training texts change what a fine-tuned model predicts.

Meant for adapters (LoRA through peft): what requires a gradient is the parameter vector of every
run, and the frozen base is shared by all of them.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.influence.problem import Problem

IGNORED = -100
"""Target of a token that is not predicted: prompt or padding."""


class _Logits(nn.Module):
    """A causal language model of transformers as a function of its tokens alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token d_vocab"]:
        return self.module(input_ids=ids, use_cache=False).logits


def text_losses(
    logits: Float[Tensor, "text token d_vocab"], targets: Int[Tensor, "text token"]
) -> Float[Tensor, " text"]:
    """Mean loss of the tokens of each text that are targets, in nats.

    Args:
        logits: Of the model at every token.
        targets: The token at each place itself (it is predicted at the place before), `IGNORED`
            where nothing is predicted.
    """
    wanted = targets[:, 1:]
    counted = wanted != IGNORED
    ids = torch.where(counted, wanted, 0)[..., None]
    losses = -logits[:, :-1].log_softmax(-1).gather(-1, ids)[..., 0]
    return (losses * counted).sum(1) / counted.sum(1)


def language_problem(
    module: nn.Module, ids: Int[Tensor, "text token"], targets: Int[Tensor, "text token"]
) -> Problem:
    """Fine-tuning of a language model as a problem; its copy computes attention without a kernel.

    The fused kernels have no second derivatives, which unrolling needs.

    Args:
        module: A causal language model of transformers in evaluation mode, with adapters.
        ids: Tokens of the training texts, padded on the right.
        targets: Likewise, `IGNORED` at prompt and padding.

    Raises:
        ValueError: If a text has no target, or nothing requires a gradient.
    """
    empty = (targets[:, 1:] == IGNORED).all(1).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(
            f"texts {empty[:5]} have no target after their first token: leave them out"
        )
    problem = Problem(_Logits(module), text_losses, ids, targets)
    cast(Any, problem.model.module).set_attn_implementation("eager")
    return problem
