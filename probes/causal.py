"""Whether the model uses what a probe reads: add the direction, and see what it answers.

A direction that can be read need not be used. The check asks the model a question, adds the
direction with several coefficients, and follows the log-odds of two answers; a random direction of
the same length is the control. It shows an effect of the direction, not that it is the concept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp import Direction, HookedModel, Records, add, viz
from interp.core.seeds import generator

COEFFICIENTS = (-8.0, -4.0, 0.0, 4.0, 8.0)
"""Lengths of what is added, in units of the activations."""


@dataclass(frozen=True, kw_only=True)
class SteeringCheck:
    """Log-odds of two answers against the coefficient of a direction."""

    coefficients: tuple[float, ...]
    """Lengths of what was added."""
    log_odds: Float[np.ndarray, "coefficient record"]
    """Log-odds of the positive answer along the direction."""
    control: Float[np.ndarray, "coefficient record"]
    """The same along a random direction."""
    answers: tuple[str, str]
    """The positive and the negative answer."""

    @property
    def slope(self) -> float:
        """Mean change of the log-odds for each unit of the coefficient, by least squares."""
        return float(np.polyfit(self.coefficients, self.log_odds.mean(1), 1)[0])

    @property
    def control_slope(self) -> float:
        """The same for the random direction."""
        return float(np.polyfit(self.coefficients, self.control.mean(1), 1)[0])

    def to_frame(self) -> pd.DataFrame:
        """One row for each direction, coefficient and record."""
        rows = [
            {"direction": name, "coefficient": c, "record": k, "log_odds": float(value)}
            for name, table in (("probe", self.log_odds), ("random", self.control))
            for c, row in zip(self.coefficients, table, strict=True)
            for k, value in enumerate(row)
        ]
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """Mean log-odds against the coefficient, with 95 % intervals over records."""
        lines = {}
        for name, table in (("probe", self.log_odds), ("random direction", self.control)):
            mean, spread = table.mean(1), 1.96 * table.std(1) / np.sqrt(table.shape[1])
            lines[name] = viz.Curve(
                x=np.array(self.coefficients),
                y=mean,
                low=mean - spread,
                high=mean + spread,
                control=name != "probe",
            )
        positive, negative = self.answers
        return viz.curves(
            lines,
            title="What the model answers when the direction is added",
            x_title="coefficient (norm of what is added)",
            y_title=f"log-odds of {positive!r} against {negative!r}",
            **layout,
        )


def check_steering(
    model: HookedModel,
    direction: Direction,
    records: Records,
    answers: tuple[str, str],
    *,
    coefficients: Sequence[float] = COEFFICIENTS,
    batch_size: int = 16,
    seed: int = 0,
) -> SteeringCheck:
    """Add a direction at every token and read the log-odds of two answers.

    Args:
        model: The model in which the direction was found.
        direction: Such as `probe.direction_`.
        records: Questions to which the answers are answers.
        answers: The answer that the direction should favor, and the other one; they are told apart
            by their first tokens.
        coefficients: Lengths of what is added.
        batch_size: Records that run together.
        seed: Which random direction.

    Raises:
        ValueError: If both answers begin with the same token.
        ModelMismatchError: If the direction was found in another model.
    """
    if direction.origin is not None:
        direction.origin.check(model.origin, "the direction")
    first = [model.tokenizer(a, add_special_tokens=False)["input_ids"][0] for a in answers]
    if first[0] == first[1]:
        raise ValueError(
            f"answers={answers!r} begin with the same token: they cannot be told apart"
        )
    noise = torch.randn(len(direction.vector), generator=generator(seed, "control"))
    control = Direction(vector=noise, layer=direction.layer, site=direction.site)
    tables = [
        np.stack([_log_odds(model, along, c, records, first, batch_size) for c in coefficients])
        for along in (direction, control)
    ]
    return SteeringCheck(
        coefficients=tuple(map(float, coefficients)),
        log_odds=tables[0],
        control=tables[1],
        answers=answers,
    )


def _log_odds(
    model: HookedModel,
    direction: Direction,
    coefficient: float,
    records: Records,
    first: Sequence[int],
    batch_size: int,
) -> Float[np.ndarray, " record"]:
    """Log-odds of the first tokens of both answers, for each record."""
    tokens, rows = model.tokenize(records, add_generation_prompt=True), []
    with torch.no_grad(), model.intervene(add(direction, coefficient=coefficient)):
        for start in range(0, len(tokens), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(tokens)))
            batch = {k: v.to(model.device) for k, v in tokens.batch(chosen, side="left").items()}
            logits = model.module(**batch).logits[:, -1].float()
            rows.append((logits[:, first[0]] - logits[:, first[1]]).cpu().numpy())
    return np.concatenate(rows)
