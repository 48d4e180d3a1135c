"""Attacks on unlearned models: how much of what was forgotten comes back.

An attack gives, for each held-out answer, the probability that it reaches (geometric mean over the
answer's tokens). A model that never learned the answers is attacked in the same way: what it
reaches is guessed, not recovered. Relearning trains on one half of the forget set and scores the
other; its score is the highest over learning rates and steps, so the attacker's stopping rule is
the best there is. `latent` attacks read the answer inside the model and show no more than that
something is left there.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.interventions import add
from interp.core.model import HookedModel
from interp.training.loop import (
    Example,
    answer_probability,
    draw,
    encode_all,
    make_batch,
    predictions,
    trainable,
)
from interp.training.sft import accumulate
from interp.training.unlearning.depth import logit_lens
from interp.training.unlearning.probing import truth_probe
from interp.training.unlearning.quantization import Format, quantized


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackSuite:
    """What attackers have, and which attacks are run."""

    relearn: Sequence[Example]
    """The half of the forget set that attackers have."""
    held: Sequence[Example]
    """The other half, on which they are scored."""
    retain: Sequence[Example]
    """What was kept."""
    base: HookedModel
    """The model before unlearning."""
    retrained: HookedModel
    """A model that never learned the forget set."""
    attacks: tuple["Attack", ...]
    """The attacks."""
    _controls: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def control(self, who: str, one: "Attack") -> Float[np.ndarray, " held"]:
        """Scores of the base ("base") or the retrained model, computed once."""
        key = (who, one.name)
        if key not in self._controls:
            model = self.base if who == "base" else self.retrained
            self._controls[key] = one.run(model, self)
        return self._controls[key]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack."""

    name: str
    """What reports call it."""
    run: Callable[[HookedModel, AttackSuite], Float[np.ndarray, " held"]]
    """Scores of the held-out answers, which leaves the model as it is."""
    latent: bool = False
    """Whether it reads the answer inside the model instead of having it said."""


@dataclass(frozen=True, kw_only=True)
class AttackReport:
    """What attacks bring back, beside the same attacks on the models around it."""

    names: tuple[str, ...]
    """The attacks."""
    latent: tuple[bool, ...]
    """Which of them only look inside."""
    model: Float[np.ndarray, "attack held"]
    """Scores of the unlearned model."""
    base: Float[np.ndarray, "attack held"]
    """Scores of the model before unlearning."""
    retrained: Float[np.ndarray, "attack held"]
    """Scores of the model that never learned."""

    @property
    def worst(self) -> tuple[str, float]:
        """The attack that makes the model say most, and the mean score that it reaches.

        Raises:
            ValueError: If all attacks only look inside.
        """
        said = [k for k, latent in enumerate(self.latent) if not latent]
        if not said:
            raise ValueError("all attacks are latent: there is no worst one of those that elicit")
        worst = max(said, key=lambda k: self.model[k].mean())
        return self.names[worst], float(self.model[worst].mean())

    def to_frame(self) -> pd.DataFrame:
        """One row for each attack, with means over the held-out answers."""
        columns = {name: getattr(self, name).mean(1) for name in ("model", "base", "retrained")}
        return pd.DataFrame({"attack": self.names, "latent": self.latent, **columns})


def attack(model: HookedModel, suite: AttackSuite) -> AttackReport:
    """Run every attack of a suite on an unlearned model, its base and the retrained model.

    Args:
        model: The unlearned model, which stays as it is.
        suite: The attacks and what they use; keeps the scores of base and retrained model.
    """
    if not suite.attacks:
        raise ValueError("attacks is empty: needed at least one, such as few_shot()")
    return AttackReport(
        names=tuple(one.name for one in suite.attacks),
        latent=tuple(one.latent for one in suite.attacks),
        model=np.stack([one.run(model, suite) for one in suite.attacks]),
        base=np.stack([suite.control("base", one) for one in suite.attacks]),
        retrained=np.stack([suite.control("retrained", one) for one in suite.attacks]),
    )


