"""The benchmark: pipelines side by side, with the survey's open problems as columns.

For every pipeline, at one coefficient, on propensities of statements: the *effect* on held-out
examples, the share that moves the *wrong way*, the *damage* on neutral text, how much it also moves
*other concepts* and what *probes* of them read, what is left of it while another concept is steered
at the same time (*interference*), its effect after *other prompts*, and its *spread* over training
halves. What has no number here - the quality of long texts, judged by people or models - is not
measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from interp import viz
from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.seeds import derive
from interp.core.sites import Site
from steering.applying import in_order
from steering.contrast import Pairs
from steering.damage import intervention_damage
from steering.propensity import Contests, tokenize_continuations
from steering.repe.pipeline import Pipeline
from steering.scoring import continuation_scores, padded
from steering.statistics import Estimate, mean_estimate

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept with what is needed to find and to measure it."""

    name: str
    """Its name."""
    train: Pairs
    """Pairs that a pipeline is fitted to."""
    test: Contests
    """Examples that measure it."""
    other_prompts: Contests | None = None
    """The same after prompts of another kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkResult:
    """One row for each pipeline and concept."""

    frame: pd.DataFrame
    """Index columns `pipeline` and `concept`, then:

    - `effect`, with its interval: mean change of the propensity on held-out examples, in nats;
    - `wrong way`: share of examples that move against it;
    - `damage`, with its interval: divergence on neutral text, in nats per token;
    - `other concepts`: mean absolute change of the other concepts' propensities, in nats;
    - `other probes`: mean absolute shift along the other concepts' directions in the last layer, in
      units of the distance between their sides; `own probe` is the shift along its own;
    - `interference`: what steering a second concept at the same time takes off the effect, in nats;
    - `other prompts`: effect after prompts of another kind, in nats;
    - `spread`: standard deviation of the effect over random halves of the training pairs.
    """

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.frame

    def plot(self, **layout: Any) -> viz.Figure:
        """Mean effect of each pipeline over concepts, with its interval."""
        groups = self.frame.groupby("pipeline", sort=False)["effect"]
        names = [str(name) for name in groups.groups]
        found = [_mean(groups.get_group(name).to_numpy()) for name in names]
        return viz.bars(
            [e.value for e in found],
            [e.low for e in found],
            [e.high for e in found],
            labels=names,
            title="Effect of pipelines on held-out examples",
            x_title="mean change of the propensity over concepts (nats)",
            references={"no effect": 0.0},
            **layout,
        )


def benchmark(
    model: HookedModel,
    pipelines: Mapping[str, Pipeline],
    concepts: Sequence[Concept],
    *,
    neutral: Records | Sequence[str],
    coefficient: float = 1.0,
    n_halves: int = 3,
    seed: int = 0,
    progress: bool = False,
) -> BenchmarkResult:
    """Fit every pipeline to every concept and measure all columns.

    Args:
        model: A language model.
        pipelines: Pipelines by name.
        concepts: Two or more concepts.
        neutral: Texts that have to do with none of them.
        coefficient: At which every pipeline acts.
        n_halves: Random halves of the training pairs whose effects give the spread.
        seed: Which halves.
        progress: Show a progress bar.

    Raises:
        ValueError: If there are fewer than two concepts (specificity needs another one), or the
            continuations of one are equal.
    """
    if len(concepts) < 2:
        raise ValueError(f"{len(concepts)} concepts: specificity needs two or more")
    plain = [_measure(model, concept.test) for concept in concepts]
    for concept, measured in zip(concepts, plain, strict=True):
        if not np.any(measured.gap):
            raise ValueError(f"the two continuations of {concept.name!r} are equal everywhere")
    rows, bar = [], tqdm(total=len(pipelines) * len(concepts), disable=not progress)
    for label, pipeline in pipelines.items():
        acts = [pipeline.fit(model, c.train).intervention(coefficient) for c in concepts]
        steered = [[_measure(model, c.test, act) for c in concepts] for act in acts]
        for number, concept in enumerate(concepts):
            after = (number + 1) % len(concepts)
            line: dict[str, Any] = {"pipeline": label, "concept": concept.name}
            line |= _effect(plain[number], steered[number][number])
            line |= _columns("damage", _mean(_kl(model, acts[number], neutral)))
            line |= _specificity(plain, steered[number], number)
            both = _measure(model, concept.test, in_order(acts[number], acts[after]))
            alone = steered[number][number].propensity - plain[number].propensity
            gained = both.propensity - steered[after][number].propensity
            line["interference"] = float((gained - alone).mean())
            line["other prompts"] = _elsewhere(model, concept.other_prompts, acts[number])
            halves = [
                pipeline.fit(model, concept.train[half]).intervention(coefficient)
                for half in _halves(len(concept.train), n_halves, seed)
            ]
            line["spread"] = _spread([propensities(model, concept.test, h) for h in halves])
            rows.append(line)
            bar.update()
    bar.close()
    return BenchmarkResult(frame=pd.DataFrame(rows))


@dataclass(frozen=True)
class _Measured:
    """Propensities, and last activations of both continuations."""

    propensity: Float[np.ndarray, " example"]
    states: Float[np.ndarray, "side example d_model"]

    @property
    def gap(self) -> Float[np.ndarray, " d_model"]:
        """From the mean of the negative continuations to that of the positive ones."""
        return self.states[0].mean(axis=0) - self.states[1].mean(axis=0)


def _effect(plain: _Measured, steered: _Measured) -> dict[str, float]:
    change = steered.propensity - plain.propensity
    return _columns("effect", _mean(change)) | {"wrong way": float((change < 0).mean())}


def _specificity(
    plain: Sequence[_Measured], steered: Sequence[_Measured], own: int
) -> dict[str, float]:
    """How much other concepts move, in what the model says and in what probes read."""
    moved, read = [], []
    for before, after in zip(plain, steered, strict=True):
        shift = (after.states - before.states).mean(axis=(0, 1))
        moved.append(abs(float((after.propensity - before.propensity).mean())))
        read.append(abs(float(shift @ before.gap / (before.gap @ before.gap))))
    found = {"own probe": read.pop(own)}
    moved.pop(own)
    others = {"other concepts": float(np.mean(moved)), "other probes": float(np.mean(read))}
    return others | found


def _elsewhere(model: HookedModel, contests: Contests | None, act: Intervention) -> float:
    """The effect after other prompts, NaN where there are none."""
    if contests is None:
        return float("nan")
    return float((propensities(model, contests, act) - propensities(model, contests)).mean())


def _spread(found: Sequence[np.ndarray]) -> float:
    """Standard deviation of mean propensities over halves."""
    return float(np.std([p.mean() for p in found], ddof=1)) if len(found) > 1 else float("nan")


def propensities(
    model: HookedModel, contests: Contests, intervention: Intervention | None = None
) -> np.ndarray:
    """The propensity of each example under any intervention, shape (example,).

    Args:
        model: A language model.
        contests: Prompts with two continuations each.
        intervention: What acts on the model; nothing by default.
    """
    return _measure(model, contests, intervention).propensity


def _measure(
    model: HookedModel, contests: Contests, intervention: Intervention | None = None
) -> _Measured:
    """Propensities, and the mean activation of each continuation in the last layer."""
    texts = [
        text
        for side in (contests.positive, contests.negative)
        for text in tokenize_continuations(model, contests.prompts, side)
    ]
    order = np.argsort([len(text.ids) for text in texts], kind="stable")
    site = Site("resid_post", model.n_layers - 1)
    scores, states = [], []
    for start in range(0, len(texts), _BATCH):
        batch = padded(model, [texts[k] for k in order[start : start + _BATCH]])
        with torch.no_grad(), model.capture([site]) as found:
            score = continuation_scores(model, batch, intervention, mean=contests.reduce == "mean")
        weights = batch.scored / batch.scored.sum(-1, keepdim=True)
        scores.append(score.double().cpu())
        states.append(torch.einsum("bp,bpd->bd", weights, found[site][0].float()).cpu())
    back = torch.from_numpy(np.argsort(order))
    score, state = torch.cat(scores)[back].numpy(), torch.cat(states)[back].numpy()
    n = len(contests)
    return _Measured(score[:n] - score[n:], np.stack([state[:n], state[n:]]))


def _kl(
    model: HookedModel, intervention: Intervention, texts: Records | Sequence[str]
) -> Float[np.ndarray, " text"]:
    return intervention_damage(model, intervention, texts).kl[:, 0]


def _halves(n: int, n_halves: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(derive(seed, "halves"))
    return [np.sort(random.permutation(n)[: max(n // 2, 1)]) for _ in range(n_halves)]


def _mean(values: np.ndarray) -> Estimate:
    if len(values) < 2:
        return Estimate(float(values.mean()), float("nan"), float("nan"))
    return mean_estimate(values)


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
