"""Persuasion, read off a model that reads along: success, strategy and personality, turn by turn.

After Jaipersaud, Krueger and Lubana 2025 (2508.05625): linear probes on the residual stream of a
small model tell, after each turn of a dialogue between others, whether the persuadee will be
persuaded, what strategy the persuader uses, and the persuadee's Big-5 traits. A probe shows what
can be read from the dialogue so far, not that the model would act on it; beside each score belongs
that of the words, since agreement is mostly said aloud.

Each quantity has a role: success and personality are read where the persuadee speaks, strategies
where the persuader does. The position is a rule too: by default the last content token of a piece.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.base import clone

from interp import Activations, HookedModel, viz
from probes.base import PooledProbe
from probes.linear import LinearProbe
from probes.prompted import Prompt
from probes.transcripts import PERSUADEE, PERSUADER, At, Dialogue, read_pieces

STRATEGIES = ("credibility", "emotional", "logical", "none")
"""What a piece of the persuader may do, in the order of the classes."""
TRAITS = ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness")
"""The Big Five."""
SUCCESS, STRATEGY = "success", "strategy"
PERSUASION_PROMPTS: Mapping[str, Prompt] = {
    "success": Prompt(
        question="{text}\n\nHas the persuadee been persuaded by now? Answer yes or no.",
        positive="Yes",
        negative="No",
    ),
    "agreement": Prompt(
        question="{text}\n\nDoes the persuadee agree to donate in the last line? Answer yes or no.",
        positive="Yes",
        negative="No",
    ),
}
"""Questions to the model itself, for the prompted baseline (`probes.prompted.prompted_scores`)."""


def piece_labels(
    dialogues: Sequence[Dialogue], values: Sequence[Any], *, role: str = PERSUADEE
) -> np.ndarray:
    """One value for each dialogue as a label of its pieces.

    Args:
        dialogues: The dialogues.
        values: A label for each of them; `None` for unknown.
        role: Pieces of other roles get `None`.
    """
    if len(values) != len(dialogues):
        raise ValueError(f"{len(values)} values, but there are {len(dialogues)} dialogues")
    return np.array(
        [
            value if spoken == role else None
            for dialogue, value in zip(dialogues, values, strict=True)
            for spoken in dialogue.roles
        ],
        dtype=object,
    )


def shipped_labels(dialogues: Sequence[Dialogue]) -> dict[str, np.ndarray]:
    """Labels of the pieces of the shipped dialogues (`load_fixture("persuasion")`).

    Returns:
        `"success"`, `"strategy"` and the five traits; `None` where the other role speaks.
    """
    labels = {SUCCESS: piece_labels(dialogues, [d.meta["label"] for d in dialogues])}
    labels[STRATEGY] = np.full(sum(len(d.pieces) for d in dialogues), None, dtype=object)
    by_persuader = piece_labels(dialogues, [True] * len(dialogues), role=PERSUADER) == True  # noqa: E712
    labels[STRATEGY][by_persuader] = [s for d in dialogues for s in d.meta["strategy"]]
    for trait in TRAITS:
        values = [d.meta["personality"][trait] for d in dialogues]
        labels[trait] = piece_labels(dialogues, values)
    return labels


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What the probes read along one dialogue."""

    dialogue: Dialogue
    """The dialogue."""
    probabilities: Mapping[str, Float[np.ndarray, " piece"]]
    """Probability of each quantity after each piece; NaN where it is not read."""

    def __post_init__(self) -> None:
        """Check that there is one value for each piece."""
        for name, row in self.probabilities.items():
            if len(row) != len(self.dialogue.pieces):
                raise ValueError(
                    f"{name} has {len(row)} values, but there are "
                    f"{len(self.dialogue.pieces)} pieces"
                )

    def to_frame(self) -> pd.DataFrame:
        """One row for each piece and each quantity that is read there."""
        d = self.dialogue
        base = pd.DataFrame(
            {"piece": range(len(d.pieces)), "turn": d.turns, "role": d.roles, "text": d.pieces}
        )
        frames = [
            base.assign(quantity=name, probability=row) for name, row in self.probabilities.items()
        ]
        return pd.concat(frames, ignore_index=True).dropna(subset="probability")

    def plot(self, *names: str, marks: Mapping[str, int] | None = None, **layout: Any):
        """Probabilities against the turn; hovering over a point shows what was said there.

        Args:
            *names: Which quantities; all by default.
            marks: Pieces to mark with a vertical line, by name.
            **layout: For `Figure.update_layout`.

        Returns:
            A `viz.Figure`.
        """
        at = self._places()
        lines, texts = {}, {}
        for name in names or self.probabilities:
            row = self.probabilities[name]
            known = np.isfinite(row)
            lines[name] = viz.Curve(x=at[known], y=row[known], emphasis=name == SUCCESS)
            texts[name] = [self._hover(k, name, row[k]) for k in np.flatnonzero(known).tolist()]
        figure: Any = viz.curves(
            lines,
            title=layout.pop("title", f"Dialogue {self.dialogue.name}"),
            x_title="turn",
            y_title="probability",
            references={"even": 0.5},
            **layout,
        )
        for trace in figure.data:
            if trace.name in texts and trace.hovertext is not None:
                trace.hovertext = texts[trace.name]
                trace.mode = "lines+markers"
        for name, piece in (marks or {}).items():
            figure.add_vline(x=at[piece], line_dash="dot", line_width=1, annotation_text=name)
        return figure.update_yaxes(range=[-0.02, 1.02])

    def _places(self) -> Float[np.ndarray, " piece"]:
        """Where each piece stands on the axis of turns: the last one of turn t at t + 1."""
        turns = np.asarray(self.dialogue.turns)
        counts = np.bincount(turns)
        order = np.arange(len(turns)) - np.r_[0, counts.cumsum()[:-1]][turns]
        return turns + (order + 1) / counts[turns]

    def _hover(self, piece: int, name: str, value: float) -> str:
        lines = _wrapped(self.dialogue.pieces[piece])
        speaker = self.dialogue.roles[piece].capitalize()
        where = f"turn {self.dialogue.turns[piece] + 1}"
        return f"<b>{speaker}</b>, {where}<br>{lines}<br>{name}: <b>{value:.2f}</b>"


