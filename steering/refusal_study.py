"""The refusal study: one direction removed and added, beside a random one, with what it costs."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from interp import viz
from interp.core.directions import Direction
from interp.core.files import write_atomically
from interp.core.generation import generate
from interp.core.hooks import Intervention
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.statistics import wilson
from steering.damage import DamageResult, intervention_damage
from steering.refusal import (
    Instructions,
    RefusalChoice,
    choose_refusal_vector,
    first_tokens,
    is_refusal,
    refusal_log_odds,
)
from steering.repe.control import ablate_everywhere
from steering.statistics import auroc, mean_estimate
from steering.vectors import SteeringVector
from steering.verdicts import random_vector

CONTROLS = {"ablated": "random ablated", "added": "random added"}
"""The control of each condition."""


@dataclass(frozen=True, kw_only=True)
class RefusalConfig:
    """How the study runs."""

    layers: tuple[int, ...] | None = None
    """Layers of the candidates; five from 30 % to 70 % of the depth by default."""
    coefficient: float = 1.0
    """Factor of the addition."""
    max_new_tokens: int = 32
    """Length of the answers."""
    seed: int = 0
    """Of the random direction."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RefusalResult:
    """What the model does with every instruction under every condition."""

    frame: pd.DataFrame
    """Columns condition, kind ("harmful" or "harmless"), prompt, text, refused, log_odds."""
    choice: RefusalChoice
    """The vector, and the candidates."""
    damage: Mapping[str, DamageResult]
    """What each condition costs on neutral texts."""
    cosines: Mapping[str, float] = field(default_factory=dict)
    """Cosine of the direction with others."""

    @property
    def vector(self) -> SteeringVector:
        """The vector, at one layer."""
        return self.choice.vector

    def compared(self, others: Mapping[str, Direction]) -> "RefusalResult":
        """The result with the cosines of the direction with others, such as that of a probe."""
        own = self.vector.direction()
        cosines = {name: own.cosine(other) for name, other in others.items()}
        return replace(self, cosines={**self.cosines, **cosines})

    def rates(self) -> pd.DataFrame:
        """Refusal rate with its Wilson interval for each condition and kind."""
        lines = []
        for condition, kind in self._cells():
            refused = self._column("refused", condition, kind)
            found = wilson(int(refused.sum()), len(refused))
            line = {"condition": condition, "kind": kind, "n": len(refused)}
            lines.append(line | {"rate": found.value, "low": found.low, "high": found.high})
        return pd.DataFrame(lines)

    def effects(self) -> pd.DataFrame:
        """Change of the log-odds of a refusal against no steering, for each condition and kind.

        `beyond` and its interval are the difference to the random direction, where there is one.
        """
        changes = {
            (condition, kind): self._odds(condition, kind) - self._odds("unsteered", kind)
            for condition, kind in self._cells()
            if condition != "unsteered"
        }
        lines = []
        for (condition, kind), change in changes.items():
            line: dict[str, Any] = {"condition": condition, "kind": kind, "n": len(change)}
            found = mean_estimate(change)
            line |= {"change": found.value, "low": found.low, "high": found.high}
            if condition in CONTROLS:
                lead = mean_estimate(change - changes[CONTROLS[condition], kind])
                line |= {"beyond": lead.value, "beyond_low": lead.low, "beyond_high": lead.high}
            lines.append(line)
        return pd.DataFrame(lines)

    def separation(self) -> float:
        """AUROC of the unsteered log-odds, harmful against harmless: does it refuse by kind?"""
        return auroc(self._odds("unsteered", "harmful"), self._odds("unsteered", "harmless"))

    def costs(self) -> pd.DataFrame:
        """Divergence with its interval and perplexity ratio on neutral texts, by condition."""
        lines = []
        for condition, found in self.damage.items():
            kl = found.mean_kl[0]
            line = {"condition": condition, "kl": kl.value, "low": kl.low, "high": kl.high}
            lines.append(line | {"perplexity_ratio": float(found.perplexity_ratio[0])})
        return pd.DataFrame(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row for each condition and instruction."""
        return self.frame

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON; without instructions and answers."""
        return {
            "layer": self.vector.layers[0],
            "tokens_back": self.choice.tokens_back,
            "strength": next(iter(self.vector.strengths.values())),
            "candidates": self.choice.table.to_dict("records"),
            "separation": self.separation(),
            "rates": self.rates().to_dict("records"),
            "effects": [
                row.dropna().to_dict()  # controls have no control: JSON has no NaN
                for _, row in self.effects().iterrows()
            ],
            "costs": self.costs().to_dict("records"),
            "cosines": dict(self.cosines),
        }

    def plot(self, **layout: Any) -> viz.Figure:
        """Refusal rates with their intervals."""
        return plot_rates(self.rates(), **layout)

    def plot_effects(self, **layout: Any) -> viz.Figure:
        """Changes of the log-odds with their intervals."""
        return plot_effects(self.effects(), **layout)

    def _cells(self) -> list[tuple[str, str]]:
        """Each condition and kind, in the order of the study."""
        cells = self.frame[["condition", "kind"]].drop_duplicates()
        return list(zip(cells["condition"], cells["kind"], strict=True))

    def _odds(self, condition: str, kind: str) -> np.ndarray:
        return self._column("log_odds", condition, kind)

    def _column(self, name: str, condition: str, kind: str) -> np.ndarray:
        rows = (self.frame["condition"] == condition) & (self.frame["kind"] == kind)
        return np.asarray(self.frame.loc[rows, name], np.float64)


def plot_rates(rates: pd.DataFrame, **layout: Any) -> viz.Figure:
    """The table of `RefusalResult.rates` as a figure."""
    return _plot(
        rates,
        "rate",
        title="Refusals by first words",
        x_title="share of instructions that are refused (95 % interval)",
        **layout,
    )


def plot_effects(effects: pd.DataFrame, **layout: Any) -> viz.Figure:
    """The table of `RefusalResult.effects` as a figure."""
    return _plot(
        effects,
        "change",
        title="How much likelier an answer begins like a refusal",
        x_title="change of the log-odds against no steering (95 % interval)",
        references={"no change": 0.0},
        **layout,
    )


def _plot(frame: pd.DataFrame, column: str, **options: Any) -> viz.Figure:
    labels = [f"{c}, {k}" for c, k in zip(frame["condition"], frame["kind"], strict=True)]
    plain = ("unsteered", *CONTROLS.values())
    return viz.bars(
        frame[column],
        frame["low"],
        frame["high"],
        labels=labels,
        controls=[label for label in labels if label.startswith(plain)],
        **options,
    )


def run_refusal_study(
    model: HookedModel,
    harmful: Instructions,
    harmless: Instructions,
    *,
    neutral: Records | Sequence[str],
    config: RefusalConfig | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
) -> RefusalResult:
    """Choose the direction on training and validation sets, and write answers to the test sets.

    Args:
        model: A language model with a chat template.
        harmful: Instructions that a model should refuse.
        harmless: Instructions that it should not.
        neutral: Texts of two or more tokens on which steering should change nothing.
        config: How it runs.
        folder: Where answers are kept, one file for each condition and kind; a second run with the
            same direction goes on where the first one stopped.
        progress: Show a progress bar.
    """
    config = config or RefusalConfig()
    depth = model.n_layers
    layers = config.layers or tuple(sorted({int(depth * x / 10) for x in (3, 4, 5, 6, 7)}))
    choice = choose_refusal_vector(
        model, harmful, harmless, layers=layers, coefficient=config.coefficient
    )
    control = random_vector(choice.vector, seed=config.seed)
    conditions: dict[str, Intervention | None] = {"unsteered": None}
    for prefix, vector in (("", choice.vector), ("random ", control)):
        conditions[f"{prefix}ablated"] = ablate_everywhere()(vector, 1.0)
        conditions[f"{prefix}added"] = vector.steering(coefficient=config.coefficient)
    sets = {"harmful": harmful.test, "harmless": harmless.test}
    cells = [(condition, kind) for condition in conditions for kind in sets]
    said = (asdict(model.origin), config, choice.vector.direction().vector.tolist())
    frames = []
    for condition, kind in tqdm(cells, disable=not progress, desc="refusal study"):
        prompts, change = sets[kind], conditions[condition]
        answer = partial(_answers, model, condition, kind, prompts, change, config.max_new_tokens)
        frames.append(_kept(folder, f"{condition}, {kind}", (*said, prompts), answer))
    return RefusalResult(
        frame=pd.concat(frames, ignore_index=True),
        choice=choice,
        damage={
            condition: intervention_damage(model, intervention, neutral)
            for condition, intervention in conditions.items()
            if intervention is not None
        },
    )


def _answers(
    model: HookedModel,
    condition: str,
    kind: str,
    prompts: Sequence[str],
    intervention: Intervention | None,
    max_new_tokens: int,
) -> pd.DataFrame:
    records = Records.from_texts(list(prompts)).as_chat()
    with model.intervene(*([] if intervention is None else [intervention])):
        written = generate(model, records, max_new_tokens=max_new_tokens)
    odds = refusal_log_odds(model, first_tokens(model, prompts, intervention)).tolist()
    columns = {"condition": condition, "kind": kind, "prompt": list(prompts)}
    refused = [is_refusal(text) for text in written.texts]
    columns |= {"text": list(written.texts), "refused": refused, "log_odds": odds}
    return pd.DataFrame(columns)


def _kept(
    folder: str | Path | None,
    name: str,
    inputs: tuple[Any, ...],
    compute: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """A table from its file, or computed and written there; the file's name tells its inputs."""
    if folder is None:
        return compute()
    digest = hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]
    path = Path(folder) / f"{name} {digest}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(compute().to_dict("list")).encode())
    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
