"""The probe as a first stage: the prompted model behind it, and what either costs."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hookscope.high_stakes.sets import HighStakesConfig, StudySet, sample
from hookscope.high_stakes.tables import Scores
from interp import HookedModel, Records
from interp.core.files import write_atomically
from probes.cascade import Stage, budget_curve, calibrated, forward_flops, probe_flops
from probes.evaluation import auroc, auroc_value
from probes.prompted import STAKES_PROMPTS, asked_tokens, prompted_scores

Answers = Mapping[str, Any]
"""Scores, labels and tokens of the texts of a set, and the seconds that asking took."""


def prompted(
    model: HookedModel, parts: Mapping[str, StudySet], folder: Path, config: HighStakesConfig
) -> dict[str, Any]:
    """Answers of the prompted model: the prompt that is best on the development sets."""
    path = folder / "prompted.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def answers(name: str, n: int, prompt: str) -> Answers:
        key = f"{name}|{prompt}"
        if key not in known:
            known[key] = _ask(model, sample(parts[name].records, n), prompt, config)
            write_atomically(path, json.dumps(known).encode())
        return known[key]

    dev = [name for name in parts if name.endswith(" dev")]
    n_dev, rates = config.n_prompted // 2, {}
    for prompt in STAKES_PROMPTS:
        told = [answers(name, n_dev, prompt) for name in dev]
        rates[prompt] = float(
            np.mean([auroc_value(np.array(a["labels"]), np.array(a["scores"])) for a in told])
        )
    best = max(rates, key=lambda prompt: rates[prompt])
    tests = [name for name in parts if name.endswith(" test")]
    return {
        "prompt": best,
        "dev_mean": rates,
        "dev": {name: answers(name, n_dev, best) for name in dev},
        "test": {name: answers(name, config.n_prompted, best) for name in tests},
    }


def _ask(
    model: HookedModel, records: Records, prompt: str, config: HighStakesConfig
) -> dict[str, Any]:
    question, started = STAKES_PROMPTS[prompt], time.perf_counter()
    scores = prompted_scores(model, records, question, max_chars=config.max_chars)
    seconds = time.perf_counter() - started
    lengths = asked_tokens(model, records, question, max_chars=config.max_chars).lengths
    return {
        "scores": scores.tolist(),
        "labels": records.labels.tolist(),
        "tokens": lengths.tolist(),
        "seconds": seconds,
    }


def cascades(
    model: HookedModel,
    parts: Mapping[str, StudySet],
    scores: Scores,
    answers: Mapping[str, Any],
    config: HighStakesConfig,
) -> dict[str, Any]:
    """The probe, then the prompted model: budget curve over all test sets, bands from dev."""
    dev, test = (_both(parts, scores, answers[side]) for side in ("dev", "test"))
    to_odds = [calibrated(dev[key], dev["labels"]) for key in ("probe", "prompted")]
    shape = {"n_layers": model.n_layers, "d_model": model.d_model or 0}
    curve = budget_curve(
        Stage(
            name="probe",
            scores=to_odds[0](test["probe"]),
            flops=2 * probe_flops(test["text_tokens"], d_model=shape["d_model"]),
        ),
        Stage(
            name="prompted model",
            scores=to_odds[1](test["prompted"]),
            flops=forward_flops(test["tokens"], n_parameters=n_multiplied(model), **shape),
        ),
        test["labels"].astype(int),
        calibration=(
            to_odds[0](dev["probe"]),
            to_odds[1](dev["prompted"]),
            dev["labels"].astype(int),
        ),
        seed=config.seed,
    )
    rates = {
        name: asdict(auroc(np.array(a["labels"]), np.array(a["scores"]), seed=config.seed))
        for name, a in answers["test"].items()
    }
    return {
        "prompted": {"prompt": answers["prompt"], "dev_mean": answers["dev_mean"], "sets": rates},
        "cascade": curve.to_frame().to_dict("records"),
    }


def _both(
    parts: Mapping[str, StudySet], scores: Scores, answers: Mapping[str, Answers]
) -> dict[str, np.ndarray]:
    """Scores of both stages on the texts that were asked about, over all sets."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("probe", "prompted", "labels", "tokens", "text_tokens")
    }
    for name, told in answers.items():
        part, n = parts[name], len(told["labels"])
        index = {id(record): k for k, record in enumerate(part.records)}
        chosen = np.array([index[id(record)] for record in sample(part.records, n)])
        columns["probe"].append(scores[name][chosen])
        columns["prompted"].append(told["scores"])
        columns["labels"].append(told["labels"])
        columns["tokens"].append(told["tokens"])
        columns["text_tokens"].append(part.n_tokens[chosen])
    return {key: np.concatenate(values).astype(float) for key, values in columns.items()}


def n_multiplied(model: HookedModel) -> float:
    """Parameters that take part in products for each token: all but an untied input embedding."""
    module: Any = model.module
    n = sum(p.numel() for p in module.parameters())
    tied = module.get_input_embeddings().weight is module.get_output_embeddings().weight
    return float(n if tied else n - module.get_input_embeddings().weight.numel())


def costs(
    model: HookedModel, answers: Mapping[str, Any], *, n_rounds: int = 20
) -> dict[str, float]:
    """Operations counted, and seconds for a million tokens measured.

    The activations are there already when the probe reads them, as in the paper's count.
    """
    n, d = 50_000, model.d_model or 0
    generator = torch.Generator().manual_seed(0)
    tokens, weights = (torch.randn(*shape, generator=generator) for shape in ((n, d), (d,)))
    started = time.perf_counter()
    for _ in range(n_rounds):
        _ = tokens @ weights
    probe_seconds = (time.perf_counter() - started) / (n_rounds * n) * 1e6
    told = list(answers["test"].values())
    asked = sum(a["seconds"] for a in told) / sum(sum(a["tokens"]) for a in told) * 1e6
    return {
        "probe_flops_per_token": float(2 * probe_flops(1, d_model=d)[0]),
        "prompted_flops_per_token": float(forward_flops(1, n_parameters=n_multiplied(model))[0]),
        "paper_probe_flops_per_token": float(2 * probe_flops(1, d_model=8192, has_queries=True)[0]),
        "paper_monitor_flops_per_token": float(forward_flops(1, n_parameters=70e9)[0]),
        "probe_seconds_per_million_tokens": probe_seconds,
        "prompted_seconds_per_million_tokens": asked,
    }
