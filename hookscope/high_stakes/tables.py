"""The tables of the high-stakes study: the chosen probe beside what needs no model, by set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from hookscope.high_stakes.choice import Choice
from hookscope.high_stakes.sets import PLACES, HighStakesConfig, StudySet
from interp import HookedModel, extract
from interp.core.seeds import derive
from probes.cascade import calibrated
from probes.evaluation import (
    Estimate,
    auroc,
    auroc_value,
    auroc_values,
    bootstrap,
    group_draws,
    summarized,
)
from probes.linear import LinearProbe
from probes.sequence import SequenceProbe
from probes.text import length_matched_auroc, log_lengths, word_classifier

Scores = Mapping[str, np.ndarray]
"""Scores of one method on each set, by name of the set."""
TEXT_FLOORS = ("words (1-2)", "words (1)", "words (1-3), SVM", "length")
"""Methods that see no model."""
SHOTS = (0, 2, 4, 8, 16, 32, 64, 128)
"""Labelled examples of the domain in the few-shot curve."""


def held_out(parts: Mapping[str, StudySet]) -> list[str]:
    """Names of the sets that decide nothing."""
    return ["synthetic", *(name for name in parts if name.endswith(" test"))]


def rate(part: StudySet, scores: np.ndarray, config: HighStakesConfig) -> dict[str, float]:
    """AUROC with its interval over pairs."""
    return asdict(auroc(part.labels, scores, groups=part.groups, seed=config.seed))


def floors(model: HookedModel, parts: Mapping[str, StudySet]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of methods that know the words or the length only, fitted to the training texts.

    The embedding layer is the model's own bag of words: the mean of the embeddings.
    """
    train, held = parts["train"], held_out(parts)
    svm = TfidfVectorizer(ngram_range=(1, 3), max_features=20_000, sublinear_tf=True)
    single = TfidfVectorizer(sublinear_tf=True)
    makers = {
        "words (1-2)": word_classifier(),
        "words (1)": make_pipeline(single, LogisticRegression(max_iter=1000)),
        "words (1-3), SVM": make_pipeline(svm, LinearSVC()),
    }
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, maker in makers.items():
        fit = maker.fit(train.texts, train.labels)
        found[name] = {n: fit.decision_function(parts[n].texts) for n in held}
    sizes = {n: log_lengths(parts[n].texts)[:, None] for n in ("train", *held)}
    size = LogisticRegression().fit(sizes["train"], train.labels)
    found["length"] = {n: size.decision_function(sizes[n]) for n in held}
    words = {n: _embedded(model, parts[n]) for n in ("train", *held)}
    probe = LinearProbe(C=1e-3).fit(words["train"], train.labels)
    found["embedding layer"] = {n: probe.decision_function(words[n]) for n in held}
    return found


def _embedded(model: HookedModel, part: StudySet) -> np.ndarray:
    tokens = model.tokenize(part.records)
    embedded = extract(model, tokens, layers=0, sites="resid_pre", pooling="mean")
    return embedded.matrix.numpy()


def by_set(
    parts: Mapping[str, StudySet],
    scores: Scores,
    others: Mapping[str, Scores],
    config: HighStakesConfig,
) -> list[dict[str, Any]]:
    """The chosen probe on each held-out set: beside the floors, among equal lengths, at 1 % FPR."""
    dev = [name for name in parts if name.endswith(" dev")]
    benign = np.concatenate([scores[n][parts[n].labels == 0] for n in dev])
    threshold, rows = threshold_at(benign, 0.01), []
    for name in held_out(parts):
        part, y = parts[name], parts[name].labels
        matched = length_matched_auroc(log_lengths(part.texts))
        row: dict[str, Any] = {"set": name, **rate(part, scores[name], config)}
        row["length_matched"] = asdict(
            bootstrap(matched, y, scores[name], groups=part.groups, seed=config.seed)
        )
        row["floors"] = {f: rate(part, values[name], config) for f, values in others.items()}
        own = threshold_at(scores[name][y == 0], 0.01)
        row["at_one_percent"] = rates_at(y, scores[name], own)
        row["at_dev_threshold"] = rates_at(y, scores[name], threshold)
        rows.append(row)
    return rows


def mean_gain(
    parts: Mapping[str, StudySet], scores: Scores, others: Scores, config: HighStakesConfig
) -> Estimate:
    """Mean over test sets of the AUROC minus that of another score, all sets drawn anew at once."""
    values, draws = [], []
    for name in held_out(parts)[1:]:
        y, groups = parts[name].labels, parts[name].groups
        weights = group_draws(groups, seed=derive(config.seed, name))
        whole = np.ones((1, len(y)), np.float32)
        first, second = (
            [auroc_values(y, one[name], w) for w in (whole, weights)] for one in (scores, others)
        )
        values.append(first[0][0] - second[0][0])
        draws.append(first[1] - second[1])
    return summarized(float(np.mean(values)), np.mean(draws, axis=0), 0.95)


def threshold_at(negatives: np.ndarray, max_fpr: float) -> float:
    """The lowest score above which at most a share `max_fpr` of the negatives lies."""
    ranked = np.sort(negatives)[::-1]
    return float(ranked[int(max_fpr * len(ranked))])


