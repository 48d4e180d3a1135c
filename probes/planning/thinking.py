"""What time to think is worth: steps on which the agent computes before it may act.

Plans that are refined over ticks should get better with more ticks, and levels that need a plan
should be solved more often. The same levels are played with every number of steps, so that gains
are paired. `measure_emergence` follows solve rate, gain and probes along the snapshots of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from tqdm import tqdm

from interp import viz
from interp.planning.drc import Drc
from interp.planning.evaluation import play_levels
from interp.planning.levels import Levels
from interp.planning.rollouts import play_episodes
from probes.evaluation import Estimate, group_draws, summarized
from probes.planning.interventions import wilson_interval
from probes.planning.reading import ProbedState, ReadingConfig, read_plans

_SCORES = ("macro_f1", "low", "high", "above_observation", "above_low", "above_high")


@dataclass(frozen=True, kw_only=True, eq=False)
class ThinkingResult:
    """Which levels an agent solves with how much time to think."""

    think_steps: tuple[int, ...]
    """Steps before it may act."""
    solved: Bool[np.ndarray, "steps level"]
    """Whether each level was solved."""

    def gain(self, think_steps: int) -> Estimate:
        """Solve rate with some steps minus that with the fewest, paired over levels."""
        change = self.solved[self.think_steps.index(think_steps)].astype(float) - self.solved[0]
        draws = group_draws(np.arange(len(change)))
        return summarized(float(change.mean()), draws @ change / len(change), 0.95)

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of steps: solve rate with Wilson's interval, and the gain."""
        rows = []
        for steps, solved in zip(self.think_steps, self.solved, strict=True):
            low, high = wilson_interval(int(solved.sum()), len(solved))
            gain = self.gain(steps)
            rows.append(
                {
                    "think_steps": steps,
                    "solve_rate": float(solved.mean()),
                    "low": low,
                    "high": high,
                    "gain": gain.value,
                    "gain_low": gain.low,
                    "gain_high": gain.high,
                    "n_levels": len(solved),
                }
            )
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """Solve rate over steps."""
        frame = self.to_frame()
        line = viz.Curve(
            x=frame["think_steps"].to_numpy(),
            y=frame["solve_rate"].to_numpy(),
            low=frame["low"].to_numpy(),
            high=frame["high"].to_numpy(),
        )
        return viz.curves(
            {"agent": line},
            title="Levels solved by steps to think before the first move",
            x_title="steps to think",
            y_title="share of levels solved",
            **layout,
        )


def measure_thinking(
    agent: Drc,
    levels: Levels,
    *,
    think_steps: Sequence[int] = (0, 1, 2, 4, 8),
    limit: int = 115,
) -> ThinkingResult:
    """Play the same levels with different times to think.

    Args:
        agent: The agent.
        levels: The levels.
        think_steps: Steps before it may act; the first number is what gains are measured from.
        limit: Steps after thinking within which a level must be solved.
    """
    solved = [
        play_levels(agent, levels, think_steps=steps, limit=limit).solved for steps in think_steps
    ]
    return ThinkingResult(think_steps=tuple(think_steps), solved=np.stack(solved))


def measure_emergence(
    snapshots: Mapping[int, Drc],
    train: Levels,
    test: Levels,
    *,
    config: ReadingConfig,
    think_steps: int = 5,
    limit: int = 115,
    progress: bool = False,
) -> pd.DataFrame:
    """Solve rate, gain by thinking and macro F1 of every layer, along training.

    Args:
        snapshots: Agents by the transitions of their training.
        train: Levels on which episodes for fitting probes are played.
        test: Levels on which everything is measured.
        config: Which probes.
        think_steps: Steps of the thinking that is compared with none.
        limit: Steps within which a level must be solved.
        progress: Whether to show a progress bar.

    Returns:
        One row for each snapshot, concept and layer; `above_observation` is macro F1 minus that of
        the same probe on the observation. Both are NaN where some class never occurs.
    """
    rows = []
    for transitions, agent in tqdm(sorted(snapshots.items()), disable=not progress):
        thinking = measure_thinking(agent, test, think_steps=(0, think_steps), limit=limit)
        gain = thinking.gain(think_steps)
        about = {
            "transitions": transitions,
            "solve_rate": float(thinking.solved[0].mean()),
            "thinking_gain": gain.value,
            "gain_low": gain.low,
            "gain_high": gain.high,
        }
        episodes = [play_episodes(agent, levels, limit=limit) for levels in (train, test)]
        reading = read_plans(agent, *episodes, config=config)
        rows += [about | _row(state) for state in reading.states if state.is_own]
    return pd.DataFrame(rows)


def _row(state: ProbedState) -> dict[str, Any]:
    """One probe of a snapshot; without a score where some class never occurs."""
    row = state.to_row()
    if not state.score.confusion.sum(1).all():
        row |= dict.fromkeys(_SCORES, np.nan)  # an agent that does not move has no plan to read
    return row


def plot_emergence(frame: pd.DataFrame, *, concept: str = "box_push", **layout: Any) -> viz.Figure:
    """Probes, solve rate and the gain by thinking along training.

    Args:
        frame: As `measure_emergence` gives it.
        concept: Whose probes.
        **layout: For `Figure.update_layout`, applied last.
    """
    own = frame.loc[frame["concept"] == concept].sort_values("transitions")
    lines = {
        f"macro F1, layer {layer}": viz.Curve(
            x=part["transitions"], y=part["macro_f1"], low=part["low"], high=part["high"]
        )
        for layer, part in own.groupby("layer")
        if part["macro_f1"].notna().any()
    }
    once = own[own["layer"] == own["layer"].min()]  # what is the same for all layers
    if lines:
        lines["macro F1, observation"] = viz.Curve(
            x=once["transitions"], y=once["macro_f1"] - once["above_observation"], control=True
        )
    lines["levels solved"] = viz.Curve(x=once["transitions"], y=once["solve_rate"], emphasis=True)
    lines["gain by thinking"] = viz.Curve(
        x=once["transitions"],
        y=once["thinking_gain"],
        low=once["gain_low"],
        high=once["gain_high"],
        dash="dash",
    )
    return viz.curves(
        lines,
        title=f"{concept.replace('_', ' ')} over training: read, solved, gained by thinking",
        x_title="transitions",
        y_title="macro F1, share of levels",
        **layout,
    )
