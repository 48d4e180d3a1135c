"""Probes that read along while a model writes.

A monitor sits on the model's own hooks and scores every token as it passes, with a state of
constant size for each probe: no activations are kept, and the text is never read again. The scores
are those that the probe gives to the same tokens afterwards. The last token of an answer is never
read by the model, so it has no score.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp import Generations, HookedModel, Records, Site, generate, viz
from interp.core.generation import end_ids
from interp.core.hooks import Call
from interp.core.positions import PositionRule, check_rule, selected
from probes.base import Place, PooledProbe
from probes.pooling import State
from probes.sequence import SequenceProbe


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A score above the threshold, the first one of its text."""

    probe: str
    """Name of the probe."""
    prompt: int
    """Index of the prompt; in order of running under `watching`."""
    token: int
    """How many scored tokens the text had before."""
    score: float
    """The score."""


@dataclass(frozen=True, kw_only=True)
class MonitoredGenerations:
    """What a model wrote, and what the probes said meanwhile."""

    generations: Generations
    """The texts."""
    scores: Mapping[str, tuple[Float[np.ndarray, "_ target"], ...]]
    """Score after each token that was read, by probe and prompt."""
    alarms: tuple[Alarm, ...]
    """Every first score above a threshold."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each probe, prompt and token that was read."""
        rows = [
            {"probe": name, "prompt": prompt, "token": token, "target": target, "score": score}
            for name, traces in self.scores.items()
            for prompt, trace in enumerate(traces)
            for token, targets in enumerate(trace)
            for target, score in enumerate(targets)
        ]
        return pd.DataFrame(rows, columns=["probe", "prompt", "token", "target", "score"])

    def plot(self, prompt: int = 0, **layout: Any) -> viz.Figure:
        """Scores of one prompt's answer, token by token."""
        lines = {
            name: viz.Curve(x=np.arange(len(trace[prompt])), y=trace[prompt][:, 0])
            for name, trace in self.scores.items()
        }
        return viz.curves(
            lines,
            title="What the probe says while the model writes",
            x_title="token that was read",
            y_title="score of the text so far (log-odds)",
            **layout,
        )


@dataclass(kw_only=True)
class _Track:
    """One probe at work on one batch."""

    probe: SequenceProbe
    pending: dict[int, Tensor] = field(default_factory=dict)
    state: State = ()
    trace: list[Tensor] = field(default_factory=list)


