"""Sweeps: the propensity of examples over coefficients, with everything shared that can be.

Tan et al. (2024, 2407.12404) measure steerability as the slope of a propensity over coefficients
from -1.5 to 1.5, for each example; an example with a negative slope is anti-steerable. A sweep here
computes the layers below the steered one once, and every beginning that is not steered yet once: at
the last prompt token, seven coefficients cost seven tokens in the upper layers, not two passes
each.

A slope says that the propensity moves, not that text written under the vector shows the trait; and
the trait effect is separated from a preference for an answer only where both answers occur.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.core.hooks import Call, Edit, Stop
from interp.core.model import HookedModel
from interp.core.positions import PositionRule, Window, selected
from interp.core.sites import Site
from steering.applying import edited
from steering.operators import Operator, add
from steering.propensity import Contests, Continuation, tokenize_continuations
from steering.resuming import Resuming
from steering.sweep_results import SweepResult
from steering.trees import TREE_TOKENS, TokenTree, check_trees, plant
from steering.vectors import SteeringVector

COEFFICIENTS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
"""The published coefficients."""
FROM_LAST = Window(start=-1)
"""From the last token of the prompt on: every prediction of the continuation is steered."""


def sweep(
    model: HookedModel,
    vector: SteeringVector,
    contests: Contests,
    *,
    coefficients: Sequence[float] = COEFFICIENTS,
    positions: PositionRule = FROM_LAST,
    operator: Operator = add,
) -> SweepResult:
    """The propensity of every example at every coefficient, all layers of the vector together.

    Args:
        model: A language model.
        vector: The vector.
        contests: Prompts with two continuations each.
        coefficients: Factors on the vector.
        positions: At which tokens it acts.
        operator: What is done with the vector.

    Raises:
        ValueError: If a text cannot be tokenized, or the model cannot run token trees.
        ModelMismatchError: If the vector was found in another model.
    """
    plan = SweepPlan(model, contests, layers=vector.layers, site=vector.site)
    return plan.run(vector, coefficients=coefficients, positions=positions, operator=operator)


def sweep_layers(
    model: HookedModel,
    vector: SteeringVector,
    contests: Contests,
    *,
    coefficients: Sequence[float] = COEFFICIENTS,
    positions: PositionRule = FROM_LAST,
    operator: Operator = add,
) -> dict[int, SweepResult]:
    """A sweep of each layer of the vector alone; the unsteered pass is shared by all.

    The arguments are those of `sweep`. Choose a layer by these results on other data than those on
    which it is then judged.
    """
    plan = SweepPlan(model, contests, layers=vector.layers, site=vector.site)
    options = {"coefficients": coefficients, "positions": positions, "operator": operator}
    return {layer: plan.run(vector.at(layer), **options) for layer in vector.layers}


@dataclass(frozen=True, kw_only=True)
class _Unsteered:
    """What all sweeps over some contests share."""

    model: HookedModel
    contests: Contests
    texts: list[Continuation]
    """Each prompt with its positive continuation, then each with its negative one."""
    after: dict[int, int]
    """For each layer that may be steered, the block behind which a sweep can begin."""
    residuals: dict[int, list[Tensor]]
    """Residual stream of each text behind each of these blocks."""
    resuming: Resuming
    max_tokens: int


class SweepPlan:
    """The unsteered pass over some contests, from which any number of sweeps go on."""

    def __init__(
        self,
        model: HookedModel,
        contests: Contests,
        *,
        layers: Sequence[int],
        site: str = "resid_post",
        max_tokens: int = TREE_TOKENS,
    ) -> None:
        """Run the texts once, up to the highest of the layers.

        Args:
            model: A language model.
            contests: Prompts with two continuations each.
            layers: Layers at which sweeps will begin.
            site: Site of the vectors.
            max_tokens: Tokens that run together.
        """
        texts = [
            text
            for side in (contests.positive, contests.negative)
            for text in tokenize_continuations(model, contests.prompts, side)
        ]
        resolved = [s.layer or 0 for s in model.sites.at(site, tuple(layers))]
        after = {layer: layer if site == "resid_post" else layer - 1 for layer in resolved}
        check_trees(model, layer=model.n_layers - 1)
        self._shared = _Unsteered(
            model=model,
            contests=contests,
            texts=texts,
            after=after,
            residuals=_residuals(
                model, texts, sorted({k for k in after.values() if k >= 0}), max_tokens
            ),
            resuming=Resuming(model),
            max_tokens=max_tokens,
        )

    def run(
        self,
        vector: SteeringVector,
        *,
        coefficients: Sequence[float] = COEFFICIENTS,
        positions: PositionRule = FROM_LAST,
        operator: Operator = add,
    ) -> SweepResult:
        """One sweep; the arguments are those of `sweep`."""
        options = {"coefficients": coefficients, "positions": positions, "operator": operator}
        return self.run_all({"": vector}, **options)[""]

    def run_all(
        self,
        vectors: Mapping[str, SteeringVector],
        *,
        coefficients: Sequence[float] = COEFFICIENTS,
        positions: PositionRule = FROM_LAST,
        operator: Operator = add,
    ) -> dict[str, SweepResult]:
        """A sweep of each of several vectors; tokens that none of them steers run once for all.

        Args:
            vectors: Vectors by name, at the same layers and site.
            coefficients: As in `sweep`.
            positions: As in `sweep`.
            operator: As in `sweep`.

        Raises:
            ValueError: If vectors are at different layers, or at one that the plan was not made
                for.
        """
        shared, first = self._shared, next(iter(vectors.values()))
        for vector in vectors.values():
            vector.check(shared.model)
            if (vector.site, vector.layers) != (first.site, first.layers):
                raise ValueError("vectors of different layers or sites: sweep each on its own")
        layers = [s.layer or 0 for s in shared.model.sites.at(first.site, first.layers)]
        missing = [layer for layer in layers if layer not in shared.after]
        if missing:
            raise ValueError(f"this plan was not made for layers {missing}: {list(shared.after)}")
        tables = [dict(zip(layers, v.values.values(), strict=True)) for v in vectors.values()]
        factors = np.asarray(coefficients, dtype=np.float64)
        masks = [_steered(text, positions) for text in shared.texts]
        scores = _Runner(shared, first.site, tables, factors, operator, masks).run()
        n = len(shared.contests)
        return {
            name: SweepResult(
                coefficients=factors,
                positive=table[:n],
                negative=table[n:],
                first_answer=shared.contests.first_answer,
                layers=tuple(layers),
            )
            for name, table in zip(vectors, scores.transpose(1, 0, 2), strict=True)
        }


class _Runner:
    """The steered passes of the sweeps of some vectors."""

    def __init__(
        self,
        shared: _Unsteered,
        site: str,
        vectors: list[dict[int, Tensor]],
        factors: np.ndarray,
        operator: Operator,
        masks: list[np.ndarray],
    ) -> None:
        self._shared, self._operator, self._vectors = shared, operator, vectors
        self._sites = [Site(site, layer) for layer in vectors[0]]
        self._begin = min(shared.after[layer] for layer in vectors[0])
        # a column is a vector at a coefficient
        self._n_factors, self._factors = len(factors), np.tile(factors, len(vectors))
        self._masks = masks

    def run(self) -> np.ndarray:
        """The score of each text under each vector at each coefficient."""
        scores = np.full((len(self._masks), len(self._factors)), np.nan)
        sequences, marks, owners = [], [], []
        for number, text in enumerate(self._shared.texts):
            for column in range(len(self._factors)):
                mask = self._mask(number, column)
                start = int(np.argmax(mask)) if mask.any() else len(mask)
                # texts in different columns part where the first of their tokens is steered
                marks.append([None] * start + [(column, bool(m)) for m in mask[start:]])
                sequences.append(text.ids[:-1])
                owners.append((number, column))
        for tree in plant(sequences, marks=marks, max_tokens=self._shared.max_tokens):
            keys = [owners[number] for number in tree.sequences]
            for key, score in zip(keys, self._scores(tree, keys), strict=True):
                scores[key] = score
        return scores.reshape(len(scores), -1, self._n_factors)

    def _mask(self, number: int, column: int) -> Bool[np.ndarray, " pos"]:
        """Which tokens of a text change in a column; none where 0 times a vector is added."""
        mask = self._masks[number]
        idle = self._operator is add and self._factors[column] == 0
        return np.zeros_like(mask) if idle else mask

    def _scores(self, tree: TokenTree, keys: list[tuple[int, int]]) -> list[float]:
        """The score of each sequence of a tree."""
        shared = self._shared
        columns = torch.full((1, len(tree)), -1)
        for path, key in zip(tree.paths, keys, strict=True):
            columns[0, path[self._mask(*key)]] = key[1]
        texts = [shared.texts[number] for number, _ in keys]
        parts = np.split(
            self._logprobs(tree, keys, columns, *_targets(tree, texts)),
            np.cumsum([len(text.ids) - text.n_prompt for text in texts])[:-1],
        )
        mean = shared.contests.reduce == "mean"
        return [float(part.mean() if mean else part.sum()) for part in parts]

    def _logprobs(
        self,
        tree: TokenTree,
        keys: list[tuple[int, int]],
        columns: Int[Tensor, "1 node"],
        nodes: np.ndarray,
        targets: np.ndarray,
    ) -> np.ndarray:
        """Log-probability of each target token after its node, under the column's vector."""
        shared, model = self._shared, self._shared.model
        kept, index = np.unique(nodes, return_inverse=True)
        columns = columns.to(model.device)
        edits = [(site, self._edit(site.layer or 0, columns)) for site in self._sites]
        with (
            torch.no_grad(),
            shared.resuming.behind(self._begin, self._start(tree, keys)),
            model.hooks.attached(edits=edits),
        ):
            logits = model.module(
                **tree.inputs(model),
                use_cache=False,
                logits_to_keep=torch.from_numpy(kept).to(model.device),
            ).logits[0]
        logits = logits.float().log_softmax(dim=-1).cpu()
        return logits[torch.from_numpy(index), torch.from_numpy(targets)].double().numpy()

    def _start(self, tree: TokenTree, keys: list[tuple[int, int]]) -> Tensor:
        """The unsteered residual stream at the nodes of a tree."""
        if self._begin < 0:
            return torch.empty(1, len(tree), 0)
        residuals = self._shared.residuals[self._begin]
        value = torch.empty(1, len(tree), residuals[0].shape[-1])
        for path, (number, _) in zip(tree.paths, keys, strict=True):
            value[0, torch.from_numpy(path)] = residuals[number]
        return value.to(self._shared.model.device)

    def _edit(self, layer: int, columns: Int[Tensor, "1 node"]) -> Edit:
        """Each node changed by the vector and the coefficient of its column."""
        factors = torch.from_numpy(self._factors).float().to(columns.device)[columns]
        owner = torch.where(columns < 0, -1, columns // self._n_factors)
        present = [int(k) for k in owner.unique() if k >= 0]

        def change(value: Tensor, call: Call) -> Tensor:
            for k in present:
                vector, chosen = self._vectors[k][layer], owner == k
                value = edited(value, vector, factors, operator=self._operator, chosen=chosen)
            return value

        return change


def _steered(text: Continuation, rule: PositionRule) -> Bool[np.ndarray, " pos"]:
    """Which tokens of a text a rule picks; the last token predicts nothing and is left out."""
    where = torch.arange(len(text.ids) - 1)[None]
    call = Call(where, torch.ones_like(where, dtype=torch.bool), torch.tensor([text.n_prompt]))
    chosen = selected(rule, call)
    assert chosen is not None, "a call with positions gives a mask"
    return chosen[0].numpy()


def _residuals(
    model: HookedModel, texts: list[Continuation], after: list[int], max_tokens: int
) -> dict[int, list[Tensor]]:
    """Residual stream of each text behind some blocks."""
    rows: dict[int, list[Tensor]] = {layer: [torch.empty(0)] * len(texts) for layer in after}
    if not after:
        return rows
    for tree in plant([text.ids[:-1] for text in texts], max_tokens=max_tokens):
        found = _capture(model, tree, after)
        for number, path in zip(tree.sequences, tree.paths, strict=True):
            for layer in after:
                rows[layer][number] = found[layer][torch.from_numpy(path)]
    return rows


def _targets(tree: TokenTree, texts: list[Continuation]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes after which the tokens of the continuations come, and these tokens."""
    nodes = [path[text.n_prompt - 1 :] for path, text in zip(tree.paths, texts, strict=True)]
    return np.concatenate(nodes), np.concatenate([text.ids[text.n_prompt :] for text in texts])


def _capture(model: HookedModel, tree: TokenTree, layers: list[int]) -> dict[int, Tensor]:
    """Residual stream of every node behind some blocks; the blocks above them do not run."""
    found: dict[int, Tensor] = {}

    def read(value: Tensor, layer: int) -> None:
        found[layer] = value[0].detach().float().cpu()
        if layer == max(layers):
            raise Stop

    reads = [
        (Site("resid_post", layer), lambda value, call, layer=layer: read(value, layer))
        for layer in layers
    ]
    with torch.no_grad(), model.hooks.attached(reads=reads):
        try:
            model.body(**tree.inputs(model), use_cache=False)
        except Stop:
            pass
    return found
