"""Directions of toxicity: of probes at several layers, of several fits, of words, of chance."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from interp import Activations, Direction, HookedModel
from interp.attribution import value_tokens, vocabulary_scores
from interp.attribution.logits import final_norm, norm_gain, output_head
from interp.core.seeds import derive, generator
from probes import LinearProbe, MeanDifferenceProbe, auroc
from probes.text import word_classifier

STRENGTH = 0.01
"""Strength of the data in the probes, on standardized activations."""


def probe_direction(
    train: Activations, layer: int, *, rows: np.ndarray | None = None, linear: bool = True
) -> Direction:
    """The direction of a probe of pooled comments.

    Args:
        train: Comments at several layers.
        layer: Where it reads.
        rows: Which comments; all by default.
        linear: Logistic regression; otherwise the plain difference of means.
    """
    chosen = train.at(layer) if rows is None else train.at(layer)[rows]
    probe = LinearProbe(C=STRENGTH) if linear else MeanDifferenceProbe(standardize=False)
    return probe.fit(chosen).direction_


def word_direction(model: HookedModel, ids: Int[np.ndarray, " token"]) -> Direction:
    """From the mean of all unembeddings to that of some tokens."""
    weight = output_head(model).weight.detach().float()
    toward = (weight[ids].mean(0) - weight.mean(0)) * norm_gain(final_norm(model), weight.shape[1])
    return Direction(vector=toward, layer=model.n_layers - 1)


def random_direction(like: Direction, seed: int) -> Direction:
    """A direction of chance at the same place."""
    vector = torch.randn(like.vector.shape, generator=generator(seed, "random direction"))
    return Direction(vector=vector, layer=like.layer, site=like.site)


def main_directions(
    model: HookedModel, train: Activations, ids: Int[np.ndarray, " token"]
) -> dict[str, Direction]:
    """Directions by name: the published one first, then other layers, fits and kinds."""
    last = model.n_layers - 1
    layers = sorted({last, *(round(last * part) for part in (0.25, 0.5, 0.75))}, reverse=True)
    found = {f"probe, layer {layer}": probe_direction(train, layer) for layer in layers}
    for seed in range(2):
        order = np.random.default_rng(derive(seed, "half")).permutation(len(train))
        half = order[: len(order) // 2]
        found[f"probe, layer {last}, half {seed}"] = probe_direction(train, last, rows=half)
    found[f"mean difference, layer {last}"] = probe_direction(train, last, linear=False)
    return found | {"toxic words": word_direction(model, ids)}


def probe_quality(
    train: Activations, test: Activations, texts: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """AUROC of probes at every layer, and of the words alone.

    Args:
        train: Comments at all layers.
        test: Other comments.
        texts: The texts of both.
    """
    labels = test.labels
    assert labels is not None
    rows = []
    for layer in train.layers:
        row: dict[str, Any] = {"layer": layer}
        for name, probe in (
            ("linear", LinearProbe(C=STRENGTH)),
            ("mean difference", MeanDifferenceProbe(standardize=False)),
        ):
            scores = probe.fit(train.at(layer)).decision_function(test.at(layer))
            row[name] = asdict(auroc(labels, scores))
        rows.append(row)
    words = word_classifier().fit(texts[0], train.labels).decision_function(texts[1])
    return {"layers": rows, "words alone": asdict(auroc(labels, words))}


def hits(
    model: HookedModel,
    scores: Float[np.ndarray, "layer neuron"],
    ids: Int[np.ndarray, " token"],
    *,
    n: int = 20,
) -> list[dict[str, Any]]:
    """The neurons with the largest scores, and which of their ten tokens are toxic.

    Args:
        model: A language model.
        scores: Of each neuron; of those with a negative one, the tokens that it lowers.
        ids: Tokens of the toxic words.
        n: How many neurons.
    """
    toxic = {model.tokenizer.decode([token]) for token in ids.tolist()}
    rows = []
    for layer, neuron in np.argwhere(top_neurons(scores, n)).tolist():
        score = float(scores[layer, neuron])
        tokens = value_tokens(model, layer, neuron, negative=score < 0)
        found = [token for token in tokens if token in toxic]
        rows.append({"layer": layer, "neuron": neuron, "score": score, "toxic_tokens": found})
    return sorted(rows, key=lambda row: -abs(row["score"]))


def neuron_scores(
    model: HookedModel, direction_cosine: Float[np.ndarray, "layer neuron"], shown: np.ndarray
) -> dict[str, Float[np.ndarray, "layer neuron"]]:
    """Scores by name: of the vocabulary, the published cosine, and chance."""
    chance = np.random.default_rng(derive(0, "random neurons")).normal(size=direction_cosine.shape)
    return {
        "vocabulary": vocabulary_scores(model, shown),
        "cosine": direction_cosine,
        "random": chance.astype(np.float32),
    }


def top_neurons(
    scores: Float[np.ndarray, "layer neuron"], n: int
) -> Bool[np.ndarray, "layer neuron"]:
    """The neurons with the largest scores, regardless of sign."""
    chosen = np.zeros(scores.size, bool)
    chosen[np.argsort(-np.abs(scores), axis=None, kind="stable")[:n]] = True
    return chosen.reshape(scores.shape)
