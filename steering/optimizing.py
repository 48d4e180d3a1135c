"""Optimized vectors: found by what they do to the output instead of by what inputs look like.

- `optimize_vector` with `likelihood`: cross-entropy of the wanted answers (Subramani et al. 2022).
- `optimize_vector` with `bipo`: preference in both directions of v (BiPO, Cao et al. 2024,
  2406.00045).
- `optimize_rank_one`: cross-entropy, and detection by the same vector (ReFT-r1, Wu et al. 2025,
  2501.17148).
- `optimize_low_rank`: cross-entropy under h + R^T (W h + b - R h) (LoReFT, Wu et al. 2024,
  2404.03592).

Only vectors are trained: the model's weights are left alone and get no gradients. An optimized
vector raises exactly what it was trained to raise, on those prompts; many unrelated vectors do
(hundreds of orthogonal ones for one behavior), so finding one says nothing about how the model
represents it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.hooks import Call
from interp.core.interventions import SiteEdit, edit
from interp.core.model import HookedModel
from interp.core.positions import PositionRule, Window
from interp.core.seeds import generator
from interp.core.sites import Site
from steering.affine import AffineMap, low_rank
from steering.applying import Steering
from steering.propensity import Contests, tokenize_continuations
from steering.scoring import continuation_scores, padded
from steering.vectors import SteeringVector

FROM_LAST = Window(start=-1)


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How a vector is optimized."""

    n_steps: int = 60
    """Steps of Adam, each on a batch."""
    learning_rate: float = 0.1
    """In units of the norm of the residual stream divided by the root of its width."""
    batch_size: int = 8
    """Examples of a step."""
    max_norm: float | None = 0.5
    """Largest norm of the vector in units of the residual norm, `None` for no limit."""
    positions: PositionRule = FROM_LAST
    """At which tokens it acts."""
    seed: int = 0
    """Order of the examples and start of the vector."""


Loss = Callable[[Callable[[float], tuple[Tensor, Tensor]]], Tensor]
"""From a function that gives the log-probabilities of positive and negative continuations under the
vector times a coefficient, each of shape (batch,), to a loss."""


def likelihood(score: Callable[[float], tuple[Tensor, Tensor]]) -> Tensor:
    """Cross-entropy of the positive continuations."""
    return -score(1.0)[0].mean()


def bipo(score: Callable[[float], tuple[Tensor, Tensor]]) -> Tensor:
    """Bi-directional preference optimization, beta 1: v raises the preference, -v lowers it."""
    with torch.no_grad():
        plain = score(0.0)
    loss = torch.zeros(())
    for sign in (1.0, -1.0):
        positive, negative = score(sign)
        margin = (positive - plain[0]) - (negative - plain[1])
        loss = loss - torch.nn.functional.logsigmoid(sign * margin).mean() / 2
    return loss


def optimize_vector(
    model: HookedModel,
    contests: Contests,
    *,
    layer: int,
    loss: Loss = bipo,
    config: OptimizationConfig | None = None,
) -> SteeringVector:
    """A vector that makes positive continuations likelier.

    Args:
        model: A language model; it is not changed.
        contests: Prompts with two continuations each.
        layer: Layer after whose block the vector is added.
        loss: `bipo`, `likelihood`, or another function of the scores.
        config: Steps and limits.
    """
    config = config or OptimizationConfig()
    data = _Batches(model, contests, config)
    scale = data.residual_norm(layer)
    vector = torch.zeros(int(model.d_model or 0)).normal_(generator=generator(config.seed, "start"))
    vector = (1e-3 * scale * vector / vector.norm()).requires_grad_()
    optimizer = torch.optim.Adam([vector], lr=config.learning_rate * scale / len(vector) ** 0.5)
    for step in range(config.n_steps):
        rows = data.rows(step)

        def score(coefficient: float, rows: np.ndarray = rows) -> tuple[Tensor, Tensor]:
            steering = Steering(
                values={layer: vector}, coefficient=coefficient, positions=config.positions
            )
            return data.scores(rows, steering)

        _step(optimizer, [vector], loss(score))
        _limit(vector, config, scale)
    return SteeringVector(
        values={layer: vector.detach()},
        norms={layer: scale},
        origin=model.origin,
        provenance={"method": f"optimized, {getattr(loss, '__name__', 'loss')}"},
    )


def optimize_rank_one(
    model: HookedModel,
    contests: Contests,
    *,
    layer: int,
    top_k: int = 8,
    sparsity: float = 5e-3,
    config: OptimizationConfig | None = None,
) -> SteeringVector:
    """A vector that detects and steers: ReFT-r1.

    In training, h becomes h + m w at every token, where w has norm 1 and m is the mean of the
    `top_k` largest detections relu(h . w) of the text; detections other than these are pushed to 0.
    The result is w at the length of the largest detection in the training texts, to be added like
    any other vector; its direction is the detector.

    Args:
        model: A language model; it is not changed.
        contests: Prompts with two continuations each; the negative ones are not used.
        layer: Layer after whose block it acts.
        top_k: Detections that set the strength in training.
        sparsity: Weight of the mean absolute value of the other detections, in units of the norm of
            the residual stream.
        config: Steps and rate; `max_norm` and `positions` do not apply.
    """
    config = config or OptimizationConfig()
    data, d = _Batches(model, contests, config), int(model.d_model or 0)
    scale = data.residual_norm(layer)
    vector = torch.zeros(d).normal_(generator=generator(config.seed, "rank one"))
    vector = (vector / vector.norm()).requires_grad_()
    optimizer = torch.optim.Adam([vector], lr=config.learning_rate / d**0.5)
    largest = 0.0
    for step in range(config.n_steps):
        others: list[Tensor] = []
        peaks: list[float] = []

        def change(value: Tensor, call: Call, others: list = others, peaks: list = peaks) -> Tensor:
            changed, top, rest = rank_one_edit(value, vector, call.mask, top_k=top_k)
            others.append(rest)
            peaks.append(float(top.detach().max()))
            return changed

        loss = -data.scores(data.rows(step), edit(change, layers=layer))[0].mean()
        _step(optimizer, [vector], loss + sparsity * others[0] / scale)
        with torch.no_grad():
            vector.div_(vector.norm())
        largest = max(largest, *peaks)
    return SteeringVector(
        values={layer: largest * vector.detach()},
        norms={layer: scale},
        origin=model.origin,
        provenance={"method": "ReFT-r1", "top_k": top_k, "largest_detection": largest},
    )


