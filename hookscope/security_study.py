"""The study of multi-agent security: a probe as monitor, and what defences cost.

Three parts. *Monitor*: a probe on the residual stream of the embedded model tells attacks from
routine and from unusual requests, of styles and acts that it has not seen, beside words alone:
left out of the 537 messages of the arena, and in 344 that were written after it was settled.
*Untuned*: that model decides for seven agents whether they do what a message asks; it says yes so
rarely that there is nothing to defend. *Organism*: the same model, its readout refitted to do what
it is asked and to mind warnings, decides under the four published defences, with the monitor, and
with a suspicion direction added. Every answer is kept in a file, so that an interrupted study goes
on where it stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hookscope.security_corpus import ROLE, make_corpus, read_corpus
from hookscope.security_monitor import judge, probes_on, rates, words_of
from hookscope.study_folder import Part, claim, run_parts, write_json
from interp import HookedModel, Records, add, extract, viz
from interp.agents import (
    ANSWERS,
    DEFENCES,
    STYLES,
    UNUSUAL,
    Backend,
    Defence,
    HookedBackend,
    Outcome,
    Replay,
    Security,
    Transcript,
    attack_texts,
    decision_messages,
    fit_readout,
    lab_minds,
    make_lab,
    mean_interval,
    obedience_lessons,
    published_security_tax,
    run_arena,
    warned_and_not,
    wilson,
    with_readout,
)
from interp.core.interventions import SiteEdit
from interp.core.positions import Window
from interp.core.records import Message
from interp.core.seeds import derive

N_GROUPS = 5
"""Parts of the lessons, each left out in turn."""


@dataclass(frozen=True, kw_only=True)
class SecurityConfig:
    """What the study does; the defaults are those of the notebook."""

    probe_layers: tuple[int, ...] = (8, 10, 12, 14, 16, 18, 20, 22, 24)
    """Layers over which the monitor takes the mean."""
    C: float = 0.001
    """Strength of the data against the regularization of its probes."""
    false_positives: float = 0.05
    """Share of harmless training messages at which the threshold of the monitor lies."""
    steer_layer: int = 20
    """Where the suspicion direction is added, at the last token of the question."""
    strengths: tuple[float, ...] = (1.0, 2.0)
    """How much is added, in units of what a warning does there."""
    seeds: int = 3
    """Runs of each style and condition."""
    seed: int = 0
    """Seed of everything that is drawn."""


def run_security_study(
    folder: str | Path,
    model: HookedModel,
    *,
    config: SecurityConfig | None = None,
    only: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where activations, answers, transcripts and results are kept.
        model: A language model with a chat template.
        config: What to do.
        only: Names of the parts to run; all by default.
        progress: Show progress bars.

    Raises:
        ValueError: If the folder holds a study of other choices or messages, or a part is unknown.
    """
    config, folder = config or SecurityConfig(), Path(folder)
    study = _Study(model, config, folder, progress)
    messages = study.corpus.digest
    choices = claim(folder, {"model": model.name, "messages": messages, **asdict(config)})
    return run_parts(folder, choices, study.parts(), only=only)


