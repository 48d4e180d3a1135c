"""Plans on boards unlike those of the training: more boxes, more room, an agent without itself.

The labels are those of optimal play in every case, so that cases differ in the board and in what
the agent sees of it, and not in how well it plays there. The probes stay as they were fitted.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp import viz
from interp.planning.concepts import label_concept
from interp.planning.drc import Drc
from interp.planning.rollouts import Episodes, read_activations
from probes.planning.reading import OBSERVATION, PlanReading
from probes.planning.scores import score_plan


def measure_unseen(cases: Mapping[str, tuple[Drc, Episodes]], reading: PlanReading) -> pd.DataFrame:
    """Score the 1x1 probes of an agent on boards that they were not fitted to.

    Args:
        cases: By name, an agent (the one that was probed, or a copy such as `resized` and `blinded`
            give) and the episodes whose boards it is given.
        reading: The probes, as `read_plans` gives them; those of the observation are the control.

    Returns:
        One row for each case, concept and subject: macro F1 with an interval over episodes.
    """
    rows: list[dict[str, Any]] = []
    concepts = list(dict.fromkeys(state.concept for state in reading.states))
    for case, (agent, episodes) in cases.items():
        values = read_activations(agent, episodes, sites=reading.site).tensors[reading.site]
        seen = {f"layer {k}": values[:, k] for k in range(values.shape[1])}
        seen[OBSERVATION] = episodes.observations()
        for concept in concepts:
            labels = label_concept(episodes, concept)
            for subject, tensor in seen.items():
                layer = None if subject == OBSERVATION else int(subject.removeprefix("layer "))
                probe = reading.at(concept, layer=layer).probe
                score = score_plan(labels.classes, probe.predict(tensor), labels.episodes)
                row = {"case": case, "concept": concept, "subject": subject}
                f1 = score.macro_f1
                rows.append(row | {"macro_f1": f1.value, "low": f1.low, "high": f1.high})
    return pd.DataFrame(rows)


def plot_unseen(frame: pd.DataFrame, *, concept: str = "box_push", **layout: Any) -> viz.Figure:
    """The best layer and the observation in every case.

    Args:
        frame: As `measure_unseen` gives it; the layer is the best one of its first case.
        concept: Whose probes.
        **layout: For `Figure.update_layout`, applied last.
    """
    own = frame.loc[frame["concept"] == concept]
    layers = own.loc[(own["case"] == own["case"].iloc[0]) & (own["subject"] != OBSERVATION)]
    best = layers.loc[layers["macro_f1"].idxmax(), "subject"]
    shown = own.loc[own["subject"].isin([best, OBSERVATION])]
    labels = (shown["case"] + ", " + shown["subject"]).tolist()
    return viz.bars(
        shown["macro_f1"],
        shown["low"],
        shown["high"],
        labels=labels,
        controls=[label for label in labels if label.endswith(OBSERVATION)],
        title=f"{concept.replace('_', ' ')} on boards unlike those of the training",
        x_title="macro F1 against optimal play",
        **layout,
    )