def rank_one_edit(
    value: Float[Tensor, "batch pos feature"],
    vector: Float[Tensor, " feature"],
    mask: Bool[Tensor, "batch pos"] | None,
    *,
    top_k: int,
) -> tuple[Float[Tensor, "batch pos feature"], Float[Tensor, "batch k"], Float[Tensor, ""]]:
    """The edit of ReFT-r1 in training: new activations, top detections, mean of the others.

    Args:
        value: Activations.
        vector: The vector, used with norm 1.
        mask: Which tokens are real; `None` for all.
        top_k: Detections that set the strength.
    """
    unit = (vector / vector.norm()).to(value)
    found = torch.relu(value @ unit)
    mask = torch.ones_like(found, dtype=torch.bool) if mask is None else mask
    found = found * mask
    top = found.topk(min(top_k, found.shape[1]), dim=-1)
    n_real = mask.sum(-1).clamp(max=top_k)  # texts shorter than that have fewer
    strength = top.values.sum(-1) / n_real
    others = found.sum() - top.values.sum()
    n_others = (mask.sum() - n_real.sum()).clamp(min=1)
    return value + strength[:, None, None] * unit, top.values, others / n_others


def optimize_low_rank(
    model: HookedModel,
    contests: Contests,
    *,
    layer: int,
    rank: int = 4,
    config: OptimizationConfig | None = None,
) -> AffineMap:
    """The low-rank edit of LoReFT that makes positive continuations likelier.

    Args:
        model: A language model; it is not changed.
        contests: Prompts with two continuations each; the negative ones are not used.
        layer: Layer after whose block it acts.
        rank: Number of directions that it edits.
        config: Steps; `learning_rate` and `max_norm` are those of the maps, without units.
    """
    config = config or OptimizationConfig(learning_rate=0.01, max_norm=None)
    data, d = _Batches(model, contests, config), int(model.d_model or 0)
    start = torch.empty(d, rank).normal_(generator=generator(config.seed, "rotation"))
    rotation = torch.linalg.qr(start)[0].mT.contiguous()
    weight, bias = rotation.clone(), torch.zeros(rank)
    parameters = [part.requires_grad_() for part in (rotation, weight, bias)]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)
    for step in range(config.n_steps):
        made = low_rank(torch.linalg.qr(rotation.mT)[0].mT, weight, bias)
        change = edit(
            lambda value, call, made=made: _mapped(made, value, call),
            layers=layer,
            positions=config.positions,
        )
        _step(optimizer, parameters, -data.scores(data.rows(step), change)[0].mean())
    with torch.no_grad():
        made = low_rank(torch.linalg.qr(rotation.mT)[0].mT, weight, bias)
    return AffineMap(matrix=made.matrix.detach(), offset=made.offset.detach())


class _Batches:
    """Contests as padded batches, and their scores under an intervention."""

    def __init__(self, model: HookedModel, contests: Contests, config: OptimizationConfig) -> None:
        self._model, self._mean = model, contests.reduce == "mean"
        self._sides = [
            tokenize_continuations(model, contests.prompts, side)
            for side in (contests.positive, contests.negative)
        ]
        self._size = min(config.batch_size, len(contests))
        self._random = np.random.default_rng(config.seed)
        self._order = np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Examples of a step: every example once before any comes again."""
        while len(self._order) < self._size:
            shuffled = self._random.permutation(len(self._sides[0]))
            self._order = np.concatenate([self._order, shuffled])
        rows, self._order = self._order[: self._size], self._order[self._size :]
        return rows

    def scores(self, rows: np.ndarray, change: "Steering | SiteEdit") -> tuple[Tensor, Tensor]:
        """Log-probability of both continuations of some examples."""
        texts = [side[row] for side in self._sides for row in rows]
        scores = continuation_scores(
            self._model, padded(self._model, texts), change, mean=self._mean
        )
        return scores[: len(rows)], scores[len(rows) :]

    def residual_norm(self, layer: int) -> float:
        """Median norm of the residual stream behind a block."""
        text = self._sides[0][0]
        ids = torch.tensor([text.ids], device=self._model.device)
        with torch.no_grad(), self._model.capture([Site("resid_post", layer)]) as found:
            self._model.body(input_ids=ids, use_cache=False)
        return float(next(iter(found.values()))[0].float().norm(dim=-1).median())


def _step(optimizer: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor) -> None:
    """One step on these parameters only: the model's get no gradients."""
    for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = slope
    optimizer.step()


def _limit(vector: Tensor, config: OptimizationConfig, scale: float) -> None:
    if config.max_norm is not None:
        with torch.no_grad():
            norm = vector.norm()
            vector *= min(1.0, config.max_norm * scale / float(norm.clamp(min=1e-12)))


def _mapped(made: AffineMap, value: Tensor, call: Call) -> Tensor:
    return made(value)
