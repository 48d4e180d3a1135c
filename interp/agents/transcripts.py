"""Transcripts: a run of an arena as lines of JSON, written while it happens, and as one page."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from interp import viz
from interp.agents.players import Letter

_KINDS = ("arena", "letter", "step", "end")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One letter read, and what came of it."""

    player: str
    """Who read it."""
    letter: int
    """Number of the letter."""
    reply: str
    """What the back end wrote."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What probes said while it was written."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """Tool calls that were carried out."""
    results: tuple[str, ...] = ()
    """What they returned, one for each."""
    problems: tuple[str, ...] = ()
    """What was wrong with the reply or a call."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """Everything that happened in a run."""

    config: Mapping[str, Any]
    """Players, limits, back ends, seed."""
    letters: tuple[Letter, ...] = ()
    """All letters in the order in which they were sent."""
    steps: tuple[Step, ...] = ()
    """All steps in their order."""
    ending: str = ""
    """Why the run ended; empty while it runs, or if it was cut off."""

    def children(self, number: int | None) -> tuple[Letter, ...]:
        """Letters that reading this one led to; those from outside for `None`."""
        return tuple(letter for letter in self.letters if letter.parent == number)

    def to_frame(self) -> pd.DataFrame:
        """One row for each letter."""
        return pd.DataFrame([asdict(letter) for letter in self.letters])

    def save(self, path: str | Path) -> Path:
        """Write a .jsonl file that `load` reads back, the same bytes that a run writes."""
        path = Path(path)
        with path.open("w", encoding="utf-8") as file:
            write_line(file, "arena", self.config)
            for place in range(len(self.steps) + 1):
                for letter in self.letters:
                    if letter.step == place:
                        write_line(file, "letter", asdict(letter))
                for step in self.steps[place : place + 1]:
                    write_line(file, "step", asdict(step))
            if self.ending:
                write_line(file, "end", {"why": self.ending})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Transcript":
        """Read a transcript; one that was cut off in the middle of a line is read up to there.

        Raises:
            ValueError: If the file is no transcript, or a line before its last one is broken.
        """
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
        for place, line in enumerate(lines):
            try:
                row = json.loads(line)
                found[row.pop("kind")].append(row)
            except (ValueError, KeyError, AttributeError) as error:
                if place == len(lines) - 1 and place > 0:
                    break  # the run died while it wrote this line
                raise ValueError(f"{path}, line {place + 1}: not of a transcript") from error
        if len(found["arena"]) != 1:
            raise ValueError(f"{path}: {len(found['arena'])} headers, needed one: no transcript")
        return cls(
            config=found["arena"][0],
            letters=tuple(Letter(**row) for row in found["letter"]),
            steps=tuple(map(_step, found["step"])),
            ending=found["end"][0]["why"] if found["end"] else "",
        )

    def report(self, title: str = "Transcript") -> viz.Report:
        """The run as a page: message tree, scores by hop, steps."""
        counted = f"{len(self.letters)} messages, {len(self.steps)} steps"
        page = viz.Report(title, f"{counted}; ended: {self.ending or 'cut off'}")
        page.heading("Messages").tree(
            [self._node(letter) for letter in self.children(None)],
            "Each message stands below the one whose reading led to it. Red: the injected message "
            "and what descends from it; gray: held back by the monitor.",
        )
        scored = [one for one in self.letters if one.score is not None and one.hop is not None]
        if scored:
            figure = _scores_by_hop(scored, float(self.config["threshold"]))
            page.heading("Scores").figure(figure, "Score of each message that the attack led to.")
        page.heading("Steps").table(_steps_table(self), "What each agent thought and did.")
        return page.details("Arena", self.config)

    def _node(self, letter: Letter) -> viz.TreeNode:
        score = "" if letter.score is None else f", score {letter.score:+.2f}"
        hop = "" if letter.hop is None else f", hop {letter.hop}"
        held = ", held back" if letter.quarantined else ""
        return viz.TreeNode(
            title=f"{letter.number}: {letter.sender} to {letter.to}{hop}{score}{held}",
            text=letter.text,
            children=tuple(self._node(child) for child in self.children(letter.number)),
            tone="muted" if letter.quarantined else "plain" if letter.hop is None else "alarm",
        )


def write_line(file: TextIO, kind: str, row: Mapping[str, Any]) -> None:
    """One line of a transcript, on the disk before anything else happens."""
    file.write(json.dumps({"kind": kind, **row}, ensure_ascii=False) + "\n")
    file.flush()


def _step(row: Mapping[str, Any]) -> Step:
    lists = {name: tuple(row[name]) for name in ("calls", "results", "problems")}
    return Step(**{**row, **lists})


def _scores_by_hop(letters: list[Letter], threshold: float) -> viz.Figure:
    return viz.scatter(
        [one.hop or 0 for one in letters],
        [one.score or 0.0 for one in letters],
        labels=[f"{one.number}: {one.sender} to {one.to}" for one in letters],
        title="What the monitor says of messages, by hop",
        x_title="hops from the injected message",
        y_title=f"score (above {threshold:g}: held back)",
        xaxis_dtick=1,
    )


def _steps_table(transcript: Transcript) -> pd.DataFrame:
    rows = [
        {
            "agent": step.player,
            "message": str(step.letter),
            "calls": "; ".join(json.dumps(dict(call), ensure_ascii=False) for call in step.calls),
            "results": "; ".join(step.results),
            "problems": "; ".join(step.problems),
        }
        for step in transcript.steps
    ]
    return pd.DataFrame(rows, columns=["agent", "message", "calls", "results", "problems"])
