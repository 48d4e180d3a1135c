"""How a plan forms: what probes read after every tick while the agent is held still.

The probes are those of the last tick; labels say what the agent later does (Bush et al. 2025,
figure 7). A curve that rises says that the plan is computed over ticks and not looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp import viz
from interp.planning.concepts import label_concept
from interp.planning.drc import Drc
from interp.planning.rollouts import Episodes, read_activations
from probes.evaluation import Estimate
from probes.planning.reading import decode
from probes.planning.scores import compare_plans, score_plan
from probes.planning.spatial import SpatialProbe


@dataclass(frozen=True, kw_only=True)
class PlanFormation:
    """Macro F1 by layer and tick of thinking."""

    concept: str
    """What is read."""
    scores: Mapping[int, tuple[Estimate, ...]]
    """By layer, one for each tick from the first."""
    gain: Mapping[int, Estimate]
    """By layer: the last tick minus the first one, paired over episodes."""
    n_episodes: int
    """Episodes behind each number."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer and tick."""
        return pd.DataFrame(
            [
                {
                    "concept": self.concept,
                    "layer": layer,
                    "tick": tick,
                    "macro_f1": score.value,
                    "low": score.low,
                    "high": score.high,
                }
                for layer, scores in self.scores.items()
                for tick, score in enumerate(scores, start=1)
            ]
        )

    def plot(self, **layout: Any) -> viz.Figure:
        """One line for each layer, with intervals over episodes."""
        lines = {
            f"layer {layer}": viz.Curve(
                x=np.arange(1, len(scores) + 1),
                y=[score.value for score in scores],
                low=[score.low for score in scores],
                high=[score.high for score in scores],
            )
            for layer, scores in self.scores.items()
        }
        return viz.curves(
            lines,
            title=f"{self.concept.replace('_', ' ')}: the plan over ticks of thinking",
            x_title="ticks since the start of the episode",
            y_title="macro F1",
            **layout,
        )


def measure_formation(
    agent: Drc, episodes: Episodes, probes: Mapping[int, SpatialProbe], *, concept: str
) -> PlanFormation:
    """Score a concept after every tick of the thinking steps.

    Args:
        agent: The agent that played the episodes.
        episodes: Episodes with `think_steps`, in which it was held still at the start.
        probes: By layer, fitted to the state after the last tick of steps.
        concept: Which concept the probes read.

    Raises:
        ValueError: If the episodes have no thinking steps.
    """
    if not episodes.think_steps:
        raise ValueError("episodes have no thinking steps; play them with think_steps=5, say")
    labels = label_concept(episodes, concept).classes[episodes.row_steps == 0]
    scores: dict[int, list[Estimate]] = {layer: [] for layer in probes}
    ends: dict[int, list[np.ndarray]] = {layer: [] for layer in probes}
    who = np.arange(len(episodes))
    plans = thinking_plans(agent, episodes, probes)
    for layer, plan in plans.items():
        for tick in range(plan.shape[1]):
            predicted = plan[:, tick].argmax(-1)
            scores[layer].append(score_plan(labels, predicted, who).macro_f1)
            if tick in (0, plan.shape[1] - 1):
                ends[layer].append(predicted)
    gain = {layer: compare_plans(labels, last, first, who) for layer, (first, last) in ends.items()}
    return PlanFormation(
        concept=concept,
        scores={layer: tuple(curve) for layer, curve in scores.items()},
        gain=gain,
        n_episodes=len(episodes),
    )


def thinking_plans(
    agent: Drc, episodes: Episodes, probes: Mapping[int, SpatialProbe]
) -> dict[int, Float[np.ndarray, "episode tick height width class"]]:
    """What the probes read after every tick of the thinking steps, by layer.

    Args:
        agent: The agent.
        episodes: Episodes that begin with thinking steps.
        probes: By layer.
    """
    layers, n_ticks = tuple(probes), agent.config.ticks
    read = read_activations(
        agent,
        episodes,
        sites=[f"cell_{tick}" for tick in range(n_ticks)],
        layers=layers,
        max_step=episodes.think_steps,
    )
    n_steps = episodes.think_steps
    plans = {}
    for at, layer in enumerate(layers):
        ticks = [decode(probes[layer], read.tensors[f"cell_{t}"][:, at]) for t in range(n_ticks)]
        table = np.stack(ticks, 1)  # row (episode, step), tick, height, width, class
        plans[layer] = table.reshape(-1, n_steps * n_ticks, *table.shape[2:])
    return plans
