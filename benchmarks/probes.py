"""Speed of probes: layer sweeps against a loop of scikit-learn, scoring, and reading along.

Each line ends with the measured number and the floor it has to keep. `--quick` takes smaller sizes.
"""

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import arguments, report

sys.path.pop(0)  # this folder, in which this very file would hide the package of its name

from interp import Activations, Records, extract, generate, load_model
from interp.data import load_fixture
from probes import Attention, LinearProbe, Mean, ProbeMonitor, SequenceProbe, cross_scores
from probes.evaluation import auroc_value
from probes.folds import group_folds
from probes.linear import C_GRID
from probes.sequence_fitting import SequenceTraining

D_MODEL = 576


def synthetic(n_layers: int, n: int) -> Activations:
    """Correlated activations with outlying dimensions and a direction in half of the layers."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    spectrum = np.arange(1, D_MODEL + 1) ** -0.6
    mix = rng.normal(size=(D_MODEL, D_MODEL)) * spectrum[:, None]
    layers = []
    for layer in range(n_layers):
        X = rng.normal(size=(n, D_MODEL)) @ mix
        X += 0.04 * layer / n_layers * np.outer(labels, mix.sum(0))
        X[:, 7] = 100 * X[:, 7] + 500
        layers.append(X.astype(np.float32))
    return Activations(
        tensors={"resid_post": torch.from_numpy(np.stack(layers, axis=1))},
        layers=tuple(range(n_layers)),
        labels=labels,
        groups=np.array([f"g{i // 2}" for i in range(n)]),
        pooling="mean",
    )


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call, which other processes disturb less than wall time."""
    start = time.process_time()
    call()
    return time.process_time() - start


def sweep(activations: Activations, probe: object) -> tuple[float, np.ndarray]:
    """CPU seconds and AUROC of each layer."""
    y = activations.labels
    folds, rates = group_folds(y, activations.groups), []

    def run() -> None:
        for layer in activations.layers:
            rates.append(auroc_value(y, cross_scores(probe, activations.at(layer), y, folds)))

    return seconds(run), np.array(rates)


def sweeps(quick: bool) -> dict[str, float]:
    """Layers times five folds on 1,000 examples, with the strength given and chosen."""
    activations = synthetic(4 if quick else 31, 300 if quick else 1000)
    results = {}
    given = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    grid = {"logisticregression__C": list(C_GRID)}
    chosen = GridSearchCV(given, grid, scoring="roc_auc", cv=5)
    few = activations.at(activations.layers[:: 2 if quick else 10])
    for name, ours, theirs, part in (
        ("C given", LinearProbe(C=0.01), given, activations),
        ("C chosen", LinearProbe(), chosen, few),
    ):
        fast, rates = sweep(part, ours)
        slow, reference = sweep(part, theirs)
        results[f"sweep, {name}: times faster than scikit-learn"] = slow / fast
        results[f"sweep, {name}: CPU seconds a layer"] = fast / len(part.layers)
        if name == "C given":
            results["sweep: largest difference of AUROC"] = float(np.abs(rates - reference).max())
    return results


def reading(quick: bool) -> dict[str, float]:
    """Tokens scored in a second, and what reading along costs while the model writes."""
    model = load_model("smollm2-135m-instruct")
    records = load_fixture("high_stakes").as_chat()[: 40 if quick else 80]
    activations = extract(model, records, layers=12)
    quickly = SequenceTraining(n_epochs=2)
    probe = SequenceProbe(Attention(n_heads=4), training=quickly).fit(activations)
    n_tokens = len(activations.tokens.ids)
    scoring = min(seconds(lambda: probe.decision_function(activations)) for _ in range(3))
    prompts = Records(list(records[:1]))
    options = {"max_new_tokens": 24 if quick else 64}
    other = SequenceProbe(Mean(), training=quickly).fit(activations)
    monitor = ProbeMonitor({"attention": probe, "mean": other})
    generate(model, prompts, max_new_tokens=2)
    spent: list[float] = []
    advance = monitor._advance

    def timed(*args: object) -> None:
        start = time.process_time()
        advance(*args)
        spent.append(time.process_time() - start)

    monitor._advance = timed
    whole = seconds(lambda: monitor.generate(model, prompts, **options))
    return {
        "scoring: tokens a CPU second": n_tokens / scoring,
        "monitor: two probes, share of decoding": sum(spent) / (whole - sum(spent)),
        "monitor: milliseconds a token": 1000 * sum(spent) / options["max_new_tokens"],
    }


FLOORS = {
    "sweep, C given: times faster than scikit-learn": (">=", 5.0),
    "sweep, C chosen: times faster than scikit-learn": (">=", 5.0),
    "sweep: largest difference of AUROC": ("<=", 0.005),
    "monitor: two probes, share of decoding": ("<=", 0.03),
}


def main() -> None:
    """Measure, print, and write the numbers."""
    options = arguments("Speed of probes")
    warnings.simplefilter("ignore")
    results = sweeps(options.quick) | reading(options.quick)
    rows = []
    for name, value in results.items():
        sign, floor = FLOORS.get(name, ("", np.nan))
        kept = (value >= floor) == (sign == ">=")
        said = "" if not sign else "kept" if kept else "missed"
        rows.append(
            {"what": name, "measured": f"{value:.4g}", "target": f"{sign} {floor:g}", "": said}
        )
        if not sign:
            rows[-1]["target"] = ""
    report({"Probes": pd.DataFrame(rows).set_index("what")}, results, options.json)


if __name__ == "__main__":
    main()
