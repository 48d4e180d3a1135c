"""The benchmark: pipelines side by side, with the survey's open problems as columns.

For every pipeline, at one coefficient, on propensities of statements: the *effect* on held-out
examples, the share that moves the *wrong way*, the *damage* on neutral text, how much it also moves
*other concepts*, what is left of it while another concept is steered at the same time
(*interference*), its effect after *other prompts*, and its *spread* over training halves. What has
no number here - the quality of long texts, judged by people or models - is not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp import viz
from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from interp.core.records import Records
from steering.applying import in_order
from steering.contrast import Pairs
from steering.propensity import Contests, Continuation, tokenize_continuations
from steering.repe.pipeline import Pipeline
from steering.statistics import Estimate, mean_estimate


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
    """Index columns `pipeline` and `concept`, then each column with its interval where it has one:
    effect, wrong way, other concepts, interference and other prompts in nats or shares, damage in
    nats per token of neutral text, spread as the standard deviation of the effect over halves."""

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

    Raises:
        ValueError: If there are fewer than two concepts: specificity needs another one.
    """
    if len(concepts) < 2:
        raise ValueError(f"{len(concepts)} concepts: specificity needs two or more")
    plain = {concept.name: propensities(model, concept.test) for concept in concepts}
    rows, random = [], np.random.default_rng(seed)
    for label, pipeline in pipelines.items():
        fitted = {
            concept.name: pipeline.fit(model, concept.train).intervention(coefficient)
            for concept in concepts
        }
        for number, concept in enumerate(concepts):
            others = [other for other in concepts if other is not concept]
            acts = fitted[concept.name]
            neighbor = fitted[concepts[(number + 1) % len(concepts)].name]
            effect = _change(model, concept.test, acts, plain[concept.name])
            together = in_order(acts, neighbor)
            alone = _change(model, concept.test, neighbor, plain[concept.name])
            foreign = [
                np.abs(_change(model, other.test, acts, plain[other.name]).mean())
                for other in others
            ]
            line: dict[str, Any] = {"pipeline": label, "concept": concept.name}
            line |= _columns("effect", _mean(effect))
            line["wrong way"] = float((effect < 0).mean())
            line["damage"] = divergence(model, acts, neutral)
            line["other concepts"] = float(np.mean(foreign))
            both = _change(model, concept.test, together, plain[concept.name])
            line["interference"] = float((both - alone - effect).mean())
            line["other prompts"] = float("nan")
            if concept.other_prompts is not None:
                before = propensities(model, concept.other_prompts)
                line["other prompts"] = float(
                    _change(model, concept.other_prompts, acts, before).mean()
                )
            halves = [
                pipeline.fit(model, concept.train[_half(random, len(concept.train))])
                for _ in range(n_halves)
            ]
            moved = [
                _change(model, concept.test, h.intervention(coefficient), plain[concept.name])
                for h in halves
            ]
            line["spread"] = (
                float(np.std([m.mean() for m in moved], ddof=1)) if n_halves > 1 else 0.0
            )
            rows.append(line)
    return BenchmarkResult(frame=pd.DataFrame(rows))


def propensities(
    model: HookedModel, contests: Contests, intervention: Intervention | None = None
) -> np.ndarray:
    """The propensity of each example under any intervention, shape (example,).

    Args:
        model: A language model.
        contests: Prompts with two continuations each.
        intervention: What acts on the model; nothing by default.
    """
    sides = [
        _scores(
            model,
            tokenize_continuations(model, contests.prompts, side),
            intervention,
            mean=contests.reduce == "mean",
        )
        for side in (contests.positive, contests.negative)
    ]
    return sides[0] - sides[1]


def divergence(
    model: HookedModel, intervention: Intervention, texts: Records | Sequence[str]
) -> float:
    """Mean divergence of the changed from the unchanged model, in nats per token."""
    tokens, found = model.tokenize(texts), []
    for ids in np.split(tokens.ids, tokens.offsets[1:-1]):
        row = torch.from_numpy(ids)[None].to(model.device)
        ends = torch.ones(1, dtype=torch.long)
        with torch.no_grad(), model.hooks.prompts(ends):
            plain = model.module(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
            with intervention.applied(model):
                changed = model.module(input_ids=row, use_cache=False).logits[0]
        changed = changed.float().log_softmax(-1)
        found.append((plain.exp() * (plain - changed)).sum(-1)[:-1].mean().item())
    return float(np.mean(found))


def _scores(
    model: HookedModel,
    texts: list[Continuation],
    intervention: Intervention | None,
    *,
    mean: bool,
) -> np.ndarray:
    return np.array([_score(model, text, intervention, mean=mean) for text in texts])


def _score(
    model: HookedModel, text: Continuation, intervention: Intervention | None, *, mean: bool
) -> float:
    ids = torch.tensor([text.ids], device=model.device)
    with torch.no_grad(), model.hooks.prompts(torch.tensor([text.n_prompt])):
        if intervention is None:
            logits = model.module(input_ids=ids, use_cache=False).logits[0]
        else:
            with intervention.applied(model):
                logits = model.module(input_ids=ids, use_cache=False).logits[0]
    logprobs: Tensor = logits[text.n_prompt - 1 : -1].float().log_softmax(-1)
    found = logprobs.gather(1, ids[0, text.n_prompt :, None])
    return float(found.mean() if mean else found.sum())


def _change(
    model: HookedModel, contests: Contests, intervention: Intervention, before: np.ndarray
) -> np.ndarray:
    return propensities(model, contests, intervention) - before


def _half(random: np.random.Generator, n: int) -> np.ndarray:
    return np.sort(random.permutation(n)[: max(n // 2, 1)])


def _mean(values: np.ndarray) -> Estimate:
    if len(values) < 2:
        return Estimate(float(values.mean()), float("nan"), float("nan"))
    return mean_estimate(values)


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