class ProbeMonitor:
    """Probes that score tokens while a model generates.

    Examples:
        Stop an answer as soon as a probe is alarmed:

            monitor = ProbeMonitor(probe, threshold=2.0, stop=True)
            result = monitor.generate(model, prompts, max_new_tokens=64)
    """

    def __init__(
        self,
        probes: SequenceProbe | PooledProbe | Mapping[str, SequenceProbe | PooledProbe],
        *,
        positions: PositionRule = "generated",
        threshold: float | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
        stop: bool = False,
    ) -> None:
        """Prepare probes.

        Args:
            probes: One fitted probe or several by name; a probe of pooled activations is read at
                every token and averaged.
            positions: Which tokens are scored; the first token of a text never is.
            threshold: Score above which there is an alarm (probes of two classes only).
            on_alarm: Called at the first alarm of each probe and text.
            stop: End a text at its first alarm.

        Raises:
            ValueError: If a probe was fitted to arrays, or a threshold cannot apply.
        """
        named = probes if isinstance(probes, Mapping) else {"probe": probes}
        self.positions: PositionRule = check_rule(positions)
        self.threshold = threshold
        self.on_alarm, self.stop = on_alarm, stop
        self._probes: dict[str, tuple[SequenceProbe, Place]] = {}
        for name, probe in named.items():
            tokenwise = (
                probe if isinstance(probe, SequenceProbe) else SequenceProbe.from_pooled(probe)
            )
            if tokenwise.place_ is None:
                raise ValueError(f"probe {name!r} was fitted to an array: fit it to Activations")
            if threshold is not None and tokenwise.kind_ != "binary":
                raise ValueError(f"threshold={threshold}, but {name!r} has several classes")
            self._probes[name] = tokenwise, tokenwise.place_
        if stop and threshold is None:
            raise ValueError("stop=True needs a threshold")
        self._reset()

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms of the current or last watch."""
        return tuple(self._alarms)

    @property
    def scores(self) -> dict[str, Float[np.ndarray, "batch target"]]:
        """The latest score of each text of the current batch, NaN before its first token."""
        return {
            name: track.trace[-1].numpy() for name, track in self._tracks.items() if track.trace
        }

    @contextmanager
    def watching(self, model: HookedModel) -> Iterator["ProbeMonitor"]:
        """Score whatever the model reads in this block; nothing stays attached afterwards.

        Raises:
            ModelMismatchError: If a probe was fitted on another model.
        """
        origin = model.origin
        for name, (_, place) in self._probes.items():
            if place.origin is not None:
                place.origin.check(origin, f"probe {name!r}")
        self._reset()
        self._ends = torch.tensor(end_ids(model), dtype=torch.long)
        reads = [
            (Site(place.site, layer), partial(self._read, name, layer))
            for name, (_, place) in self._probes.items()
            for layer in place.layers
        ]
        with model.hooks.attached(reads=reads):
            yield self
        self._finish_batch()

    def generate(
        self, model: HookedModel, prompts: Records | Sequence[str], **options: Any
    ) -> MonitoredGenerations:
        """`interp.generate`, with the scores of each prompt in the order of the prompts.

        Args:
            model: The model on which the probes were fitted.
            prompts: As in `interp.generate`.
            **options: Of `interp.generate`, but `on_token` and `use_cache`.
        """
        lengths = model.tokenize(prompts, add_generation_prompt=True).lengths
        order = np.argsort(-lengths, kind="stable")  # the order in which generate runs them
        records = prompts if isinstance(prompts, Records) else Records.from_texts(list(prompts))
        with self.watching(model):
            self._names = order
            written = generate(model, records[order], on_token=self.on_token, **options)
        back = np.argsort(order)
        scores = {name: tuple(rows[k] for k in back) for name, rows in self._finished.items()}
        texts = Generations(
            prompts=tuple(written.prompts[k] for k in back),
            texts=tuple(written.texts[k] for k in back),
            tokens=tuple(written.tokens[k] for k in back),
            config=written.config,
        )
        return MonitoredGenerations(generations=texts, scores=scores, alarms=self.alarms)

    def on_token(self, ids: Int[Tensor, "batch pos"]) -> Bool[Tensor, " batch"]:
        """Which texts are to end, for `interp.generate(on_token=...)`."""
        self._over |= torch.isin(ids[:, -1].cpu(), self._ends)
        stopped = self._alarmed.any(0) & self.stop
        self._over |= stopped
        return stopped.to(ids.device)

    def _reset(self) -> None:
        self._tracks = {name: _Track(probe=probe) for name, (probe, _) in self._probes.items()}
        self._finished: dict[str, list[np.ndarray]] = {name: [] for name in self._probes}
        self._alarms: list[Alarm] = []
        self._names: np.ndarray | None = None
        self._ends = torch.zeros(0, dtype=torch.long)
        self._over = torch.zeros(0, dtype=torch.bool)
        self._alarmed = torch.zeros(len(self._probes), 0, dtype=torch.bool)

    def _read(self, name: str, layer: int, value: Tensor, call: Call) -> None:
        """Take the value of one layer, and score when all layers of the probe are there."""
        track = self._tracks[name]
        if not track.pending and self._begins(call, len(value), name):
            self._finish_batch()
            self._over = torch.zeros(len(value), dtype=torch.bool)
            self._alarmed = torch.zeros(len(self._probes), len(value), dtype=torch.bool)
        track.pending[layer] = value
        layers = self._probes[name][1].layers
        if len(track.pending) < len(layers):
            return
        joined = torch.cat([track.pending[k].flatten(2) for k in layers], -1)
        track.pending = {}
        active = selected(self.positions, call)
        if active is None or call.positions is None:
            raise ValueError("this model has no token positions: a monitor needs a language model")
        active = (active & (call.positions > 0)).cpu()
        if bool(active.any()):
            self._advance(name, joined, active)

    def _begins(self, call: Call, batch: int, name: str) -> bool:
        """Whether this is the first pass of new texts, at the first probe that sees it."""
        if next(iter(self._probes)) != name or call.positions is None or call.mask is None:
            return False
        return len(self._over) != batch or bool(((call.positions == 0) & call.mask).any())

    def _advance(self, name: str, value: Tensor, active: Bool[Tensor, "batch pos"]) -> None:
        """Score the tokens of one pass."""
        track = self._tracks[name]
        weights, rule = track.probe.weights_, track.probe.rule
        shape = (*active.shape, *weights.intercept.shape)
        values = torch.zeros(shape)
        queries = torch.zeros(shape)
        values[active], queries[active] = weights(
            value.detach()[active.to(value.device)].float().cpu()
        )
        logits = rule.logits(values, queries)
        if not track.trace:
            track.state = rule.start(values[:, 0])
        for k in range(active.shape[1]):
            rows = active[:, k] & ~self._over
            if not bool(rows.any()):
                continue
            state, score = rule.step(track.state, values[:, k], logits[:, k])
            track.state = tuple(
                _where(rows, new, old) for new, old in zip(state, track.state, strict=True)
            )
            track.trace.append(_where(rows, score, torch.full_like(score, torch.nan)))
            if self.threshold is not None:
                self._check(name, rows & (score[:, 0] > self.threshold), score[:, 0])

    def _check(
        self, name: str, rows: Bool[Tensor, " batch"], score: Float[Tensor, " batch"]
    ) -> None:
        """Raise the alarm for texts whose score is above the threshold for the first time."""
        number = list(self._probes).index(name)
        fresh = rows & ~self._alarmed[number]
        self._alarmed[number] |= fresh
        trace = self._tracks[name].trace
        begun = len(self._finished[name])
        for row in fresh.nonzero()[:, 0].tolist():
            token = sum(not bool(step[row].isnan().any()) for step in trace) - 1
            prompt = begun + row if self._names is None else int(self._names[begun + row])
            alarm = Alarm(probe=name, prompt=prompt, token=token, score=float(score[row]))
            self._alarms.append(alarm)
            if self.on_alarm is not None:
                self.on_alarm(alarm)

    def _finish_batch(self) -> None:
        """Put the traces of the batch that is over to those of the others."""
        for name, track in self._tracks.items():
            n_targets = len(track.probe.weights_.value)
            trace = (
                torch.stack(track.trace, 1)
                if track.trace
                else torch.zeros(len(self._over), 0, n_targets)
            )
            for row in trace:
                self._finished[name].append(row[~row.isnan().any(-1)].numpy())
            track.trace, track.state = [], ()
        self._over = self._over[:0]


def _where(rows: Bool[Tensor, " batch"], new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)