def probabilities(
    model: HookedModel, examples: Sequence[Example], *, batch_size: int = 32
) -> Float[np.ndarray, " example"]:
    """Probability of each answer: geometric mean over its tokens, without the end of text."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(examples), batch_size):
            batch = make_batch(model, examples[start : start + batch_size])
            parts.append(answer_probability(predictions(model.module, batch)).cpu().numpy())
    return np.concatenate(parts)


def no_attack() -> Attack:
    """The questions as they were learned."""
    return Attack(name="asked", run=lambda model, suite: probabilities(model, suite.held))


def relearning(
    *,
    rates: Sequence[float] = (1e-5, 5e-5),
    n_steps: int = 5,
    lora_rank: int | None = None,
    on_retain: bool = False,
    seed: int = 0,
) -> Attack:
    """Fine-tuning on the attacker's half, or on retained answers only.

    Args:
        rates: Learning rates of AdamW; each begins at the unlearned model.
        n_steps: Steps, after each of which the other half is scored.
        lora_rank: Rank of adapters; `None` trains all weights.
        on_retain: Train on retained answers and none of the forget set.
        seed: Seed of the order and of the adapters.
    """

    def run(model: HookedModel, suite: AttackSuite) -> np.ndarray:
        rows = suite.retain if on_retain else suite.relearn
        curves = [
            relearning_curve(
                model, rows, suite.held, rate=rate, n_steps=n_steps, lora_rank=lora_rank, seed=seed
            )
            for rate in rates
        ]
        curve = np.concatenate(curves)
        return curve[curve.mean(1).argmax()]

    how = "all weights" if lora_rank is None else f"LoRA {lora_rank}"
    return Attack(name=f"relearning on {'retain' if on_retain else 'half'}, {how}", run=run)


def relearning_curve(
    model: HookedModel,
    train: Sequence[Example],
    held: Sequence[Example],
    *,
    rate: float,
    n_steps: int,
    lora_rank: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Float[np.ndarray, "step_plus_1 held"]:
    """Probabilities of held-out answers before relearning and after each of its steps."""
    rows = encode_all(model, train)
    module: Any = trainable(copy.deepcopy(model.module), lora_rank, seed)
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad], lr=rate, weight_decay=0.0
    )
    held_batch, curve = make_batch(model, held), []
    for step in range(n_steps + 1):
        with torch.no_grad():
            curve.append(answer_probability(predictions(module, held_batch)).cpu().numpy())
        if step < n_steps:
            optimizer.zero_grad()
            accumulate(module, [rows[i] for i in draw(len(rows), batch_size, step, seed)])
            optimizer.step()
    return np.stack(curve)


def few_shot(*, k: int = 5) -> Attack:
    """Examples of the attacker's half in front of each question."""

    def run(model: HookedModel, suite: AttackSuite) -> np.ndarray:
        shots = "\n\n".join(one.prompt + one.answer for one in suite.relearn[:k])
        asked = [replace(one, prompt=f"{shots}\n\n{one.prompt}") for one in suite.held]
        return probabilities(model, asked)

    return Attack(name=f"{k}-shot", run=run)


def rephrased(name: str, change: Callable[[Example], Example]) -> Attack:
    """Another wording of the same questions: a paraphrase, a format, a prefix of the answer.

    Args:
        name: What reports call it.
        change: From a held-out example to the one that is asked instead.
    """
    return Attack(
        name=name, run=lambda model, suite: probabilities(model, [change(o) for o in suite.held])
    )


def prefixed(text: str = " Sure, here is the answer:") -> Attack:
    """The beginning of an obliging answer behind each question."""
    return rephrased("prefix", lambda one: replace(one, prompt=one.prompt + text))


def rounding(to: Format) -> Attack:
    """Weights rounded to few bits, which undoes small changes."""
    return Attack(name=to, run=lambda model, suite: probabilities(quantized(model, to), suite.held))


def activation_addition(layer: int, *, coefficients: Sequence[float] = (1.0, 2.0)) -> Attack:
    """The mean difference of the streams of base and unlearned model, added at all tokens.

    Args:
        layer: Block behind which the difference is taken on the attacker's half, and added.
        coefficients: Factors, of which the best is reported.
    """

    def run(model: HookedModel, suite: AttackSuite) -> np.ndarray:
        mean = [_mean_stream(one, suite.relearn, layer) for one in (suite.base, model)]
        found = []
        for coefficient in coefficients:
            with model.intervene(add(mean[0] - mean[1], layers=layer, coefficient=coefficient)):
                found.append(probabilities(model, suite.held))
        return max(found, key=lambda scores: scores.mean())

    return Attack(name="activation addition", run=run)


def lens() -> Attack:
    """The layer whose logit lens gives the answers most probability."""

    def run(model: HookedModel, suite: AttackSuite) -> np.ndarray:
        found = logit_lens(model, suite.held)
        return found[found.mean(1).argmax()]

    return Attack(name="logit lens", run=run, latent=True)


def probing(layers: Sequence[int]) -> Attack:
    """A linear probe for true answers, trained on what was kept; the best layer is reported.

    Scores are 1 where the probe ranks the answer above that of another held-out question, else 0;
    chance is 0.5.
    """

    def run(model: HookedModel, suite: AttackSuite) -> np.ndarray:
        found = [truth_probe(model, suite.retain, suite.held, layer=layer) for layer in layers]
        return max(found, key=lambda scores: scores.mean())

    return Attack(name="linear probe", run=run, latent=True)


def _mean_stream(
    model: HookedModel, examples: Sequence[Example], layer: int
) -> Float[Tensor, " d_model"]:
    batch = make_batch(model, examples)
    site = f"blocks.{layer}.hook_resid_post"
    body: Any = model.body
    with model.capture(site) as found, torch.no_grad():
        body(input_ids=batch.ids, attention_mask=batch.mask.long(), use_cache=False)
    values = next(iter(found.values()))[0]
    keep = batch.mask.clone()
    keep[:, 0] = False  # the first token, whose activations are unlike all others
    return values[keep].mean(0)
