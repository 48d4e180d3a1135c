"""Probes of token-level activations: a linear score for each token, pooled into one.

The scores of tokens show where in a text the probe fires. They are not explanations of the model:
a token may score high for what came before it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from interp import Activations, Direction
from interp.core.tokens import Tokens
from probes.base import Place, PooledProbe, Probe, Targets, encoded_groups
from probes.folds import group_folds
from probes.pooling import Attention, Mean, Pooling, State
from probes.sequence_fitting import (
    Examples,
    SequenceTraining,
    TokenFit,
    TokenWeights,
    fit_tokens,
)

_CHUNK = 2**18
"""Padded tokens that are scored at once."""


class SequenceProbe(Probe):
    """A probe of token-level activations of one or several layers.

    Several layers are joined: the score of a token is linear in all of them.

    Args:
        pooling: How scores of tokens become one; `Attention()` by default.
        reading: Rule for scoring if it is to differ from that of training, with as many heads:
            trained with a soft rule, a probe may be read with a hard one.
        positions: Which of the tokens count, as in `Tokens.mask`.
        training: How to train; `SequenceTraining()` by default.
        random_state: Seed.

    Attributes:
        weights_: Weights of the values and queries of tokens.
        validation_auroc_: AUROC on the held-out groups for each class, at the best epoch.
    """

    weights_: TokenWeights

    def __init__(
        self,
        pooling: Pooling | None = None,
        *,
        reading: Pooling | None = None,
        positions: Any = "content",
        training: SequenceTraining | None = None,
        random_state: int = 0,
    ) -> None:
        self.pooling = pooling
        self.reading = reading
        self.positions = positions
        self.training = training
        self.random_state = random_state

    @classmethod
    def from_pooled(
        cls, probe: PooledProbe, *, reading: Pooling | None = None, positions: Any = "content"
    ) -> "SequenceProbe":
        """A probe of pooled activations, read at every token; by default its scores are averaged.

        With the mean, its scores are those that the probe gives to mean-pooled activations.
        """
        check_is_fitted(probe)
        self = cls(Mean(), reading=reading, positions=positions)
        value = torch.from_numpy(probe.coef_).float()[:, None]
        intercept = torch.from_numpy(probe.intercept_).float()[:, None]
        self.weights_ = TokenWeights(value=value, intercept=intercept, query=value[:, :0])
        self.classes_, self.kind_, self.place_ = probe.classes_, probe.kind_, probe.place_
        return self

    @property
    def rule(self) -> Pooling:
        """The rule with which texts are scored."""
        return self.reading or self.pooling or Attention()

    @property
    def direction_(self) -> Direction:
        """The unit vector along which the values of tokens grow.

        Raises:
            AttributeError: If there are several heads, classes or layers.
        """
        check_is_fitted(self)
        place, value = self.place_, self.weights_.value
        if place is None or len(place.layers) != 1 or value.shape[:2] != (1, 1):
            raise AttributeError(
                "a direction needs a probe of one layer, one head and two classes; "
                f"this one has weights of shape {tuple(value.shape)}"
            )
        provenance = {"probe": "SequenceProbe", "pooling": repr(self.pooling or Attention())}
        return Direction(
            vector=value[0, 0],
            layer=place.layers[0],
            site=place.site,
            origin=place.origin,
            provenance=provenance,
        )

    def fit(
        self, X, y=None, groups=None, *, start: "SequenceProbe | None" = None
    ) -> "SequenceProbe":
        """Fit the probe.

        Args:
            X: Token-level `Activations` of one site.
            y: Labels, shape (example,), or indicators, shape (example, label); those of the
                activations by default.
            groups: Group of each example; those of the activations by default.
            start: A fitted probe to begin with, with the same rule and classes.

        Raises:
            ValueError: If the activations are pooled, or labels are missing or of one class.
        """
        targets, fits = self._fits(X, y, groups, joined=True, start=start)
        return self._with(fits[0], targets, X)

    def fit_layers(self, X, y=None, groups=None) -> "tuple[SequenceProbe, ...]":
        """A probe like this one for each layer by itself, all trained at once.

        They are those that `fit` gives at each layer alone. This one is not changed.

        Args:
            X: Token-level `Activations` of one site, of several layers.
            y: As in `fit`.
            groups: As in `fit`.
        """
        targets, fits = self._fits(X, y, groups, joined=False)
        fresh: Any = (clone(self) for _ in X.layers)
        return tuple(
            probe._with(fit, targets, X.at(layer))
            for probe, fit, layer in zip(fresh, fits, X.layers, strict=True)
        )

    def _fits(
        self, X: Any, y: Any, groups: Any, *, joined: bool, start: "SequenceProbe | None" = None
    ) -> tuple[Targets, list[TokenFit]]:
        """The labels, and what is learned of all layers joined, or of each."""
        y = X.labels if y is None else y
        if y is None:
            raise ValueError("the activations have no labels: pass y, or extract labelled Records")
        targets, config = Targets.of(y), self.training or SequenceTraining()
        pooling = self.pooling or Attention()
        read = self.rule
        if read.n_heads != pooling.n_heads or (read.has_queries and not pooling.has_queries):
            raise ValueError(
                f"reading={read!r} needs heads or queries that pooling={pooling!r} does not train"
            )
        held = np.zeros(len(X), bool)
        if config.validation_folds:
            grouped = encoded_groups(X.groups if groups is None else groups, len(X))
            folds = group_folds(
                np.asarray(y), grouped, n_folds=config.validation_folds, seed=self.random_state
            )
            held = folds == 0
        examples = self._examples(X)[0]
        n_layers = 1 if joined else len(X.layers)
        fits = fit_tokens(
            Examples(X=examples.X.unflatten(1, (n_layers, -1)), lengths=examples.lengths),
            targets.matrix,
            torch.from_numpy(held),
            pooling,
            config=config,
            start=None if start is None else start.weights_,
            seed=self.random_state,
        )
        return targets, fits

    def _with(self, fit: TokenFit, targets: Targets, X: Any) -> "SequenceProbe":
        """This probe, with what was learned."""
        self.weights_, self.validation_auroc_ = fit.weights, fit.auroc.numpy()
        self.classes_, self.kind_, self.place_ = targets.classes, targets.kind, Place.of(X)
        return self

    def decision_function(self, X) -> np.ndarray:
        """Score of each example, shape (example,), or (example, class) beyond two classes."""
        scores = np.empty((len(X), len(self.weights_.value)))
        for chosen, values, logits, mask, _ in self._chunks(X):
            scores[chosen] = self.rule.pooled(values, logits, mask).T.numpy()
        return scores[:, 0] if self.kind_ == "binary" else scores

    def examples(self, activations: Activations) -> Examples:
        """The tokens of each example that the probe reads, all layers joined."""
        return self._examples(activations)[0]

    def score_examples(self, examples: Examples) -> np.ndarray:
        """Scores of examples whose tokens were chosen already, shaped as `decision_function`."""
        values, logits = self._padded(examples)
        scores = self.rule.pooled(values, logits, examples.mask).T.numpy()
        return scores[:, 0] if self.kind_ == "binary" else scores

    def score_tokens(self, activations: Activations) -> np.ndarray:
        """Score of each token by itself, summed over heads.

        Returns:
            Shape (example, pos), with a last axis for the class beyond two; NaN behind the end of
            a text and at tokens that `positions` leaves out.
        """
        return self._by_token(activations, lambda values, *_: values.sum(-1))

    def score_prefixes(self, activations: Activations) -> np.ndarray:
        """Score of the text up to and including each token, shaped as in `score_tokens`.

        It is what the probe would say had the text ended there.
        """
        return self._by_token(
            activations, lambda v, q, _: torch.stack(list(self._stream(v, q)), -1)
        )

    def explain(self, activations: Activations) -> np.ndarray:
        """What each token contributes to the score, shaped as in `score_tokens`.

        The contributions of an example sum to its score. Weights of attention and windows are
        taken as they are: what a token contributes is its value times its weight.
        """

        def contributions(values: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
            values = values.clone().requires_grad_()
            with torch.enable_grad():
                score = self.rule.pooled(values, logits, mask).sum()
            return (values * torch.autograd.grad(score, values)[0]).sum(-1).detach()

        return self._by_token(activations, contributions)

    def score_turns(self, activations: Activations, *, role: str | None = None) -> pd.DataFrame:
        """Scores of the turns of conversations.

        Args:
            activations: Token-level activations of conversations.
            role: Only turns of this role.

        Returns:
            One row for each turn with tokens that count: `example`, `turn`, `role`, `score` of the
            turn by itself, `so_far` of the conversation up to its end; with a column `class`
            beyond two classes.
        """
        tokens = _token_table(activations)
        prefixes = self.score_prefixes(activations)
        rows = np.flatnonzero(tokens.mask(self.positions) & (tokens.turns >= 0))
        example, turn = tokens.examples[rows], tokens.turns[rows]
        first = np.flatnonzero(np.r_[True, (np.diff(example) != 0) | (np.diff(turn) != 0)])
        lengths = np.diff(np.r_[first, len(rows)])
        keep = np.zeros(len(tokens.ids), bool)
        keep[rows] = True
        said = Examples(X=_features(activations, keep), lengths=torch.from_numpy(lengths))
        parts = torch.arange(len(lengths)).split(_CHUNK // max(int(lengths.max()), 1) + 1)
        alone = np.concatenate([self.score_examples(said.take(part)) for part in parts])
        column = np.arange(len(tokens.ids)) - tokens.offsets[tokens.examples]
        so_far = prefixes[example[first], column[rows[first + lengths - 1]]]
        talk = [tokens.roles[e] for e in example[first]]
        frame = pd.DataFrame({"example": example[first], "turn": turn[first]})
        frame["role"] = [
            roles[t] if roles else None for roles, t in zip(talk, turn[first], strict=True)
        ]
        n_classes = 1 if self.kind_ == "binary" else len(self.classes_)
        frame = frame.loc[np.repeat(frame.index, n_classes)].reset_index(drop=True)
        if n_classes > 1:
            frame["class"] = np.tile(self.classes_, len(lengths))
        frame["score"], frame["so_far"] = alone.ravel(), so_far.ravel()
        return frame if role is None else frame[frame["role"] == role].reset_index(drop=True)

    def _stream(self, values: Tensor, logits: Tensor) -> Iterator[Tensor]:
        """Score after each position, by the rule's streaming form."""
        state: State = self.rule.start(values[..., 0, :])
        for value, logit in zip(values.unbind(-2), logits.unbind(-2), strict=True):
            state, score = self.rule.step(state, value, logit)
            yield score

    def _by_token(self, activations: Activations, function: Any) -> np.ndarray:
        """A function of padded values, logits and mask, at the tokens' own places."""
        tokens = _token_table(activations)
        column = np.arange(len(tokens.ids)) - tokens.offsets[tokens.examples]
        shape = (len(tokens), int(tokens.lengths.max()), len(self.weights_.value))
        out = np.full(shape, np.nan)
        for _, values, logits, mask, rows in self._chunks(activations):
            found = function(values, logits, mask)[:, mask]
            out[tokens.examples[rows], column[rows]] = found.T.numpy()
        return out[..., 0] if self.kind_ == "binary" else out

    def _chunks(self, activations: Any) -> Iterator[tuple[Any, Tensor, Tensor, Tensor, np.ndarray]]:
        """Examples, values, logits and mask of some examples, and their rows among the tokens."""
        check_is_fitted(self)
        if self.place_ is not None:
            self.place_.check(activations)
        examples, kept = self._examples(activations)
        if examples.X.shape[1] != self.weights_.value.shape[-1]:
            raise ValueError(
                f"these activations have {examples.X.shape[1]} features, and the probe was fitted "
                f"to {self.weights_.value.shape[-1]}"
            )
        order = examples.lengths.argsort(descending=True, stable=True)
        rows = Examples(X=torch.arange(len(kept)), lengths=examples.lengths)
        begin = 0
        while begin < len(order):
            size = max(1, _CHUNK // int(examples.lengths[order[begin]]))
            chosen = order[begin : begin + size]
            part = examples.take(chosen)
            values, logits = self._padded(part)
            yield chosen.numpy(), values, logits, part.mask, kept[rows.take(chosen).X.numpy()]
            begin += size

    @torch.no_grad()
    def _padded(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Values and logits by example."""
        values, queries = self.weights_(examples.X)
        values, queries = examples.padded(values), examples.padded(queries)
        return values, self.rule.logits(values, queries)

    def _examples(self, activations: Any) -> tuple[Examples, np.ndarray]:
        """The tokens that count, and their rows."""
        if not isinstance(activations, Activations):
            raise TypeError(f"X is a {type(activations).__name__}: needed token-level Activations")
        tokens = _token_table(activations)
        keep = tokens.mask(self.positions)
        lengths = np.bincount(tokens.examples[keep], minlength=len(tokens))
        examples = Examples(X=_features(activations, keep), lengths=torch.from_numpy(lengths))
        return examples, np.flatnonzero(keep)


def _token_table(activations: Activations) -> Tokens:
    if activations.tokens is None:
        raise ValueError(
            f"these activations are pooled ({activations.pooling}): needed token level; extract "
            "them without pooling"
        )
    return activations.tokens


def _features(activations: Activations, keep: np.ndarray) -> Float[Tensor, "token feature"]:
    """The chosen rows, all layers joined."""
    return activations.values[torch.from_numpy(keep)].flatten(1).float()
