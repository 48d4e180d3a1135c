"""Probes on tokens of one layer: pooling rules side by side, and the recipe as published."""

from collections.abc import Mapping
from typing import Any

from hookscope.high_stakes.sets import HighStakesConfig, StudySet
from hookscope.high_stakes.tables import held_out, rate
from interp import Activations, HookedModel
from probes.high_stakes import normalized_input, published_probe
from probes.pooling import Attention, Last, Max, Mean, Pooling, RollingMean, Softmax
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining

POOLINGS: Mapping[str, Pooling] = {
    "mean": Mean(),
    "softmax": Softmax(temperature=5.0),
    "attention": Attention(),
    "rolling mean": RollingMean(window=20),
    "max": Max(),
    "last": Last(),
}
"""Rules that are compared, all trained alike."""
TRAINING = SequenceTraining(learning_rate=5e-3, weight_decay=0.1, n_epochs=40, patience=10)
"""How the rules are trained when they are compared."""
Rows = list[dict[str, Any]]


def by_pooling(parts: Mapping[str, StudySet], layer: int, config: HighStakesConfig) -> Rows:
    """Sequence probes of one layer by pooling, on the held-out sets."""
    tokens = {name: parts[name].tokens(layer) for name in ("train", *held_out(parts))}
    rows: Rows = []
    for name, pooling in POOLINGS.items():
        probe = SequenceProbe(pooling, training=TRAINING, positions="all", random_state=config.seed)
        rows += _rows(probe, tokens, parts, config, {"pooling": name})
    return rows


def as_published(
    model: HookedModel, parts: Mapping[str, StudySet], config: HighStakesConfig
) -> Rows:
    """The paper's attention probe two fifths up the model, with both readings of its hook."""
    wanted = round(0.4 * model.n_layers) - 1
    layer = min(parts["train"].store.layers, key=lambda one: abs(one - wanted))
    rows: Rows = []
    plain = {n: _before(parts[n].tokens(layer)) for n in ("train", *held_out(parts))}
    normed = {name: normalized_input(model, tokens) for name, tokens in plain.items()}
    for reading, tokens in {"resid_pre": plain, "normalized input": normed}.items():
        probe = published_probe(random_state=config.seed)
        rows += _rows(probe, tokens, parts, config, {"reading": reading, "layer": layer + 1})
    return rows


def _before(tokens: Activations) -> Activations:
    """What left a layer is what enters the next."""
    return Activations(
        tensors={"resid_pre": tokens.values},
        layers=(tokens.layer + 1,),
        tokens=tokens.tokens,
        origin=tokens.origin,
    )


def _rows(
    probe: SequenceProbe,
    tokens: Mapping[str, Activations],
    parts: Mapping[str, StudySet],
    config: HighStakesConfig,
    facts: dict[str, Any],
) -> Rows:
    """One row for each held-out set."""
    train = parts["train"]
    probe.fit(tokens["train"], train.labels, train.groups)
    return [
        {**facts, "set": name, **rate(parts[name], probe.decision_function(values), config)}
        for name, values in tokens.items()
        if name != "train"
    ]
