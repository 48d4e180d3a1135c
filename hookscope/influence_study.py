"""The influence study: which training examples change the law of what a model does.

Each part is written to a file of its own as soon as it is done, so that an interrupted study goes
on with the next: scores of digits, the toy, a linear regression, digits without random subsets and
without single examples, the rows of a probe, MNIST digits with wrong labels.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hookscope.influence_tasks import (
    IMAGE_TRAINING,
    PROBE_TRAINING,
    TOY_TRAINING,
    diabetes,
    digits,
    margin,
    mislabeled,
    mnist,
    probe_rows,
    toy,
)
from hookscope.study_folder import Part, run_parts
from interp import HookedModel
from interp.influence import (
    Agreement,
    Problem,
    Queries,
    Retrained,
    Scores,
    Training,
    brittleness,
    detect_mislabeled,
    distributional_influence,
    distributional_lds,
    gradient_similarity,
    influence_functions,
    leave_out,
    leave_out_correlation,
    prune,
    random_subsets,
    self_influence,
    solve_kronecker,
    tracin,
    train_ensemble,
    unrolled_forward,
    unrolled_reverse,
    without_each,
)
from interp.influence.distributions import law_change

METHODS = ("unrolled", "influence functions", "K-FAC", "TracIn", "gradient similarity")
"""What predicts on the digits."""


@dataclass(frozen=True, kw_only=True)
class InfluenceConfig:
    """How much of the study to run; the defaults run all of it."""

    n_train: int = 200
    """Training examples of the digits."""
    n_queries: int = 8
    """Digits at which models are measured."""
    n_steps: int = 400
    """Steps of training on images."""
    n_score_seeds: int = 16
    """Runs that give scores."""
    n_subsets: int = 40
    """Random subsets that are left out."""
    n_removed: int = 20
    """Examples in each of them."""
    n_truth_seeds: int = 48
    """Runs behind each true law."""
    n_points: int = 20
    """Examples that are left out one at a time, half of them by predicted change of variance."""
    n_mnist: int = 200
    """Training examples of MNIST, a tenth of them with wrong labels."""
    n_probe: int = 160
    """Texts that train the probe."""
    n_probe_seeds: int = 4096
    """Runs behind each true law of the probe's scores, whose spread changes little; a quarter as
    many give the predictions."""
    layer: int = 15
    """Layer of the model at which the probe reads."""
    seed: int = 0
    """Seed of splits, subsets and draws."""


QUICK = InfluenceConfig(
    n_queries=4,
    n_steps=200,
    n_score_seeds=8,
    n_subsets=8,
    n_truth_seeds=24,
    n_points=6,
    n_mnist=100,
    n_probe_seeds=64,
)
"""Minutes less: enough to see every part work, too little for the numbers."""


def run_influence_study(
    folder: str | Path,
    *,
    data: Path | None = None,
    model: HookedModel | None = None,
    config: InfluenceConfig | None = None,
    only: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run what is missing of the study and write `results.json` into the folder.

    Args:
        folder: Where scores and the results of each part are kept.
        data: The folder of the study data; without it the part on MNIST is left out.
        model: A language model; without it the part on a probe is left out.
        config: How much to run.
        only: Names of the parts to run; "digits" comes before the other parts on digits.
        progress: Show progress bars.

    Raises:
        ValueError: If the folder holds results of another configuration, or a part is unknown.
    """
    config, folder = config or InfluenceConfig(), Path(folder)
    parts: dict[str, Part] = {
        "digits": lambda: _digits(folder, config),
        "toy": lambda: _toy(config),
        "regression": lambda: _regression(config),
        "digits subsets": lambda: _digits_subsets(folder, config, progress),
        "digits one by one": lambda: _digits_points(folder, config, progress),
    }
    if model is not None:
        parts["probe"] = lambda: _probe(model, config, progress)
    if data is not None:
        parts["mnist"] = lambda: _mnist(data, config)
    return run_parts(folder, asdict(config), parts, only=only)


def _scores_path(folder: Path, method: str) -> Path:
    return folder / "scores" / f"{method}.safetensors"


def _digits_parts(config: InfluenceConfig) -> tuple[Problem, Training, Queries]:
    images = digits(config.n_train, seed=config.seed)
    training = replace(IMAGE_TRAINING, n_steps=config.n_steps)
    return images.problem, training, images.queries(slice(0, config.n_queries))


