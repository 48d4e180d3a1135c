"""Subspaces: which directions at one place carry the answer, learned by interchange.

Distributed alignment search (Geiger et al. 2024, arXiv 2303.02536) learns a subspace such that
putting in its coordinates from the clean run makes the corrupted run give the clean answer. That it
can be learned shows little: with enough dimensions it fits arbitrary answers, and untrained models
(Arora et al. 2024). So every result carries its controls, all judged on other pairs than those it
was learned from, and the same call on an untrained model of the same shape is one more.

The work is done by transformer-lens on a bridge, which is why this module is imported by its full
name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution.comparisons import Comparison
from interp.attribution.pairs import Pairs, paired_ids
from interp.core.circuits import (
    NormMatchedPlacebo,
    SubspaceInterchange,
    arbitrary_targets,
    collect_activations,
    fit_das,
    intervened_logits,
    random_basis,
)
from interp.core.model import HookedModel
from interp.core.seeds import derive
from interp.core.sites import Site

LEARNED = "learned"
"""Name of the condition that is not a control."""


@dataclass(frozen=True, kw_only=True)
class SubspaceResult(Comparison):
    """A learned subspace, and how often its interchange gives the clean answer on other pairs."""

    basis: Float[np.ndarray, "d_model rank"]
    """Orthonormal directions."""
    losses: Float[np.ndarray, " epoch"]
    """Mean training loss of each pass over the pairs, in nats."""
    site: str
    """Where it is."""
    layer: int
    """Layer, from 0."""
    column: int
    """Position of the token."""


def find_subspace(
    model: HookedModel,
    pairs: Pairs,
    held_out: Pairs,
    *,
    layer: int,
    column: int = -1,
    site: str = "resid_post",
    rank: int = 1,
    n_epochs: int = 20,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> SubspaceResult:
    """Learn the subspace at one layer and token whose interchange gives the clean answer.

    Conditions: `learned`; `nothing` put in; the `whole` vector put in, the most that is there; a
    `random` subspace of the same rank; a `placebo` that moves each vector as far as the learned
    one but within the random subspace; and `arbitrary`, a subspace learned for arbitrary answers
    and judged by them.

    Args:
        model: A language model.
        pairs: Clean and corrupted texts of one length with answers, from which it is learned.
        held_out: Other pairs of this length, on which every condition is judged.
        layer: Layer, from 0.
        column: Position of the token, negative from the end.
        site: Site with one vector for each token.
        rank: Dimensions of the subspace.
        n_epochs: Passes over the pairs.
        learning_rate: Of Adam.
        seed: Seed of the beginning, the order and the controls.

    Raises:
        HookNotFoundError: If the model lacks the site.
        ValueError: If pairs have no answers, texts differ in length, or the rank is not between 1
            and the width.
    """
    hook = str(Site(site, layer))
    model.sites[Site(site, layer)]
    width = model.d_model
    assert width is not None  # every language model has one
    if not 1 <= rank <= width:
        raise ValueError(f"rank is {rank}: needed 1 to {width}, the width of the stream")
    choices = _choices(pairs, held_out)
    search = _Search(model.bridge(), hook, column, torch.from_numpy(choices).to(model.device))
    options = {"rank": rank, "epochs": n_epochs, "lr": learning_rate}
    found = search.fit(pairs, _classes(pairs.answers, choices), options, seed)
    wanted = _classes(held_out.answers, choices)
    chance = random_basis(width, rank, seed=derive(seed, "random subspace") % 2**63)
    learned = SubspaceInterchange(found.basis)
    hits = {
        LEARNED: search.hits(held_out, wanted, learned),
        "nothing": search.hits(held_out, wanted, lambda base, source: base),
        "whole": search.hits(held_out, wanted, lambda base, source: source),
        "random": search.hits(held_out, wanted, SubspaceInterchange(chance)),
        "placebo": search.hits(held_out, wanted, NormMatchedPlacebo(learned, chance)),
    }
    made_up = [_arbitrary(side.answers, len(choices), seed) for side in (pairs, held_out)]
    other = search.fit(pairs, made_up[0], options, seed)
    hits["arbitrary"] = search.hits(held_out, made_up[1], SubspaceInterchange(other.basis))
    return SubspaceResult(
        quantity="share of pairs with the clean answer",
        conditions=tuple(hits),
        controls=tuple(hits)[1:],
        values=np.stack(list(hits.values())),
        basis=found.basis.cpu().numpy(),
        losses=np.array(found.losses),
        site=site,
        layer=layer,
        column=column,
    )


class _Search:
    """One place of a model, where subspaces are put in and judged."""

    def __init__(self, bridge: Any, hook: str, column: int, choices: Tensor) -> None:
        self._bridge, self._hook, self._column, self._choices = bridge, hook, column, choices

    def fit(self, pairs: Pairs, targets: Tensor, options: dict[str, Any], seed: int) -> Any:
        clean, corrupted = self._ids(pairs)
        places = self._places(clean)
        return fit_das(
            self._bridge,
            self._hook,
            corrupted,
            clean,
            targets,
            self._answers,
            base_positions=places,
            source_positions=places,
            seed=seed,
            **options,
        )

    def hits(
        self, pairs: Pairs, wanted: Tensor, put_in: Callable[[Tensor, Tensor], Tensor]
    ) -> Float[np.ndarray, " pair"]:
        """For each pair whether the answer is the wanted one, 1 or 0."""
        clean, corrupted = self._ids(pairs)
        places = self._places(clean)
        source = collect_activations(
            self._bridge, self._hook, clean, self._answers, positions=places
        )
        logits = intervened_logits(
            self._bridge, self._hook, put_in, corrupted, source, self._answers, positions=places
        )
        return (logits.argmax(-1) == wanted).double().numpy()

    def _answers(self, ids: Tensor) -> Float[Tensor, "pair answer"]:
        """Logits of the possible answers."""
        return self._bridge(ids)[:, -1, self._choices].float()

    def _ids(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        clean, corrupted = paired_ids(pairs)
        device = self._choices.device
        return clean.to(device), corrupted.to(device)

    def _places(self, ids: Tensor) -> Int[Tensor, " pair"]:
        return torch.full((len(ids),), range(ids.shape[1])[self._column])


def _choices(pairs: Pairs, held_out: Pairs) -> Int[np.ndarray, " answer"]:
    """All answers that occur."""
    if not len(pairs.answers) or not len(held_out.answers):
        raise ValueError("these pairs have no answers: pass answers= and wrong_answers=")
    sides = (pairs.answers, pairs.wrong_answers, held_out.answers, held_out.wrong_answers)
    return np.unique(np.concatenate(sides))


def _classes(answers: np.ndarray, choices: np.ndarray) -> Int[Tensor, " pair"]:
    return torch.from_numpy(np.searchsorted(choices, answers))


def _arbitrary(answers: np.ndarray, n_choices: int, seed: int) -> Int[Tensor, " pair"]:
    """A class for each answer that has nothing to do with it."""
    return arbitrary_targets(answers.tolist(), n_choices, seed)
