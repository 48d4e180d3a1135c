"""The high-stakes study: fitted to synthetic pairs, chosen on development sets, tested elsewhere.

Everything that costs time is a store in a folder and is resumed: an interrupted study goes on, and
one with other choices uses the activations that are there. The result is a dictionary of plain
numbers (`results.json`), from which the notebook draws. Test sets decide nothing.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from interp import Activations, ActivationStore, HookedModel, Records, extract_to_disk
from interp.core.files import write_atomically
from interp.core.seeds import derive
from probes.base import encoded_groups
from probes.cascade import Stage, budget_curve, calibrated, forward_flops, probe_flops
from probes.evaluation import (
    Estimate,
    auroc,
    auroc_value,
    auroc_values,
    bootstrap,
    group_draws,
    summarized,
)
from probes.folds import group_folds
from probes.high_stakes import HighStakes, shortened
from probes.linear import LinearProbe
from probes.pooling import Attention, Last, Max, Mean, Pooling, RollingMean, Softmax
from probes.prompted import STAKES_PROMPTS, asked_tokens, prompted_scores
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining
from probes.sweeps import cross_scores
from probes.text import length_matched_auroc, log_lengths, word_classifier

POOLINGS: Mapping[str, Pooling] = {
    "mean": Mean(),
    "softmax": Softmax(temperature=5.0),
    "attention": Attention(),
    "rolling mean": RollingMean(window=20),
    "max": Max(),
    "last": Last(),
}
"""Rules of the sequence probes that are compared at the chosen layer."""


@dataclass(frozen=True, kw_only=True)
class HighStakesConfig:
    """How much of the study to run; the defaults run all of it."""

    layers: tuple[int, ...] = (6, 9, 12, 15, 18)
    """Layers of which every token is kept."""
    max_tokens: int = 512
    """Longer texts lose their middle."""
    n_synthetic: int | None = None
    """Examples of the synthetic test split, half of each class; `None` for all."""
    n_dev: int | None = None
    """Examples of each development set."""
    n_test: int | None = None
    """Examples of each test set."""
    n_prompted: int = 128
    """Examples of each test set that the prompted model sees, and half as many for choices."""
    prompts: tuple[str, ...] = tuple(STAKES_PROMPTS)
    """Names of the prompts among which the development sets choose."""
    max_chars: int = 2000
    """Longer texts lose their middle in a prompt."""
    seed: int = 0
    """Seed of folds and draws; the samples do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class _Set:
    """One set with its activations."""

    records: Records
    tokens: Activations

    @property
    def labels(self) -> np.ndarray:
        return self.records.labels

    @property
    def groups(self) -> np.ndarray:
        return encoded_groups(self.records.groups, len(self.records))

    @property
    def texts(self) -> list[str]:
        return [record.content for record in self.records]