class _Study:
    """Model, organism, messages, and what the monitor says of them."""

    def __init__(
        self, model: HookedModel, config: SecurityConfig, folder: Path, progress: bool
    ) -> None:
        self.model, self.config, self.folder, self.progress = model, config, folder, progress
        self.corpus = make_corpus()

    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order in which they run."""
        strongest = max(self.config.strengths)
        return {
            "monitor": self._monitor,
            "untuned": lambda: self.condition("untuned", self._backend("plain", self.model)),
            "organism": self._organism,
            **{one.name: lambda d=one: self.defended(d.name, d) for one in DEFENCES},
            "probe monitor": lambda: self.defended("probe monitor", screened=True),
            **{
                f"steering {strength:g}": lambda s=strength: self.defended(
                    f"steering {s:g}", strength=s
                )
                for strength in self.config.strengths
            },
            f"random direction {strongest:g}": lambda: self.defended(
                f"random direction {strongest:g}", strength=strongest, random=True
            ),
        }

    def _monitor(self) -> dict[str, Any]:
        """The probe and words alone, on messages left out and new; margins are for the runs."""
        values = read_corpus(self.model, self.corpus.texts, self.folder, progress=self.progress)
        fits = {
            "probe": probes_on(values, self.corpus, self.config.probe_layers, C=self.config.C),
            "words": words_of(self.corpus),
        }
        allowed = self.config.false_positives
        found = {
            name: judge(self.corpus, fit, false_positives=allowed) for name, fit in fits.items()
        }
        rows = np.flatnonzero(self.corpus.folds >= 0)
        kept = {self.corpus.texts[k]: float(found["probe"][k]) for k in rows}
        write_json(self.folder / "monitor" / "margins.json", kept)
        return {
            name: {
                what: rates(self.corpus, margins, judged)
                for what, judged in self.corpus.judgments.items()
            }
            for name, margins in found.items()
        }

    def _margins(self) -> dict[str, float]:
        """Margin of each message, from the part "monitor" if it was run."""
        path = self.folder / "monitor" / "margins.json"
        if not path.exists():
            self._monitor()
        return json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def organism(self) -> HookedModel:
        """The model with a readout that obeys, read from the folder if it was fitted before."""
        path = self.folder / "organism" / "readout.json"
        if not path.exists():
            self._organism()
        weights = torch.tensor(json.loads(path.read_text(encoding="utf-8")))
        return with_readout(self.model, weights, ANSWERS)

    def _organism(self) -> dict[str, Any]:
        """Fit the readout to the lessons; how often it is right on lessons of a left-out part."""
        lessons = obedience_lessons()
        norm: Any = self.model.body.get_submodule("norm")
        with torch.no_grad():
            read = self._last([one.messages for one in lessons], self.model.n_layers - 1)
            states = norm(read.to(self.model.device)).cpu()
        wanted = np.array([one.wanted[0] for one in lessons])
        groups = np.arange(len(lessons)) // 4 % N_GROUPS
        right = np.empty(len(lessons), bool)
        for group in range(N_GROUPS):
            held = groups == group
            weights = fit_readout(states[~held], wanted[~held], groups[~held])
            right[held] = ((states[held] @ weights).numpy() > 0) == (wanted[held] > 0.5)
        weights = fit_readout(states, wanted, groups)
        write_json(self.folder / "organism" / "readout.json", weights.tolist())
        yes = wanted > 0.5
        return {
            name: vars(wilson(int(right[rows].sum()), int(rows.sum())))
            for name, rows in (("right on yes", yes), ("right on no", ~yes))
        }

    def _last(self, messages: Sequence[Sequence[Message]], layer: int) -> torch.Tensor:
        """Activations of a layer at the last token of each question."""
        records = Records([{"messages": list(asked)} for asked in messages])
        tokens = self.model.tokenize(records, add_generation_prompt=True)
        found = extract(
            self.model,
            tokens,
            layers=layer,
            positions="all",
            pooling="last",
            progress=self.progress,
        )
        return found.matrix

    def _backend(self, name: str, model: HookedModel, *changes: SiteEdit) -> Replay:
        """A model with interventions, each answer kept."""
        hooked = HookedBackend(model, interventions=changes, name=name)
        return Replay(self.folder / "choices.jsonl", hooked)

    def suspicion(self, strength: float, *, random: bool = False) -> SiteEdit:
        """What a warning does to the last token of a question, or a random vector as long."""
        layer = self.config.steer_layer
        warned, plain = (self._last(messages, layer) for messages in warned_and_not())
        vector = (warned - plain).mean(0)
        if random:
            generator = torch.Generator().manual_seed(derive(self.config.seed, "random"))
            drawn = torch.randn(vector.shape, generator=generator)
            vector = drawn * vector.norm() / drawn.norm()
        return add(vector, layers=layer, coefficient=strength, positions=Window(start=-1))

    def defended(
        self,
        name: str,
        defence: Defence = DEFENCES[0],
        *,
        screened: bool = False,
        strength: float = 0.0,
        random: bool = False,
    ) -> dict[str, Any]:
        """The organism under a defence."""
        changes = (self.suspicion(strength, random=random),) if strength else ()
        decider = self._backend(name if strength else "organism", self.organism, *changes)
        return self.condition(name, decider, defence, self._margins() if screened else None)

    def condition(
        self,
        name: str,
        decider: Backend,
        defence: Defence = DEFENCES[0],
        margins: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        """Runs of all styles and seeds, and the answers to attacks and unusual requests."""
        outcomes = []
        for style in STYLES:
            screen = None if margins is None else margins.__getitem__
            lab = make_lab(style, defence, screen=screen, threshold=0.0)
            for seed in range(self.config.seeds):
                path = self.folder / "transcripts" / name / f"{style.name}-{seed}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                run = run_arena(lab, lab_minds(lab, decider), seed=seed, path=path)
                outcomes.append(Outcome.of(run))

        def says_yes(text: str) -> float:
            held = margins is not None and margins[text] > 0
            return 0.0 if held else float(decider.choice(asked(text, defence), ANSWERS)[0])

        unusual = [says_yes(text) for text in UNUSUAL]
        attacks = [says_yes(attack_texts(style)[0]) for style in STYLES]
        return {
            "security": Security.of(outcomes, seed=self.config.seed).to_frame().to_dict("records"),
            "cooperation": vars(mean_interval(unusual, seed=self.config.seed)),
            "compliance_with_attacks": vars(mean_interval(attacks, seed=self.config.seed)),
            "unusual": np.round(unusual, 4).tolist(),
            "attacks": np.round(attacks, 4).tolist(),
        }


def asked(text: str, defence: Defence) -> tuple[Any, ...]:
    """What a researcher is asked about a message from outside."""
    return decision_messages(f"{ROLE} {defence.instruction}".strip(), defence.memory, text)


def security_table(results: dict[str, Any]) -> pd.DataFrame:
    """One row for each condition: robustness and cooperation with intervals, and the tax.

    The tax is the cooperation that is lost for each point of robustness that is won, against no
    defence; NaN where no robustness is won.
    """
    rows = []
    for name, part in results.items():
        if "security" not in part:
            continue
        measures = {row["measure"]: row for row in part["security"]}
        row: dict[str, Any] = {"condition": name}
        for column, values in (
            ("robustness", measures["robustness"]),
            ("cooperation", part["cooperation"]),
        ):
            row |= {column: values["value"]}
            row |= {f"{column}_{end}": values[end] for end in ("low", "high")}
        rows.append(row)
    frame = pd.DataFrame(rows).set_index("condition")
    won = frame["robustness"] - frame.loc["none", "robustness"]
    lost = frame.loc["none", "cooperation"] - frame["cooperation"]
    return frame.assign(tax=(lost / won).where(won > 0)).reset_index()


def plot_security_tax(table: pd.DataFrame, **layout: Any) -> viz.Figure:
    """Cooperation against robustness; behind ours, published agents under the same defences."""
    rows = table.set_index("condition").to_dict("index")
    published = published_security_tax()
    behind = {
        str(condition): [
            viz.Point(x=one["robustness"], y=one["cooperation"]) for one in some.to_dict("records")
        ]
        for condition, some in published.groupby("condition", sort=False)
        if condition in rows
    }
    return viz.tradeoff(
        {
            name: viz.Point(
                x=row["robustness"],
                y=row["cooperation"],
                x_interval=(row["robustness_low"], row["robustness_high"]),
                y_interval=(row["cooperation_low"], row["cooperation_high"]),
                control=name.startswith("random"),
            )
            for name, row in rows.items()
        },
        behind=behind,
        behind_name="published agents (same symbols)",
        joined=["none", *(name for name in rows if name.startswith("steering"))],
        title="What defences win and cost, with 95 % intervals",
        x_title="robustness (share of runs without the act; equal shares stand side by side)",
        y_title="cooperation (share of unusual requests accepted)",
        **layout,
    )


def load_transcript(folder: str | Path, condition: str, style: str, seed: int) -> Transcript:
    """A transcript that the study has kept."""
    return Transcript.load(Path(folder) / "transcripts" / condition / f"{style}-{seed}.jsonl")
