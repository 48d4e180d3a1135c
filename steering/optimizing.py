"""Optimized vectors: found by what they do to the output instead of by what inputs look like.

- `optimize_vector` with `likelihood`: cross-entropy of the wanted answers (Subramani et al. 2022).
- `optimize_vector` with `bipo`: preference in both directions of v (BiPO, Cao et al. 2024,
  2406.00045).
- `optimize_low_rank`: cross-entropy under h + R^T (W h + b - R h) (LoReFT, Wu et al. 2024,
  2404.03592).
- `discover_vectors`: change of later activations, no labels (MELBO, Mack and Turner 2024).

Only vectors are trained: the model's weights are left alone and get no gradients. An optimized
vector raises exactly what it was trained to raise, on those prompts; many unrelated vectors do
(hundreds of orthogonal ones for one behavior), so finding one says nothing about how the model
represents it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.hooks import Call
from interp.core.interventions import SiteEdit, edit
from interp.core.model import HookedModel
from interp.core.positions import PositionRule, Window
from interp.core.records import Records
from interp.core.seeds import generator
from interp.core.sites import Site
from steering.affine import AffineMap, low_rank
from steering.applying import Steering
from steering.propensity import Contests, Continuation, tokenize_continuations
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


def discover_vectors(
    model: HookedModel,
    prompts: Records | Sequence[str],
    *,
    layer: int,
    target_layer: int,
    n_vectors: int = 4,
    radius: float = 0.3,
    n_steps: int = 40,
    seed: int = 0,
) -> list[SteeringVector]:
    """Vectors that change later activations most, found without labels, mutually orthogonal.

    What they do must be read off the texts that they give; most do nothing that has a name.

    Args:
        model: A language model; it is not changed.
        prompts: Some prompts.
        layer: Layer after whose block they are added.
        target_layer: Layer whose activations they change.
        n_vectors: How many.
        radius: Norm of each, in units of the residual norm.
        n_steps: Steps of gradient ascent.
        seed: Where the ascent begins.

    Raises:
        ValueError: If the target layer is not above the layer.
    """
    if target_layer <= layer:
        raise ValueError(f"target_layer={target_layer} is not above layer={layer}")
    tokens = model.tokenize(prompts, add_generation_prompt=True)
    batch = {name: x.to(model.device) for name, x in tokens.batch(range(len(tokens))).items()}
    mask = batch["attention_mask"].bool()
    mask[:, 0] = False  # the first token is unlike all others
    plain, scale = _target(model, batch, None, layer, target_layer, mask)
    found: list[Tensor] = []
    for number in range(n_vectors):
        start = torch.empty(plain.shape[-1]).normal_(generator=generator(seed, "melbo", number))
        vector = _on_sphere(start, found, radius * scale)
        for _ in range(n_steps):
            vector.requires_grad_()
            steered, _ = _target(model, batch, vector, layer, target_layer, mask)
            (slope,) = torch.autograd.grad((steered - plain).norm(dim=-1).mean(), [vector])
            ahead = vector.detach() + 0.3 * radius * scale * slope / slope.norm().clamp(min=1e-12)
            vector = _on_sphere(ahead, found, radius * scale)
        found.append(vector.detach())
    return [
        SteeringVector(
            values={layer: vector},
            norms={layer: scale},
            origin=model.origin,
            provenance={"method": "unsupervised", "number": number, "target_layer": target_layer},
        )
        for number, vector in enumerate(found)
    ]


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
        scores = self._score(texts, change)
        return scores[: len(rows)], scores[len(rows) :]

    def residual_norm(self, layer: int) -> float:
        """Median norm of the residual stream behind a block."""
        text = self._sides[0][0]
        ids = torch.tensor([text.ids], device=self._model.device)
        with torch.no_grad(), self._model.capture([Site("resid_post", layer)]) as found:
            self._model.body(input_ids=ids, use_cache=False)
        return float(next(iter(found.values()))[0].float().norm(dim=-1).median())

    def _score(self, texts: list[Continuation], change: "Steering | SiteEdit") -> Tensor:
        lengths = torch.tensor([len(text.ids) for text in texts])
        starts = torch.tensor([text.n_prompt for text in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text.ids)] = torch.tensor(text.ids)
        columns = torch.arange(ids.shape[1])[None]
        mask = columns < lengths[:, None]
        model, device = self._model, self._model.device
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        inputs["position_ids"] = columns.expand_as(ids)
        with model.hooks.prompts(starts), change.applied(model):
            logits = model.module(
                **{k: v.to(device) for k, v in inputs.items()}, use_cache=False
            ).logits
        logprobs = logits[:, :-1].float().log_softmax(-1)
        found = logprobs.gather(2, ids[:, 1:, None].to(device))[..., 0]
        scored = (mask & (columns >= starts[:, None]))[:, 1:].to(device)
        total = (found * scored).sum(-1)
        return total / scored.sum(-1) if self._mean else total


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


def _target(
    model: HookedModel,
    batch: dict[str, Tensor],
    vector: Tensor | None,
    layer: int,
    target_layer: int,
    mask: Tensor,
) -> tuple[Float[Tensor, "token d_model"], float]:
    """Activations of the target layer at the chosen tokens, and the residual norm at the layer."""
    found: dict[int, Tensor] = {}
    reads = [
        (Site("resid_post", k), lambda value, call, k=k: found.__setitem__(k, value))
        for k in (layer, target_layer)
    ]
    values = torch.zeros(int(model.d_model or 0)) if vector is None else vector
    with (
        torch.set_grad_enabled(vector is not None),
        Steering(values={layer: values}).applied(model),
        model.hooks.attached(reads=reads),
    ):
        model.body(**batch, use_cache=False)
    norm = float(found[layer].detach()[mask].float().norm(dim=-1).mean())
    return found[target_layer][mask].float(), norm


def _on_sphere(vector: Tensor, others: list[Tensor], norm: float) -> Tensor:
    """A vector orthogonal to others, with a norm."""
    vector = vector.detach().clone()
    for other in others:
        vector -= (vector @ other) / (other @ other) * other
    return vector * (norm / vector.norm())