def run_high_stakes_study(
    model: HookedModel,
    sets: HighStakes,
    folder: str | Path,
    *,
    config: HighStakesConfig | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run the study, or what is missing of it, and write `results.json` into the folder.

    Args:
        model: A language model.
        sets: The sets, from `load_high_stakes`.
        folder: Stores of activations, answers of the prompted model, and the result.
        config: How much to run.
        progress: Show progress bars.

    Raises:
        ModelMismatchError: If the folder holds activations of another model or other texts.
    """
    config, folder = config or HighStakesConfig(), Path(folder)
    parts = _extracted(model, sampled_sets(sets, config), folder, config, progress)
    choice = _choose(parts, config)
    scores = {name: choice["score"](part) for name, part in parts.items()}
    result = {
        "model": model.name,
        "config": asdict(config),
        "sizes": {name: len(part.records) for name, part in parts.items()},
        "removed": dict(sets.n_removed),
        "choice": choice["table"],
        "chosen": choice["name"],
        "layer": choice["layer"],
        **_against_text(parts, scores, config),
        "matrix": _matrix(parts, choice["layer"]),
        "few_shot": _few_shot(parts, choice["layer"], config),
        "heatmap": _heatmap(parts, choice["layer"], config),
    }
    prompted = _prompted(model, parts, folder, config)
    result |= _cascades(model, parts, scores, prompted, config)
    result["cost"] = _costs(model, parts, choice["layer"], prompted)
    _write(folder, result)  # the sequence probes take longest
    result["pooling"] = _poolings(parts, choice["layer"], config)
    _write(folder, result)
    return result


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    write_atomically(folder / "results.json", json.dumps(result, indent=1).encode())


def sampled_sets(sets: HighStakes, config: HighStakesConfig) -> dict[str, Records]:
    """The sets of the study by name: `train`, `synthetic`, `<name> dev`, `<name> test`."""
    found = {"train": sets.train, "synthetic": sample(sets.synthetic, config.n_synthetic)}
    found |= {f"{name} dev": sample(records, config.n_dev) for name, records in sets.dev.items()}
    return found | {f"{n} test": sample(records, config.n_test) for n, records in sets.test.items()}


def sample(records: Records, n: int | None, *, seed: int = 0) -> Records:
    """At most `n` records, half of each class, in their order."""
    if n is None or len(records) <= n:
        return records
    order = np.random.default_rng(derive(seed, "sample")).permutation(len(records))
    halves = [order[records.labels[order] == side][: n // 2] for side in (0, 1)]
    return records[np.sort(np.concatenate(halves))]


def _extracted(
    model: HookedModel,
    records: Mapping[str, Records],
    folder: Path,
    config: HighStakesConfig,
    progress: bool,
) -> dict[str, _Set]:
    found = {}
    for name, part in records.items():
        tokens = shortened(model.tokenize(part), config.max_tokens)
        store: ActivationStore = extract_to_disk(
            model,
            tokens,
            folder / "tokens" / name,
            layers=config.layers,
            positions="content",
            dtype=torch.bfloat16,
            progress=progress,
        )
        found[name] = _Set(records=part, tokens=store.read(config.layers))
    return found


def features(tokens: Activations, layers: tuple[int, ...], *, unit: bool = False) -> np.ndarray:
    """Mean over the tokens of each example, layers side by side, shape (example, feature).

    Args:
        tokens: Token-level activations.
        layers: Which layers.
        unit: Scale each token's activation to length 1 before the mean.
    """
    assert tokens.tokens is not None, "features are means over tokens"
    lengths = tokens.tokens.lengths.tolist()
    values = tokens.at(layers).values.float()
    if unit:
        values = values / values.norm(dim=-1, keepdim=True) * values.shape[-1] ** 0.5
    return torch.stack([part.mean(0).flatten() for part in values.split(lengths)]).numpy()


def _choose(parts: Mapping[str, _Set], config: HighStakesConfig) -> dict[str, Any]:
    """The probe with the highest mean AUROC over the development sets."""
    train, dev = parts["train"], [n for n in parts if n.endswith(" dev")]
    folds = group_folds(train.labels, train.groups, seed=config.seed)
    table, probes = [], {}
    spaces = [(layer,) for layer in config.layers] + [config.layers] * (len(config.layers) > 1)
    for layers in spaces:
        for unit in (False, True):
            X = {n: features(parts[n].tokens, layers, unit=unit) for n in ("train", *dev)}
            for C in (1e-4, 1e-3, 1e-2, 1e-1):
                probe = LinearProbe(C=C, random_state=config.seed)
                cross = auroc_value(
                    train.labels, cross_scores(probe, X["train"], train.labels, folds)
                )
                probe.fit(X["train"], train.labels)
                rates = {
                    n: auroc_value(parts[n].labels, probe.decision_function(X[n])) for n in dev
                }
                row = {"layers": layers, "unit": unit, "C": C, "cross_validated": cross, **rates}
                row["dev_mean"] = float(np.mean(list(rates.values())))
                table.append(row)
                probes[len(table) - 1] = probe
    best = max(range(len(table)), key=lambda k: table[k]["dev_mean"])
    row, probe = table[best], probes[best]

    def score(part: _Set) -> np.ndarray:
        return probe.decision_function(features(part.tokens, row["layers"], unit=row["unit"]))

    single = max((r for r in table if len(r["layers"]) == 1), key=lambda r: r["dev_mean"])
    return {"table": table, "name": row, "score": score, "layer": single["layers"][0]}


def _poolings(
    parts: Mapping[str, _Set], layer: int, config: HighStakesConfig
) -> list[dict[str, Any]]:
    """Sequence probes of one layer by pooling, on the held-out sets."""
    train, rows = parts["train"], []
    training = SequenceTraining(learning_rate=5e-3, weight_decay=0.1, n_epochs=40, patience=10)
    for name, pooling in POOLINGS.items():
        probe = SequenceProbe(pooling, training=training, positions="all", random_state=config.seed)
        probe.fit(_at(train, layer), train.labels, train.groups)
        for held in _held_out(parts):
            scores = probe.decision_function(_at(parts[held], layer))
            rows.append({"pooling": name, "set": held, **_rate(parts[held], scores, config)})
    return rows


def _at(part: _Set, layer: int) -> Activations:
    chosen = part.tokens.at(layer)
    values = {chosen.site: chosen.values.float()}
    return Activations(
        tensors=values, layers=chosen.layers, tokens=chosen.tokens, origin=chosen.origin
    )


def _held_out(parts: Mapping[str, _Set]) -> list[str]:
    return ["synthetic", *(name for name in parts if name.endswith(" test"))]


def _rate(part: _Set, scores: np.ndarray, config: HighStakesConfig) -> dict[str, float]:
    return asdict(auroc(part.labels, scores, groups=part.groups, seed=config.seed))


def _floors(train: _Set, parts: Mapping[str, _Set]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of baselines that see the text only, fitted to the training texts."""
    svm = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 3), max_features=20_000, sublinear_tf=True), LinearSVC()
    )
    single = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000))
    makers = {"words (1-2)": word_classifier(), "words (1)": single, "words (1-3), SVM": svm}
    found = {}
    for name, maker in makers.items():
        fit = maker.fit(train.texts, train.labels)
        found[name] = {n: fit.decision_function(part.texts) for n, part in parts.items()}
    size = LogisticRegression().fit(log_lengths(train.texts)[:, None], train.labels)
    found["length"] = {
        n: size.decision_function(log_lengths(part.texts)[:, None]) for n, part in parts.items()
    }
    return found


