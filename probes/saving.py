"""Probes as files: safetensors with a JSON header, and test vectors that are replayed at load.

The header says what the probe needs to be used rightly: the model, the site, how tokens are pooled,
how scores become probabilities, the threshold with the rate it promised and the rate it had.
Nothing is pickled, so that loading a probe runs no code of its author.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp import Activations, Origin, Span
from interp.core.files import load_tensors, save_tensors
from probes import pooling
from probes.base import Place, PooledProbe
from probes.calibration import Calibration, Threshold
from probes.evaluation import Estimate
from probes.linear import LinearProbe
from probes.mass_mean import MassMeanProbe
from probes.mean_difference import MeanDifferenceProbe
from probes.pca import PCAProbe
from probes.ridge import RidgeProbe
from probes.sequence import SequenceProbe
from probes.sequence_fitting import Examples, SequenceTraining, TokenWeights

_SCHEMA = "hookscope.probe/1"
AnyProbe = PooledProbe | RidgeProbe | SequenceProbe
"""Probes that can be saved."""
_POOLED: dict[str, type[PooledProbe | RidgeProbe]] = {
    cls.__name__: cls
    for cls in (LinearProbe, MeanDifferenceProbe, MassMeanProbe, PCAProbe, RidgeProbe)
}
_CHOSEN = ("C_", "alpha_")
"""Strengths that a probe chose when it was fitted."""
_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ProbeCard:
    """What a user of a probe must know beyond its weights."""

    name: str
    """Name of the probe."""
    description: str = ""
    """What it reads, and what it is not for."""
    data: str = ""
    """Training data, with their hash where they are public."""
    license: str = ""
    """License of the probe."""
    metrics: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Metrics with intervals by data set."""
    threshold: Threshold | None = None
    """Where to say yes."""
    calibration: Calibration | None = None
    """From scores to probabilities."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each data set and metric."""
        rows = [
            {"set": name, "metric": metric, "value": e.value, "low": e.low, "high": e.high}
            for name, metrics in self.metrics.items()
            for metric, e in metrics.items()
        ]
        return pd.DataFrame(rows, columns=["set", "metric", "value", "low", "high"])


@dataclass(frozen=True, kw_only=True)
class SavedProbe:
    """A probe that was loaded."""

    probe: AnyProbe
    """The probe, ready to score."""
    card: ProbeCard
    """What its file says about it."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, by the calibration where there is one.

        Raises:
            TypeError: If the probe predicts numbers and was saved without a calibration.
        """
        if self.card.calibration is None:
            if isinstance(self.probe, RidgeProbe):
                raise TypeError(
                    f"probe {self.card.name!r} predicts numbers: needed a calibration for "
                    "probabilities; use saved.probe.predict"
                )
            return self.probe.predict_proba(X)
        p = self.card.calibration(_scores(self.probe, X))
        return np.stack([1 - p, p], axis=1)

    def alarms(self, X: Any) -> np.ndarray:
        """Which examples score above the threshold.

        Raises:
            ValueError: If the file has no threshold.
        """
        if self.card.threshold is None:
            raise ValueError(f"probe {self.card.name!r} was saved without a threshold")
        return _scores(self.probe, X) > self.card.threshold.value


def save_probe(
    probe: AnyProbe,
    path: str | Path,
    *,
    examples: Activations,
    card: ProbeCard,
) -> Path:
    """Write a probe with its card, and the scores of a few examples to be checked at load.

    Args:
        probe: A fitted probe.
        path: The file.
        examples: Activations that the probe takes; the first four are stored with their scores.
        card: What a user must know.

    Raises:
        TypeError: If the probe is of a class of your own.
    """
    some = examples[: min(4, len(examples))]
    tensors, rule = _tensors(probe, some)
    header = {
        "schema": _SCHEMA,
        "class": type(probe).__name__,
        "params": _params(probe),
        "classes": None if isinstance(probe, RidgeProbe) else probe.classes_.tolist(),
        "kind": None if isinstance(probe, RidgeProbe) else probe.kind_,
        "chosen": {name: getattr(probe, name) for name in _CHOSEN if hasattr(probe, name)},
        "place": None if probe.place_ is None else asdict(probe.place_),
        "rule": rule,
        "card": _card_to_json(card),
    }
    tensors["test.scores"] = torch.from_numpy(np.asarray(_scores(probe, some), np.float64))
    return save_tensors(path, tensors, header)


