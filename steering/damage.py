"""Damage: what steering costs on text that has nothing to do with the trait.

Per token of neutral text: the Kullback-Leibler divergence from the unsteered to the steered model,
and the rise of the loss; and for texts that it writes, how much they repeat. An effect without its
damage is half a result: any vector moves any propensity if it is long enough. Low damage here is no
proof of unharmed abilities, which need their own tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp import viz
from interp.core.generation import generate
from interp.core.hooks import Call, Intervention
from interp.core.model import HookedModel
from interp.core.positions import PositionRule, selected
from interp.core.records import Records
from interp.core.sites import Site
from steering.applying import edited
from steering.operators import Operator, add
from steering.resuming import Resuming
from steering.statistics import Estimate, mean_estimate
from steering.sweep_results import SweepResult
from steering.vectors import SteeringVector


@dataclass(frozen=True, kw_only=True, eq=False)
class DamageResult:
    """Divergence and loss on neutral texts at each coefficient."""

    coefficients: Float[np.ndarray, " coefficient"]
    """Factors on the vector."""
    kl: Float[np.ndarray, "text coefficient"]
    """Mean divergence of the steered from the unsteered predictions, in nats per token."""
    loss: Float[np.ndarray, "text coefficient"]
    """Mean loss of the steered model, in nats per token."""
    unsteered_loss: Float[np.ndarray, " text"]
    """Mean loss of the unsteered model."""

    @property
    def mean_kl(self) -> tuple[Estimate, ...]:
        """Divergence at each coefficient with its interval over texts."""
        return tuple(mean_estimate(column) for column in self.kl.T)

    @property
    def perplexity_ratio(self) -> Float[np.ndarray, " coefficient"]:
        """Perplexity of the steered model over that of the unsteered one."""
        return np.exp((self.loss - self.unsteered_loss[:, None]).mean(axis=0))

    def to_frame(self) -> pd.DataFrame:
        """One row for each text and coefficient."""
        n, m = self.kl.shape
        return pd.DataFrame(
            {
                "text": np.repeat(np.arange(n), m),
                "coefficient": np.tile(self.coefficients, n),
                "kl": self.kl.ravel(),
                "loss": self.loss.ravel(),
                "unsteered_loss": np.repeat(self.unsteered_loss, m),
            }
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """Divergence over coefficients."""
        means = self.mean_kl
        line = viz.Curve(
            x=self.coefficients,
            y=[m.value for m in means],
            low=[m.low for m in means],
            high=[m.high for m in means],
        )
        return viz.curves(
            {"divergence": line},
            title="What steering costs on neutral text",
            x_title="coefficient",
            y_title="KL to the unsteered model (nats per token)",
            **layout,
        )


def damage(
    model: HookedModel,
    vector: SteeringVector,
    texts: Records | Sequence[str],
    *,
    coefficients: Sequence[float] = (-1.0, 1.0),
    positions: PositionRule = "all",
    operator: Operator = add,
) -> DamageResult:
    """What steering costs on neutral texts of some hundred tokens.

    Args:
        model: A language model.
        vector: The vector; all its layers together.
        texts: Neutral texts, each of two or more tokens.
        coefficients: Factors on the vector.
        positions: At which tokens it acts; each text counts as written after its first token.
        operator: What is done with the vector.

    Raises:
        ValueError: If a text has a single token.
    """
    vector.check(model)
    resuming = Resuming(model)
    rows = [
        _of_one(model, resuming, vector, ids, coefficients, positions, operator)
        for ids in _split(model, texts)
    ]
    kl, loss, unsteered = (np.array(column) for column in zip(*rows, strict=True))
    return DamageResult(
        coefficients=np.asarray(coefficients, dtype=np.float64),
        kl=kl,
        loss=loss,
        unsteered_loss=unsteered,
    )


def intervention_damage(
    model: HookedModel, intervention: Intervention, texts: Records | Sequence[str]
) -> DamageResult:
    """What any intervention costs on neutral texts: weight edits, ablations, maps.

    Args:
        model: A language model.
        intervention: What acts on it; its strength counts as coefficient 1.
        texts: Neutral texts, each of two or more tokens; each counts as written after its first
            token.

    Raises:
        ValueError: If a text has a single token.
    """
    rows = []
    for text in _split(model, texts):
        ids = text[None].to(model.device)
        with torch.no_grad(), model.hooks.prompts(torch.ones(1, dtype=torch.long)):
            plain = _log_probabilities(model, ids)
            with intervention.applied(model):
                changed = _log_probabilities(model, ids)
        rows.append((_divergence(plain, changed), _loss(changed, ids[0]), _loss(plain, ids[0])))
    kl, loss, unsteered = (np.array(column) for column in zip(*rows, strict=True))
    return DamageResult(
        coefficients=np.ones(1), kl=kl[:, None], loss=loss[:, None], unsteered_loss=unsteered
    )


def _of_one(
    model: HookedModel,
    resuming: Resuming,
    vector: SteeringVector,
    ids: Tensor,
    coefficients: Sequence[float],
    positions: PositionRule,
    operator: Operator,
) -> tuple[list[float], list[float], float]:
    """Divergence and loss at each coefficient, and the unsteered loss, on one text."""
    ids = ids[None].to(model.device)
    sites = model.sites.at(vector.site, vector.layers)
    first = min(site.layer or 0 for site in sites)
    begin = first if vector.site == "resid_post" else first - 1
    where = torch.arange(ids.shape[1], device=model.device)[None]
    call = Call(where, torch.ones_like(where, dtype=torch.bool), torch.ones(1, dtype=torch.long))
    chosen, residual = selected(positions, call), torch.empty(1, ids.shape[1], 0)
    with torch.no_grad():
        keep = [Site("resid_post", begin)] if begin >= 0 else []
        with model.capture(keep) as found:
            plain = _log_probabilities(model, ids)
        residual = found[keep[0]][0] if keep else residual
        kls, losses = [], []
        for c in coefficients:
            edits = [
                (site, _edit(value, c, operator, chosen))
                for site, value in zip(sites, vector.values.values(), strict=True)
            ]
            with resuming.behind(begin, residual), model.hooks.attached(edits=edits):
                steered = _log_probabilities(model, ids)
            kls.append(_divergence(plain, steered))
            losses.append(_loss(steered, ids[0]))
    return kls, losses, _loss(plain, ids[0])


def _edit(vector: Tensor, coefficient: float, operator: Operator, chosen: Tensor | None) -> Any:
    return lambda value, call: edited(value, vector, coefficient, operator=operator, chosen=chosen)


def _split(model: HookedModel, texts: Records | Sequence[str]) -> list[Tensor]:
    """The ids of each text."""
    tokens = model.tokenize(texts)
    if int(tokens.lengths.min()) < 2:
        raise ValueError("a text of a single token predicts nothing: needed two or more tokens")
    return [torch.from_numpy(ids) for ids in np.split(tokens.ids, tokens.offsets[1:-1])]


def _log_probabilities(model: HookedModel, ids: Tensor) -> Float[Tensor, "pos d_vocab"]:
    return model.module(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)


def _divergence(plain: Tensor, steered: Tensor) -> float:
    """Mean divergence over the predictions of a text, in nats per token."""
    return float((plain.exp() * (plain - steered)).sum(-1)[:-1].mean())


def _loss(logprobs: Tensor, ids: Tensor) -> float:
    return float(-logprobs[:-1].gather(1, ids[1:, None]).mean())


def repetition(
    model: HookedModel,
    vector: SteeringVector,
    prompts: Records | Sequence[str],
    *,
    coefficients: Sequence[float],
    max_new_tokens: int = 40,
    positions: PositionRule = "generated",
) -> pd.DataFrame:
    """How much greedy texts repeat themselves, one row for each coefficient and prompt.

    The column `repeated` is the share of three-token sequences that occurred before in the text: 0
    where none does, near 1 in a loop. Texts of fewer than three tokens have none.
    """
    rows = []
    for coefficient in coefficients:
        with vector.applied(model, coefficient=float(coefficient), positions=positions):
            written = generate(model, prompts, max_new_tokens=max_new_tokens)
        for number, (ids, text) in enumerate(zip(written.tokens, written.texts, strict=True)):
            triples = list(zip(ids, ids[1:], ids[2:], strict=False))
            repeated = 1 - len(set(triples)) / len(triples) if triples else 0.0
            rows.append((coefficient, number, repeated, text))
    return pd.DataFrame(rows, columns=["coefficient", "prompt", "repeated", "text"])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The coefficient at which a vector costs what it may cost."""

    coefficient: float
    """The coefficient, of the sign that was asked for."""
    kl: float
    """Its divergence on the texts of the calibration, in nats per token."""
    budget: float
    """What was allowed."""