def _against_text(
    parts: Mapping[str, _Set], scores: Mapping[str, np.ndarray], config: HighStakesConfig
) -> dict[str, Any]:
    """The chosen probe on each held-out set, beside the text, among equal lengths, at 1 % FPR."""
    held = _held_out(parts)
    floors = _floors(parts["train"], {name: parts[name] for name in held})
    tests = [name for name in held if name != "synthetic"]
    gains = {
        floor: asdict(_mean_gain(parts, tests, scores, values, config))
        for floor, values in floors.items()
    }
    dev = [name for name in parts if name.endswith(" dev")]
    benign = np.concatenate([scores[n][parts[n].labels == 0] for n in dev])
    threshold = threshold_at(benign, 0.01)
    rows = []
    for name in held:
        part, y = parts[name], parts[name].labels
        matched = length_matched_auroc(log_lengths(part.texts))
        own = threshold_at(scores[name][y == 0], 0.01)
        row = {"set": name, **_rate(part, scores[name], config)}
        row["length_matched"] = asdict(
            bootstrap(matched, y, scores[name], groups=part.groups, seed=config.seed)
        )
        row["floors"] = {f: _rate(part, values[name], config) for f, values in floors.items()}
        row["at_one_percent"] = _rates_at(y, scores[name], own)
        row["at_dev_threshold"] = _rates_at(y, scores[name], threshold)
        rows.append(row)
    best = min(gains, key=lambda floor: gains[floor]["value"])
    return {"sets": rows, "gains": gains, "best_floor": best, "gain": gains[best]}


def _mean_gain(
    parts: Mapping[str, _Set],
    names: list[str],
    scores: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    config: HighStakesConfig,
) -> Estimate:
    """Mean over sets of the AUROC minus that of another score, all sets drawn anew in each draw."""
    values, draws = [], []
    for name in names:
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


def _rates_at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    flagged = scores > threshold
    return {
        "tpr": float(flagged[labels == 1].mean()),
        "realized_fpr": float(flagged[labels == 0].mean()),
        "n_negative": int((labels == 0).sum()),
    }


def _matrix(parts: Mapping[str, _Set], layer: int) -> dict[str, Any]:
    """AUROC of probes trained on each training or development set on every held-out set."""
    rows = ["train", *(name for name in parts if name.endswith(" dev"))]
    held = _held_out(parts)
    X = {name: features(parts[name].tokens, (layer,)) for name in [*rows, *held]}
    table = []
    for name in rows:
        probe = LinearProbe(C=1e-3).fit(X[name], parts[name].labels)
        table.append([auroc_value(parts[h].labels, probe.decision_function(X[h])) for h in held])
    return {"rows": rows, "columns": held, "auroc": table}