def rates_at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """True-positive rate above a threshold, with the false-positive rate that it really has."""
    flagged = scores > threshold
    return {
        "tpr": float(flagged[labels == 1].mean()),
        "realized_fpr": float(flagged[labels == 0].mean()),
        "n_negative": int((labels == 0).sum()),
    }


def by_layer(parts: Mapping[str, StudySet], C: float) -> list[dict[str, Any]]:
    """AUROC on every held-out set of a probe of each layer, for every place it may read."""
    train, rows = parts["train"], []
    for place in PLACES:
        for layer in train.store.layers:
            probe = LinearProbe(C=C).fit(train.matrix(place, (layer,)), train.labels)
            for name in held_out(parts):
                part = parts[name]
                scores = probe.decision_function(part.matrix(place, (layer,)))
                found = auroc_value(part.labels, scores)
                rows.append({"place": place, "layer": layer, "set": name, "auroc": found})
    return rows


def matrix(parts: Mapping[str, StudySet], choice: Choice) -> dict[str, Any]:
    """AUROC of probes trained on each training or development set on every held-out set."""
    rows, columns = ["train", *(n for n in parts if n.endswith(" dev"))], held_out(parts)
    X = {name: choice.reading.matrix(parts[name]) for name in (*rows, *columns)}
    table = []
    for name in rows:
        probe = LinearProbe(C=choice.reading.C).fit(X[name], parts[name].labels)
        scores = [auroc_value(parts[c].labels, probe.decision_function(X[c])) for c in columns]
        table.append(scores)
    return {"rows": rows, "columns": columns, "auroc": table}


def few_shot(
    parts: Mapping[str, StudySet], choice: Choice, config: HighStakesConfig, *, n_repeats: int = 5
) -> list[dict[str, Any]]:
    """The synthetic pairs and k labelled examples of the domain, which count five times."""
    train, rows = parts["train"], []
    X = {name: choice.reading.matrix(part) for name, part in parts.items()}
    domains = [n.removesuffix(" dev") for n in parts if n.endswith(" dev")]
    for name in (n for n in domains if f"{n} test" in parts):
        dev, test = parts[f"{name} dev"], parts[f"{name} test"]
        rng = np.random.default_rng(derive(config.seed, f"few {name}"))
        for k in (k for k in SHOTS if k <= len(dev.records)):
            rates = []
            for _ in range(n_repeats if k else 1):
                sides = [rng.permutation(np.flatnonzero(dev.labels == side)) for side in (0, 1)]
                chosen = np.tile(np.concatenate([side[: k // 2] for side in sides]), 5).astype(int)
                both = np.concatenate([X["train"], X[f"{name} dev"][chosen]])
                y = np.concatenate([train.labels, dev.labels[chosen]])
                probe = LinearProbe(C=choice.reading.C).fit(both, y)
                rates.append(auroc_value(test.labels, probe.decision_function(X[f"{name} test"])))
            mean, sd = float(np.mean(rates)), float(np.std(rates))
            rows.append({"set": name, "k": k, "auroc": mean, "sd": sd})
    return rows


def calibration(
    parts: Mapping[str, StudySet], scores: Scores, *, n_bins: int = 5
) -> list[dict[str, Any]]:
    """Stated and true rates on each held-out set, with probabilities fitted on the dev sets."""
    dev = [name for name in parts if name.endswith(" dev")]
    labels = np.concatenate([parts[n].labels for n in dev])
    to_odds = calibrated(np.concatenate([scores[n] for n in dev]), labels)
    rows = []
    for name in held_out(parts):
        y, p = parts[name].labels, 1 / (1 + np.exp(-to_odds(scores[name])))
        bins = np.clip((p * n_bins).astype(int), 0, n_bins - 1)
        found = [bins == k for k in range(n_bins) if (bins == k).any()]
        rows.append(
            {
                "set": name,
                "brier": float(np.mean((p - y) ** 2)),
                "stated": [float(p[b].mean()) for b in found],
                "true": [float(y[b].mean()) for b in found],
                "n": [int(b.sum()) for b in found],
            }
        )
    return rows


def heatmap(parts: Mapping[str, StudySet], layer: int, C: float) -> dict[str, Sequence[Any]]:
    """What each token of a short test text contributes to the score of the mean probe."""
    train, part = parts["train"], parts["synthetic"]
    probe = LinearProbe(C=C).fit(train.tokens(layer).pool("mean"), train.labels)
    reader = SequenceProbe.from_pooled(probe, positions="all")
    tokens = part.tokens(layer)
    assert tokens.tokens is not None
    english = np.array([r.meta.get("language", "English") == "English" for r in part.records])
    away = np.abs(tokens.tokens.lengths - 40) + 1000 * ~(english & (part.labels == 1))
    example = tokens[int(away.argmin())]
    assert example.tokens is not None
    scores = reader.score_tokens(example)[0]
    return {"tokens": list(example.tokens.strings), "scores": scores[np.isfinite(scores)].tolist()}