def calibrate(
    model: HookedModel,
    vector: SteeringVector,
    texts: Records | Sequence[str],
    *,
    budget: float,
    sign: int = 1,
    positions: PositionRule = "all",
    operator: Operator = add,
) -> Calibration:
    """The coefficient whose divergence on neutral texts is the budget, within 2 %.

    Args:
        model: A language model.
        vector: The vector.
        texts: Neutral texts; hold some out to see how well the budget is kept.
        budget: Divergence per token in nats, such as 0.1.
        sign: 1 to steer along the vector, -1 against it.
        positions: At which tokens it acts.
        operator: What is done with the vector.

    Raises:
        ValueError: If the budget is not positive, or no coefficient up to 1000 costs as much.
    """
    if not budget > 0:
        raise ValueError(f"budget={budget}: needed a positive divergence in nats per token")

    def cost(coefficient: float) -> float:
        found = damage(
            model,
            vector,
            texts,
            coefficients=(sign * coefficient,),
            positions=positions,
            operator=operator,
        )
        return float(found.kl.mean())

    low, high, at = 0.0, 1.0, cost(1.0)
    while at < budget:
        low, high = high, 2 * high
        if high > 1000:
            raise ValueError(f"no coefficient up to 1000 costs {budget} nats: it costs {at:.2g}")
        at = cost(high)
    middle = high
    for _ in range(30):
        if abs(at - budget) <= 0.02 * budget:
            break
        middle = (low + high) / 2
        at = cost(middle)
        low, high = (middle, high) if at < budget else (low, middle)
    return Calibration(coefficient=sign * middle, kl=at, budget=budget)