def load_probe(path: str | Path, *, origin: Origin | None = None) -> SavedProbe:
    """Read a probe that `save_probe` wrote, and replay its test vectors.

    Args:
        path: The file.
        origin: `model.origin` of the model on which it is to be used.

    Raises:
        ValueError: If the file holds something else, or the test vectors give other scores.
        ModelMismatchError: If the probe was made with another model than `origin`.
    """
    tensors, header = load_tensors(path, schema=_SCHEMA)
    place = _place_from_json(header["place"])
    if origin is not None and place is not None and place.origin is not None:
        place.origin.check(origin, f"probe {Path(path).name}")
    probe = _restored(header, tensors)
    if header["classes"] is not None:
        probe.classes_, probe.kind_ = np.array(header["classes"]), header["kind"]
    probe.place_ = place
    found, expected = _replayed(probe, tensors), tensors["test.scores"].numpy()
    worst = float(np.abs(found - expected).max() / (1 + np.abs(expected).max()))
    if not worst <= _TOLERANCE:
        raise ValueError(
            f"the test vectors of {path} give other scores than when it was written (they differ "
            f"by {worst:.2g}): the file is damaged, or made by a version that scores differently"
        )
    return SavedProbe(probe=probe, card=_card_from_json(header["card"]))


def write_card(saved: SavedProbe) -> str:
    """A readable card in Markdown."""
    probe, card = saved.probe, saved.card
    place = probe.place_
    facts = {"probe": type(probe).__name__}
    if isinstance(probe, RidgeProbe):
        facts["predicts"] = f"a number (alpha {probe.alpha_:.3g})"
    else:
        facts["classes"] = ", ".join(map(str, probe.classes_))
    if place is not None:
        facts["reads"] = f"{place.site} of layer {', '.join(map(str, place.layers))}"
        facts["tokens"] = place.pooling or "all that count, pooled by the probe"
        if place.origin is not None:
            facts["model"] = f"{place.origin.model} (weights {place.origin.fingerprint})"
    if isinstance(probe, SequenceProbe):
        facts["pooling"] = repr(probe.rule)
    t = card.threshold
    if t is not None:
        facts["threshold"] = (
            f"{t.value:.4g}, for a false-positive rate of at most {t.target_fpr:.3g}; it was "
            f"{t.realized_fpr:.3g} on {t.n_negatives} negatives"
        )
    if card.calibration is not None:
        facts["probabilities"] = f"calibrated by {card.calibration.method}"
    facts |= {k: v for k, v in (("data", card.data), ("license", card.license)) if v}
    lines = [f"# {card.name}", "", card.description, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    if card.metrics:
        lines += ["", "| set | metric | value and 95 % interval |", "|---|---|---|"]
        lines += [
            f"| {name} | {metric} | {e} |"
            for name, metrics in card.metrics.items()
            for metric, e in metrics.items()
        ]
    return "\n".join(lines) + "\n"


def _tensors(probe: Any, some: Activations) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Weights, test vectors, and the rules of a sequence probe."""
    if isinstance(probe, SequenceProbe):
        examples = probe.examples(some)
        weights = {name: getattr(probe.weights_, name) for name in ("value", "intercept", "query")}
        rule = {"trained": _rule_to_json(probe.pooling), "read": _rule_to_json(probe.reading)}
        return weights | {"test.X": examples.X, "test.lengths": examples.lengths}, rule
    if type(probe).__name__ not in _POOLED:
        raise TypeError(f"a {type(probe).__name__} cannot be saved: needed {sorted(_POOLED)}")
    tensors = {
        "coef": torch.from_numpy(np.atleast_2d(probe.coef_)),
        "intercept": torch.from_numpy(np.atleast_1d(probe.intercept_)),
    }
    return tensors | {"test.X": torch.from_numpy(np.asarray(some))}, None


def _restored(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    if header["class"] == "SequenceProbe":
        params = header["params"]
        positions, training = params["positions"], params["training"]
        probe = SequenceProbe(
            _rule_from_json(header["rule"]["trained"]),
            reading=_rule_from_json(header["rule"]["read"]),
            positions=Span(**positions) if isinstance(positions, dict) else positions,
            training=None if training is None else SequenceTraining(**training),
            random_state=params["random_state"],
        )
        parts = {name: tensors[name] for name in ("value", "intercept", "query")}
        probe.weights_ = TokenWeights(**parts)
        return probe
    if header["class"] not in _POOLED:
        raise ValueError(f"unknown probe {header['class']!r}: needed {sorted(_POOLED)}")
    probe: Any = _POOLED[header["class"]](**header["params"])
    probe.coef_, probe.intercept_ = tensors["coef"].numpy(), tensors["intercept"].numpy()
    probe.n_features_in_ = probe.coef_.shape[1]
    if isinstance(probe, RidgeProbe):
        probe.coef_, probe.intercept_ = probe.coef_[0], float(probe.intercept_[0])
    for name, value in header["chosen"].items():
        setattr(probe, name, value)
    return probe


def _scores(probe: AnyProbe, X: Any) -> np.ndarray:
    """Scores of a classifier, or the numbers that a regression predicts."""
    return probe.predict(X) if isinstance(probe, RidgeProbe) else probe.decision_function(X)


def _replayed(probe: Any, tensors: Mapping[str, Tensor]) -> np.ndarray:
    if isinstance(probe, SequenceProbe):
        examples = Examples(X=tensors["test.X"], lengths=tensors["test.lengths"])
        return probe.score_examples(examples)
    return _scores(probe, tensors["test.X"].numpy())


def _params(probe: Any) -> dict[str, Any]:
    params = {name: value for name, value in probe.get_params(deep=False).items()}
    if not isinstance(probe, SequenceProbe):
        return params
    training, positions = params["training"], params["positions"]
    return {
        "positions": asdict(positions) if isinstance(positions, Span) else positions,
        "training": None if training is None else asdict(training),
        "random_state": params["random_state"],
    }


def _rule_to_json(rule: pooling.Pooling | None) -> dict[str, Any] | None:
    return None if rule is None else {"name": type(rule).__name__, **asdict(rule)}


def _rule_from_json(row: Mapping[str, Any] | None) -> pooling.Pooling | None:
    if row is None:
        return None
    options = {name: value for name, value in row.items() if name != "name"}
    known = {cls.__name__: cls for cls in pooling.RULES}
    if row["name"] not in known:
        raise ValueError(f"unknown pooling rule {row['name']!r}: needed one of {sorted(known)}")
    return known[row["name"]](**options)


def _place_from_json(row: Mapping[str, Any] | None) -> Place | None:
    if row is None:
        return None
    origin = None if row["origin"] is None else Origin(**row["origin"])
    return Place(**{**row, "layers": tuple(row["layers"]), "origin": origin})


def _card_to_json(card: ProbeCard) -> dict[str, Any]:
    return asdict(card)


def _card_from_json(row: Mapping[str, Any]) -> ProbeCard:
    metrics = {
        name: {metric: Estimate(**e) for metric, e in found.items()}
        for name, found in row["metrics"].items()
    }
    threshold, calibration = row["threshold"], row["calibration"]
    if calibration is not None:
        calibration = Calibration(
            method=calibration["method"], x=tuple(calibration["x"]), y=tuple(calibration["y"])
        )
    return ProbeCard(
        **{
            **row,
            "metrics": metrics,
            "threshold": None if threshold is None else Threshold(**threshold),
            "calibration": calibration,
        }
    )