def _few_shot(
    parts: Mapping[str, _Set], layer: int, config: HighStakesConfig, n_repeats: int = 5
) -> list[dict[str, Any]]:
    """The synthetic pairs and k labelled examples of the domain, which count five times."""
    train, rows = parts["train"], []
    X = {name: features(part.tokens, (layer,)) for name, part in parts.items()}
    for name in (n.removesuffix(" dev") for n in parts if n.endswith(" dev")):
        dev, test = parts[f"{name} dev"], parts[f"{name} test"]
        rng = np.random.default_rng(derive(config.seed, f"few {name}"))
        for k in (0, 2, 4, 8, 16, 32, 64, 128, 256):
            if k > len(dev.records):
                break
            rates = []
            for _ in range(n_repeats if k else 1):
                sides = [rng.permutation(np.flatnonzero(dev.labels == side)) for side in (0, 1)]
                chosen = np.tile(np.concatenate([side[: k // 2] for side in sides]), 5).astype(int)
                both = np.concatenate([X["train"], X[f"{name} dev"][chosen]])
                y = np.concatenate([train.labels, dev.labels[chosen]])
                probe = LinearProbe(C=1e-3).fit(both, y)
                rates.append(auroc_value(test.labels, probe.decision_function(X[f"{name} test"])))
            rows.append(
                {"set": name, "k": k, "auroc": float(np.mean(rates)), "sd": float(np.std(rates))}
            )
    return rows


def _heatmap(parts: Mapping[str, _Set], layer: int, config: HighStakesConfig) -> dict[str, Any]:
    """What each token of a short test text contributes to the score of the mean probe."""
    train, part = parts["train"], parts["synthetic"]
    probe = LinearProbe(C=1e-3).fit(_at(train, layer).pool("mean"), train.labels)
    reader = SequenceProbe.from_pooled(probe, positions="all")
    assert part.tokens.tokens is not None
    english = np.array([r.meta.get("language", "English") == "English" for r in part.records])
    away = np.abs(part.tokens.tokens.lengths - 40) + 1000 * ~(english & (part.labels == 1))
    example = _at(part, layer)[int(away.argmin())]
    assert example.tokens is not None
    scores = reader.score_tokens(example)[0]
    return {"tokens": list(example.tokens.strings), "scores": scores[np.isfinite(scores)].tolist()}


def _prompted(
    model: HookedModel, parts: Mapping[str, _Set], folder: Path, config: HighStakesConfig
) -> dict[str, Any]:
    """Answers of the prompted model: the prompt that is best on the development sets."""
    path = folder / "prompted.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def asked(name: str, n: int, prompt: str) -> dict[str, Any]:
        key = f"{name}|{prompt}"
        if key not in known:
            records = sample(parts[name].records, n)
            started = time.perf_counter()
            scores = prompted_scores(
                model, records, STAKES_PROMPTS[prompt], max_chars=config.max_chars
            )
            seconds = time.perf_counter() - started
            lengths = asked_tokens(
                model, records, STAKES_PROMPTS[prompt], max_chars=config.max_chars
            ).lengths
            known[key] = {
                "scores": scores.tolist(),
                "labels": records.labels.tolist(),
                "tokens": lengths.tolist(),
                "seconds": seconds,
            }
            write_atomically(path, json.dumps(known).encode())
        return known[key]

    dev = [name for name in parts if name.endswith(" dev")]
    tests = [name for name in parts if name.endswith(" test")]
    rates = {
        prompt: float(
            np.mean([_answer_auroc(asked(name, config.n_prompted // 2, prompt)) for name in dev])
        )
        for prompt in config.prompts
    }
    best = max(rates, key=lambda prompt: rates[prompt])
    return {
        "prompt": best,
        "dev_mean": rates,
        "dev": {name: asked(name, config.n_prompted // 2, best) for name in dev},
        "test": {name: asked(name, config.n_prompted, best) for name in tests},
    }


def _answer_auroc(answers: Mapping[str, Any]) -> float:
    return auroc_value(np.array(answers["labels"]), np.array(answers["scores"]))


def _cascades(
    model: HookedModel,
    parts: Mapping[str, _Set],
    scores: Mapping[str, np.ndarray],
    prompted: Mapping[str, Any],
    config: HighStakesConfig,
) -> dict[str, Any]:
    """The probe, then the prompted model: budget curve over all test sets, bands from dev."""
    groups = {}
    for side in ("dev", "test"):
        first, second, y, tokens, lengths = [], [], [], [], []
        for name, answers in prompted[side].items():
            part, n = parts[name], len(answers["labels"])
            chosen = _rows_of(part.records, sample(part.records, n))
            assert part.tokens.tokens is not None
            first.append(scores[name][chosen])
            second.append(answers["scores"])
            y.append(answers["labels"])
            tokens.append(answers["tokens"])
            lengths.append(part.tokens.tokens.lengths[chosen])
        groups[side] = [
            np.concatenate(c).astype(float) for c in (first, second, y, tokens, lengths)
        ]
    dev, test = groups["dev"], groups["test"]
    to_odds = [calibrated(dev[k], dev[2]) for k in (0, 1)]
    first, second = (to_odds[k](test[k]) for k in (0, 1))
    shape = {"n_layers": model.n_layers, "d_model": model.d_model or 0}
    costs = forward_flops(test[3], n_parameters=n_multiplied(model), **shape)
    curve = budget_curve(
        Stage(name="probe", scores=first, flops=2 * probe_flops(test[4], d_model=shape["d_model"])),
        Stage(name="prompted model", scores=second, flops=costs),
        test[2].astype(int),
        calibration=(to_odds[0](dev[0]), to_odds[1](dev[1]), dev[2].astype(int)),
        seed=config.seed,
    )
    rates = {
        name: asdict(auroc(np.array(a["labels"]), np.array(a["scores"]), seed=config.seed))
        for name, a in prompted["test"].items()
    }
    return {
        "prompted": {"prompt": prompted["prompt"], "dev_mean": prompted["dev_mean"], "sets": rates},
        "cascade": curve.to_frame().to_dict("records"),
        "calibration": _calibration(parts, scores),
    }


def _rows_of(records: Records, chosen: Records) -> np.ndarray:
    index = {id(record): k for k, record in enumerate(records)}
    return np.array([index[id(record)] for record in chosen])


def _calibration(
    parts: Mapping[str, _Set], scores: Mapping[str, np.ndarray], n_bins: int = 5
) -> list[dict[str, Any]]:
    """Stated and true rates on each held-out set, with probabilities fitted on the dev sets."""
    dev = [name for name in parts if name.endswith(" dev")]
    labels = np.concatenate([parts[n].labels for n in dev])
    to_odds = calibrated(np.concatenate([scores[n] for n in dev]), labels)
    rows = []
    for name in _held_out(parts):
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


def n_multiplied(model: HookedModel) -> float:
    """Parameters that take part in products for each token: all but an untied input embedding."""
    module: Any = model.module
    n = sum(p.numel() for p in module.parameters())
    tied = module.get_input_embeddings().weight is module.get_output_embeddings().weight
    return float(n if tied else n - module.get_input_embeddings().weight.numel())


def _costs(
    model: HookedModel, parts: Mapping[str, _Set], layer: int, prompted: Mapping[str, Any]
) -> dict[str, float]:
    """Operations counted, and seconds for a million tokens measured."""
    tokens = _at(parts["synthetic"], layer)
    n, d = len(tokens.values), model.d_model or 0
    weights = torch.randn(d, generator=torch.Generator().manual_seed(0))
    started, n_rounds = time.perf_counter(), 20
    for _ in range(n_rounds):
        _ = tokens.matrix @ weights
    probe_seconds = (time.perf_counter() - started) / (n_rounds * n) * 1e6
    answers = list(prompted["test"].values())
    asked = sum(a["seconds"] for a in answers) / sum(sum(a["tokens"]) for a in answers) * 1e6
    return {
        "probe_flops_per_token": float(2 * probe_flops(1, d_model=d)[0]),
        "prompted_flops_per_token": float(forward_flops(1, n_parameters=n_multiplied(model))[0]),
        "paper_probe_flops_per_token": float(2 * probe_flops(1, d_model=8192, has_queries=True)[0]),
        "paper_monitor_flops_per_token": float(forward_flops(1, n_parameters=70e9)[0]),
        "probe_seconds_per_million_tokens": probe_seconds,
        "prompted_seconds_per_million_tokens": asked,
    }