@dataclass(frozen=True, kw_only=True, eq=False)
class Front:
    """Effect against damage, one point for each coefficient."""

    coefficients: Float[np.ndarray, " coefficient"]
    """Factors on the vector."""
    effect: tuple[Estimate, ...]
    """Mean change of the propensity against no steering, in nats."""
    kl: tuple[Estimate, ...]
    """Mean divergence on neutral text, in nats per token."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each coefficient."""
        rows = [
            {"coefficient": c, "effect": e.value, "effect_low": e.low, "effect_high": e.high}
            | {"kl": k.value, "kl_low": k.low, "kl_high": k.high}
            for c, e, k in zip(self.coefficients, self.effect, self.kl, strict=True)
        ]
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """Effect over damage, along and against the vector: much effect for little is wanted."""
        lines = {}
        for name, sign in (("along the vector", 1), ("against it", -1)):
            chosen = [i for i, c in enumerate(self.coefficients) if np.sign(c) == sign]
            chosen.sort(key=lambda i: self.kl[i].value)
            if chosen:
                lines[name] = viz.Curve(
                    x=[self.kl[i].value for i in chosen],
                    y=[self.effect[i].value for i in chosen],
                    low=[self.effect[i].low for i in chosen],
                    high=[self.effect[i].high for i in chosen],
                )
        return viz.curves(
            lines,
            title="Effect against damage",
            x_title="KL to the unsteered model on neutral text (nats per token)",
            y_title="change of propensity (nats)",
            **layout,
        )


def front(swept: SweepResult, cost: DamageResult) -> Front:
    """Effect against damage at the coefficients that both results have, 0 left out.

    Raises:
        ValueError: If the sweep has no coefficient 0, or they share no other.
    """
    shared = [c for c in cost.coefficients if c != 0 and c in swept.coefficients]
    if not shared or 0 not in swept.coefficients:
        raise ValueError("the sweep needs coefficient 0 and one that the damage has, too")
    column = {float(c): k for k, c in enumerate(swept.coefficients)}
    change = swept.propensity - swept.propensity[:, [column[0.0]]]
    kl = dict(zip(cost.coefficients.tolist(), cost.mean_kl, strict=True))
    return Front(
        coefficients=np.array(shared),
        effect=tuple(mean_estimate(change[:, column[float(c)]]) for c in shared),
        kl=tuple(kl[float(c)] for c in shared),
    )
