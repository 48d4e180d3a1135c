"""Where a threat's severity is carried: activations of a normal threat put into a surrogate one.

The texts of a pair differ in one sentence of unequal length and are the same behind it, so tokens
are matched from the end. At each layer, either the last token's activations are put into the other
run, or those of all tokens behind the threat. Recovered is the share of the difference of log-odds
that comes back: 0 is the surrogate run, 1 the normal one. A high share says that severity can be
read there by the layers above, and not that it is stored in one direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp import viz
from interp.agents.backends import Backend
from interp.agents.hooked import HookedBackend
from interp.core.hooks import Call
from interp.core.interventions import edit
from interp.core.model import HookedModel
from interp.core.positions import Window
from interp.core.records import Message, Records

Place = Literal["last token", "behind the threat"]
"""Which tokens are patched."""


@dataclass(frozen=True, kw_only=True)
class SeverityResult:
    """Recovered log-odds at each place and layer, pair by pair."""

    recovered: Float[np.ndarray, "place layer pair"]
    """Change of the log-odds by patching, in the units of the two runs."""
    difference: Float[np.ndarray, " pair"]
    """Log-odds of the normal run minus that of the surrogate run."""
    places: tuple[str, ...]
    """Labels of the first axis."""
    layers: tuple[int, ...]
    """Labels of the second axis."""

    @property
    def share(self) -> Float[np.ndarray, "place layer"]:
        """Recovered share over all pairs together."""
        return self.recovered.sum(-1) / self.difference.sum()

    def interval(self, place: str, layer: int, *, seed: int = 0) -> tuple[float, float]:
        """Bootstrap interval over pairs of the share at one place and layer."""
        own = self.recovered[self.places.index(place), self.layers.index(layer)]
        n = len(own)
        rows = np.random.default_rng(seed).integers(0, n, (2000, n))
        draws = own[rows].sum(1) / self.difference[rows].sum(1)
        low, high = np.quantile(draws, [0.025, 0.975])
        return float(low), float(high)

    def to_frame(self) -> pd.DataFrame:
        """One row for each place and layer."""
        rows = [
            {"place": place, "layer": layer, "share": float(self.share[p, k])}
            | dict(zip(("low", "high"), self.interval(place, layer), strict=True))
            for p, place in enumerate(self.places)
            for k, layer in enumerate(self.layers)
        ]
        return pd.DataFrame(rows)

    def plot(self, **layout: Any) -> viz.Figure:
        """Shares along the layers."""
        frame = self.to_frame()
        return plot_severity(frame, **layout)


def plot_severity(frame: pd.DataFrame, **layout: Any) -> viz.Figure:
    """Recovered shares along the layers, from the table of a result."""
    lines = {
        str(place): viz.Curve(x=own["layer"], y=own["share"], low=own["low"], high=own["high"])
        for place, own in frame.groupby("place", sort=False)
    }
    return viz.curves(
        lines,
        title="Where the severity of a threat is carried",
        x_title="layer",
        y_title="recovered share of the log-odds",
        references={"the normal run": 1.0, "the surrogate run": 0.0},
        **layout,
    )


def patch_severity(
    model: HookedModel,
    normal: Sequence[Sequence[Message]],
    surrogate: Sequence[Sequence[Message]],
    options: Sequence[str],
    *,
    layers: Sequence[int],
    places: Sequence[Place] = ("last token", "behind the threat"),
) -> SeverityResult:
    """Patch activations of normal runs into surrogate runs.

    Args:
        model: A language model.
        normal: Messages of normal threats.
        surrogate: Messages of the matched surrogate threats.
        options: Two options; the log-odds are of the first against the second.
        layers: Where to patch the residual stream after the block.
        places: Which tokens to patch.

    Raises:
        ValueError: If the numbers of texts differ, or there are none.
    """
    if not normal or len(normal) != len(surrogate):
        raise ValueError(f"{len(normal)} normal and {len(surrogate)} surrogate texts: needed pairs")
    plain = HookedBackend(model)
    difference, recovered = [], []
    for clean, corrupted in zip(normal, surrogate, strict=True):
        ids = [_ids(model, messages) for messages in (clean, corrupted)]
        n_same = _same_tail(*ids)
        sites = model.sites.at("resid_post", tuple(layers))
        with model.capture(sites) as found:
            high = log_odds(plain, clean, options)
        low = log_odds(plain, corrupted, options)
        tails = [found[site][0][0, -n_same:] for site in sites]
        difference.append(high - low)
        recovered.append(
            [
                [
                    log_odds(_patched(model, tail, layer, place), corrupted, options) - low
                    for layer, tail in zip(layers, tails, strict=True)
                ]
                for place in places
            ]
        )
    return SeverityResult(
        recovered=np.moveaxis(np.array(recovered), 0, -1),
        difference=np.array(difference),
        places=tuple(places),
        layers=tuple(layers),
    )


def log_odds(backend: Backend, messages: Sequence[Message], options: Sequence[str]) -> float:
    """Log-odds of the first option against the second."""
    first, second = backend.choice(messages, options)
    return float(np.log(first) - np.log(second))


def _patched(
    model: HookedModel, tail: Float[Tensor, "pos d_model"], layer: int, place: Place
) -> HookedBackend:
    """The model with the activations of the other run at the end of the text."""
    n = 1 if place == "last token" else len(tail)

    def change(value: Tensor, call: Call) -> Tensor:
        changed = value.clone()
        changed[0, -n:] = tail[-n:].to(value)
        return changed

    patch = edit(change, layers=layer, positions=Window(start=-n))
    return HookedBackend(model, interventions=[patch], name="patched")


def _ids(model: HookedModel, messages: Sequence[Message]) -> list[int]:
    records = Records([{"messages": [dict(turn) for turn in messages]}])
    return model.tokenize(records, add_generation_prompt=True).ids.tolist()


def _same_tail(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens at the end of two texts are the same."""
    same = [a == b for a, b in zip(reversed(first), reversed(second), strict=False)]
    return same.index(False) if False in same else len(same)