@dataclass(frozen=True, kw_only=True)
class PersuasionReader:
    """Probes of one layer that read dialogues along."""

    probes: Mapping[str, PooledProbe]
    """The probe of each quantity."""
    roles: Mapping[str, str]
    """Whose pieces each quantity is read on."""
    layer: int
    """The layer."""
    at: At = "last"
    """Where in a piece: its last content token, or the mean."""

    def read(self, model: HookedModel, dialogues: Sequence[Dialogue]) -> list[Trajectory]:
        """Run the model over dialogues, once each, and read every quantity after every piece."""
        return self.score(read_pieces(model, dialogues, layers=self.layer)[self.at], dialogues)

    def score(self, pieces: Activations, dialogues: Sequence[Dialogue]) -> list[Trajectory]:
        """The trajectories of dialogues whose activations there are.

        Args:
            pieces: Activations of all their pieces, in order; they must hold the reader's layer.
            dialogues: The dialogues.
        """
        X = pieces.at(self.layer)
        spoken = np.array([role for d in dialogues for role in d.roles])
        columns: dict[str, np.ndarray] = {}
        for name, probe in self.probes.items():
            p, read = probe.predict_proba(X), spoken == self.roles[name]
            shown = {name: 1} if len(probe.classes_) == 2 else dict(_names(probe))
            columns |= {key: np.where(read, p[:, k], np.nan) for key, k in shown.items()}
        ends = np.cumsum([len(d.pieces) for d in dialogues])
        return [
            Trajectory(
                dialogue=d,
                probabilities={n: row[end - len(d.pieces) : end] for n, row in columns.items()},
            )
            for d, end in zip(dialogues, ends, strict=True)
        ]


def fit_reader(
    pieces: Activations,
    labels: Mapping[str, np.ndarray],
    *,
    layer: int,
    at: At = "last",
    roles: Mapping[str, str] | None = None,
    probe: PooledProbe | None = None,
) -> PersuasionReader:
    """Fit one probe for each quantity.

    Args:
        pieces: Activations of pieces, grouped by dialogue or user.
        labels: Label of each piece for each quantity, `None` where it has none; such as
            `shipped_labels` gives.
        layer: Layer to read.
        at: Which rule the activations were read by.
        roles: Whose pieces a quantity is read on; the persuader's for `"strategy"` and the
            persuadee's for others by default.
        probe: Is cloned for each quantity; `LinearProbe(C=0.01, balanced=True)` by default.

    Raises:
        ValueError: If a quantity has fewer than two classes.
    """
    probe = LinearProbe(C=0.01, balanced=True) if probe is None else probe
    X = pieces.at(layer)
    whose = {name: PERSUADER if name == STRATEGY else PERSUADEE for name in labels}
    fitted = {}
    for name, column in labels.items():
        known = labeled(column)
        fresh: Any = clone(probe)
        fitted[name] = fresh.fit(X[known], column[known].astype(type(column[known][0])))
    return PersuasionReader(probes=fitted, roles={**whose, **(roles or {})}, layer=layer, at=at)


def labeled(column: np.ndarray) -> Bool[np.ndarray, " piece"]:
    """Which pieces have a label."""
    return np.array([value is not None for value in column])


def _names(probe: PooledProbe):
    return ((str(name), k) for k, name in enumerate(probe.classes_))


def _wrapped(text: str, width: int = 60) -> str:
    """Text of a hover box: escaped, and broken into lines."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "<br>".join(lines)
