"""PersuasionForGood: people who persuade people to donate, with human labels of every sentence.

Wang et al. 2019 (1906.06725), Apache-2.0. One of two paid participants asks the other to give part
of the payment to a charity. In the annotated part each sentence has a dialogue act: those of the
persuader that appeal to logic, emotion or credibility are the strategies, and the persuadee agrees
or disagrees to donate. What was donated afterwards is known too, and it is something else: many
agree and give nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.data import data_folder
from probes.transcripts import PERSUADEE, PERSUADER, Dialogue

FOLDER = "persuasion_for_good"
STRATEGY_OF_ACT = {
    "logical-appeal": "logical",
    "emotion-appeal": "emotional",
    "credibility-appeal": "credibility",
}
"""Strategies by the act of the persuader; other acts are none of them."""
AGREE, DISAGREE = "agree-donation", "disagree-donation"
_TRAITS = {
    "extraversion": "extrovert.x",
    "agreeableness": "agreeable.x",
    "conscientiousness": "conscientious.x",
    "neuroticism": "neurotic.x",
    "openness": "open.x",
}
_SPEAKERS = (PERSUADER, PERSUADEE)


@dataclass(frozen=True, kw_only=True)
class PersuasionForGood:
    """The dialogues, as far as they lie in the folder."""

    annotated: tuple[Dialogue, ...]
    """Cut into sentences; `meta["acts"]` has the acts of each, most salient first."""
    others: tuple[Dialogue, ...]
    """The dialogues without annotation, cut into turns."""

    @property
    def all(self) -> tuple[Dialogue, ...]:
        """Both. `meta` has `donation` (in dollars), `user` of the persuadee, and `traits`."""
        return self.annotated + self.others


def load_persuasion_for_good(folder: str | Path | None = None) -> PersuasionForGood:
    """Read the data set.

    Args:
        folder: Where `300_dialog.csv`, `full_dialog.csv` and `full_info.csv` lie; by default
            `persuasion_for_good` in the data folder.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    folder = data_folder(FOLDER) if folder is None else Path(folder)
    people: Any = pd.read_csv(folder / "full_info.csv")
    people = people[people["B4"] == 1].drop_duplicates("B2").set_index("B2")
    sentences: Any = _clean(pd.read_csv(folder / "300_dialog.csv"))
    turns: Any = _clean(pd.read_csv(folder / "full_dialog.csv"))
    turns = turns[~turns["B2"].isin(sentences["B2"])]
    facts = {str(name): _facts(row) for name, row in people.iterrows()}
    return PersuasionForGood(
        annotated=tuple(
            _dialogue(str(name), part, {**facts.get(str(name), {}), "acts": _acts(part)})
            for name, part in sentences.groupby("B2", sort=True)
        ),
        others=tuple(
            _dialogue(str(name), part, facts.get(str(name), {}))
            for name, part in turns.groupby("B2", sort=True)
        ),
    )


def _clean(rows: pd.DataFrame) -> Any:
    rows = rows.assign(Unit=rows["Unit"].astype(str).str.split().str.join(" "))
    return rows[rows["Unit"] != ""]


def _dialogue(name: str, rows: pd.DataFrame, meta: Mapping[str, Any]) -> Dialogue:
    """The rows in their order; a turn ends where the speaker or the count of turns changes."""
    keys = list(zip(rows["Turn"], rows["B4"], strict=True))
    changed = [k > 0 and key != keys[k - 1] for k, key in enumerate(keys)]
    return Dialogue(
        name=name,
        pieces=tuple(rows["Unit"]),
        turns=tuple(pd.Series(changed).cumsum().tolist()),
        roles=tuple(_SPEAKERS[role] for role in rows["B4"]),
        meta=meta,
    )


def _acts(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    columns = ["er_label_1", "ee_label_1", "er_label_2", "ee_label_2"]
    return [tuple(a for a in row if isinstance(a, str)) for row in rows[columns].to_numpy()]


def _facts(row: Any) -> dict[str, Any]:
    traits = {name: float(row[column]) for name, column in _TRAITS.items()}
    return {"user": str(row["B3"]), "donation": float(row["B6"]), "traits": traits}
