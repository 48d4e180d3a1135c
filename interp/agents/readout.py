"""A refitted readout: a small model made to decide by what its own residual stream tells.

Models of a hundred million parameters read a scenario, and hardly act on it. What is known in the
last layer is not told by the rows of the unembedding for "Yes" and "No". Here these two rows are
fitted anew, by ridge regression of wanted log-odds on the state before the unembedding; everything
else of the model stays. It shows what the model's states carry, and not what the model would do.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.agents.hooked import first_tokens
from interp.core.model import HookedModel

STRENGTHS = tuple(10.0**k for k in range(-2, 6))
"""Strengths of the ridge that are tried."""


def fit_readout(
    states: Float[Tensor, "example d_model"],
    wanted: Float[np.ndarray, " example"],
    groups: Int[np.ndarray, " example"],
) -> Float[Tensor, " d_model"]:
    """Weights whose product with a state is the wanted log-odds.

    There is no intercept, since an unembedding has none. The strength of the ridge is the one with
    the least error on groups that were left out.

    Args:
        states: What the unembedding gets at the last token.
        wanted: Probabilities, strictly between 0 and 1.
        groups: Examples of one group are left out together.

    Raises:
        ValueError: If a probability is 0 or 1, or there is only one group.
    """
    if not ((wanted > 0) & (wanted < 1)).all() or len(np.unique(groups)) < 2:
        raise ValueError("wanted must lie strictly between 0 and 1, and two groups are needed")
    X, z = states.double(), torch.from_numpy(np.log(wanted / (1 - wanted)))
    errors = [
        sum(
            _error(X, z, torch.from_numpy(groups == group), strength) for group in np.unique(groups)
        )
        for strength in STRENGTHS
    ]
    return _ridge(X, z, STRENGTHS[int(np.argmin(errors))]).float()


def with_readout(
    model: HookedModel, weights: Float[Tensor, " d_model"], options: Sequence[str]
) -> HookedModel:
    """A copy of a model in which the log-odds of two options are these weights times the state.

    Args:
        model: A language model.
        weights: From `fit_readout`.
        options: Two options that differ in their first token.

    Raises:
        ValueError: If there are not two options.
    """
    first = first_tokens(model, options)
    if len(first) != 2:
        raise ValueError(f"options are {list(options)!r}: needed two")
    module: Any = copy.deepcopy(model.module)
    old = module.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features, bias=False).to(old.weight)
    with torch.no_grad():
        head.weight.copy_(old.weight)
        middle = old.weight[first].mean(0)
        for row, sign in zip(first, (0.5, -0.5), strict=True):
            head.weight[row] = middle + sign * weights.to(middle)
    module.set_output_embeddings(head)  # input embeddings that it was tied to stay as they were
    module.config.tie_word_embeddings = False
    return HookedModel(
        module.eval().requires_grad_(False), tokenizer=model.tokenizer, name=f"{model.name}-readout"
    )


def _ridge(X: Tensor, z: Tensor, strength: float) -> Tensor:
    identity = torch.eye(X.shape[1], dtype=X.dtype)
    return torch.linalg.solve(X.mT @ X + strength * identity, X.mT @ z)


def _error(X: Tensor, z: Tensor, held: Tensor, strength: float) -> float:
    weights = _ridge(X[~held], z[~held], strength)
    return float(((X[held] @ weights - z[held]) ** 2).sum())