def _digits(folder: Path, config: InfluenceConfig) -> dict[str, Any]:
    """Speed, forward against reverse, and scores of every method, which are saved."""
    problem, training, queries = _digits_parts(config)
    start = time.process_time()
    n_runs = 256
    train_ensemble(problem, training, seeds=range(n_runs), trajectory="end")
    speed = 60 * n_runs / (time.process_time() - start)
    ensemble = train_ensemble(problem, training, seeds=range(1000, 1000 + config.n_score_seeds))
    predictions = (
        unrolled_reverse(ensemble, queries),
        influence_functions(ensemble, queries),
        influence_functions(ensemble, queries, solve=solve_kronecker),
        tracin(ensemble, queries),
        gradient_similarity(ensemble, queries),
    )
    found = dict(zip(METHODS, predictions, strict=True))
    for name, scores in found.items():
        scores.save(_scores_path(folder, name))
    direction = torch.zeros(1, problem.n_examples)
    direction[0, :10] = 1
    forward = unrolled_forward(ensemble, queries, direction)[:, :, 0]
    reverse = found["unrolled"].values[:, :, :10].sum(2)
    return {
        "n_parameters": problem.n_parameters,
        "runs_per_cpu_minute": speed,
        "forward_error": float(np.linalg.norm(forward - reverse) / np.linalg.norm(reverse)),
        "correlation_with_unrolled": {
            name: _correlation(scores.values, found["unrolled"].values)
            for name, scores in found.items()
            if name != "unrolled"
        },
    }


def _digits_subsets(folder: Path, config: InfluenceConfig, progress: bool) -> dict[str, Any]:
    """Distributional LDS of every method, and of one seed."""
    problem, training, queries = _digits_parts(config)
    removed = random_subsets(
        config.n_subsets, config.n_removed, problem.n_examples, seed=config.seed
    )
    truth = leave_out(
        problem, training, queries, removed, seeds=range(config.n_truth_seeds), progress=progress
    )
    scores = {name: Scores.load(_scores_path(folder, name)) for name in METHODS}
    rows = [row for name, s in scores.items() for row in _rows(name, distributional_lds(truth, s))]
    return {"lds": rows, "laws": _laws(truth, scores["unrolled"])}


def _laws(truth: Retrained, scores: Scores) -> dict[str, Any]:
    """True and predicted law for the subset and query with the largest true W2."""
    subset, query = np.unravel_index(truth.change("W2").argmax(), truth.change("W2").shape)
    after = scores.predict(truth.removed)[subset, :, query]
    return {
        "subset": int(subset),
        "query": int(query),
        "all examples": truth.before[:, query].tolist(),
        "retrained": truth.after[subset, :, query].tolist(),
        "predicted": after.tolist(),
    }


def _digits_points(folder: Path, config: InfluenceConfig, progress: bool) -> dict[str, Any]:
    """Leave-one-out of examples with the largest predicted change of variance, and others."""
    problem, training, queries = _digits_parts(config)
    scores = Scores.load(_scores_path(folder, "unrolled"))
    points = _points(scores, config.n_points, config.seed)
    removed = without_each(points, problem.n_examples)
    truth = leave_out(
        problem, training, queries, removed, seeds=range(config.n_truth_seeds), progress=progress
    )
    return {"correlation": _rows("unrolled", leave_out_correlation(truth, scores))}


def _points(scores: Scores, n: int, seed: int) -> np.ndarray:
    """Half with the largest predicted relative change of variance, half random others."""
    after = scores.predict(without_each(range(scores.n_examples), scores.n_examples))
    change = law_change("variance", scores.measured, after) / scores.measured.var(0, ddof=1)
    order = np.argsort(-np.abs(change).mean(1))
    others = np.random.default_rng(seed).permutation(order[n // 2 :])
    return np.concatenate([order[: n // 2], others[: n - n // 2]])


def _regression(config: InfluenceConfig) -> dict[str, Any]:
    """Linear regression: unrolled differentiation tends to influence functions."""
    problem, queries = diabetes()
    found = {}
    for n_steps in (5, 50, 5 * config.n_steps):
        training = Training(n_steps=n_steps, batch_size=None, lr=0.2)
        ensemble = train_ensemble(problem, training, seeds=[0])
        limit = influence_functions(ensemble, queries, damping=1e-9)
        found[str(n_steps)] = _correlation(unrolled_reverse(ensemble, queries).values, limit.values)
    return {"correlation_by_steps": found}


def _toy(config: InfluenceConfig) -> dict[str, Any]:
    """Every example left out: true and predicted changes of mean, variance and W2."""
    problem, queries = toy(n_seeds=config.n_truth_seeds, seed=config.seed)
    removed = without_each(range(problem.n_examples), problem.n_examples)
    truth = leave_out(problem, TOY_TRAINING, queries, removed, seeds=range(config.n_truth_seeds))
    ensemble = train_ensemble(
        problem, TOY_TRAINING, seeds=range(1000, 1000 + 2 * config.n_score_seeds)
    )
    scores = unrolled_reverse(ensemble, queries, chunk=64)
    found: dict[str, Any] = {"x": problem.inputs[:, 0].tolist()}
    for name, before, after in (
        ("true", truth.before, truth.after),
        ("predicted", scores.measured, scores.predict(removed)),
    ):
        changes = distributional_influence(before, after)
        found[name] = {
            "variance_before": float(before.var(ddof=1)),
            **{
                change: {
                    part: getattr(changes, part)[changes.names.index(change), :, 0].tolist()
                    for part in ("value", "low", "high")
                }
                for change in ("mean", "variance", "W2")
            },
        }
    return found


def _mnist(data: Path, config: InfluenceConfig) -> dict[str, Any]:
    """Wrong labels found, harmful examples pruned, queries lost."""
    n = config.n_mnist
    images = mislabeled(mnist(data, n, seed=config.seed), n // 10)
    problem, wrong = images.problem, np.arange(n) < n // 10
    training = replace(IMAGE_TRAINING, n_steps=config.n_steps)
    ensemble = train_ensemble(problem, training, seeds=range(8), trajectory="end")
    own = Queries(inputs=problem.inputs, targets=problem.targets, measure=problem.loss)
    kfac = {"solve": solve_kronecker, "damping": 0.01}
    influence = self_influence(influence_functions(ensemble, own, **kfac))
    loss = ensemble.measure(own).mean(0).numpy()
    shuffled = np.random.default_rng(config.seed).permutation(influence)
    found = {"self-influence": influence, "loss": loss, "shuffled self-influence": shuffled}
    chosen, held = images.queries(slice(0, 200)), images.queries(slice(200, 700))
    few = images.queries(slice(700, 700 + config.n_queries), margin)
    pruned = prune(
        problem,
        training,
        held,
        influence_functions(ensemble, chosen, **kfac),
        counts=(n // 20, n // 10),
        seeds=range(8),
    )
    lost = brittleness(
        problem,
        training,
        few,
        influence_functions(ensemble, few, **kfac),
        counts=(n // 15, n // 6),
        seeds=range(8),
    )
    return {
        "mislabeled": {name: asdict(detect_mislabeled(v, wrong)) for name, v in found.items()},
        "pruning": pruned.to_frame().to_dict("records"),
        "brittleness": lost.to_frame().to_dict("records"),
        "loss_with_all": float(ensemble.measure(held).mean()),
    }


def _probe(model: HookedModel, config: InfluenceConfig, progress: bool) -> dict[str, Any]:
    """Which rows of a probe change the spread of its scores, checked by retraining."""
    problem, queries, records = probe_rows(
        model, config.layer, config.n_probe, config.n_queries, seed=config.seed
    )
    ensemble = train_ensemble(
        problem, PROBE_TRAINING, seeds=range(10_000, 10_000 + config.n_probe_seeds // 4)
    )
    scores = unrolled_reverse(ensemble, queries, chunk=32)
    seeds = range(config.n_probe_seeds)
    n = problem.n_examples
    subsets = leave_out(
        problem,
        PROBE_TRAINING,
        queries,
        random_subsets(config.n_subsets, n // 10, n, seed=config.seed),
        seeds=seeds,
        progress=progress,
    )
    points = _points(scores, config.n_points, config.seed)
    truth = leave_out(
        problem, PROBE_TRAINING, queries, without_each(points, n), seeds=seeds, progress=progress
    )
    relative = truth.change("variance") / truth.before.var(0, ddof=1)
    size = np.abs(relative).mean(1)
    half = len(points) // 2
    right = (ensemble.measure(queries) > 0).float() == queries.targets
    return {
        "lds": _rows("unrolled", distributional_lds(subsets, scores)),
        "leave_one_out": _rows("unrolled", leave_out_correlation(truth, scores)),
        "accuracy": float(right.float().mean()),
        "variance": truth.before.var(0, ddof=1).tolist(),
        "rows": [
            {"text": records[int(p)].content, "relative_variance_change": r.tolist()}
            for p, r in zip(points, relative, strict=True)
        ],
        "size_of_chosen_rows": float(size[:half].mean()),
        "size_of_random_rows": float(size[half:].mean()),
    }


def _rows(method: str, agreement: Agreement) -> list[dict[str, Any]]:
    frame: pd.DataFrame = agreement.to_frame().assign(method=method)
    return frame.to_dict("records")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
