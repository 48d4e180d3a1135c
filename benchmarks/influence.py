"""Speed of influence: training runs a CPU-minute, and what a derivative of training costs.

The reference is the same training written as a loop with torch.optim, one run after another.
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from timing import arguments, median_cpu_seconds, report
from torch import nn

from hookscope.influence_tasks import IMAGE_TRAINING, digits, entropy
from interp.influence import (
    Problem,
    Training,
    influence_functions,
    solve_cg,
    solve_kronecker,
    train_ensemble,
    unrolled_forward,
    unrolled_reverse,
)

FLOORS = {"training runs a CPU-minute": 1000.0, "times faster than one by one": 10.0}


def one_by_one(problem: Problem, training: Training) -> None:
    """A single run as one would write it."""
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=training.lr, weight_decay=1e-3)
    random = torch.Generator().manual_seed(0)
    for step in range(training.n_steps):
        optimizer.param_groups[0]["lr"] = training.lr_at(step)
        rows = torch.randint(0, problem.n_examples, (32,), generator=random)
        optimizer.zero_grad()
        entropy(model(problem.inputs[rows]), problem.targets[rows]).mean().backward()
        optimizer.step()


def measure(quick: bool) -> dict[str, float]:
    """CPU seconds, turned into rates."""
    images = digits(200)
    problem, queries = images.problem, images.queries(slice(0, 8))
    training = replace(IMAGE_TRAINING, n_steps=100 if quick else 400)
    n_runs, n_seeds = 256, 4
    ensemble = train_ensemble(problem, training, seeds=range(n_seeds))
    direction = torch.eye(problem.n_examples)[:1]
    contenders: dict[str, Any] = {
        "one": lambda: one_by_one(problem, training),
        "all": lambda: train_ensemble(problem, training, seeds=range(n_runs), trajectory="end"),
        "reverse": lambda: unrolled_reverse(ensemble, queries),
        "forward": lambda: unrolled_forward(ensemble, queries, direction),
        "exact": lambda: influence_functions(ensemble, queries),
        "cg": lambda: influence_functions(ensemble, queries, solve=solve_cg),
        "kronecker": lambda: influence_functions(ensemble, queries, solve=solve_kronecker),
    }
    seconds = median_cpu_seconds(contenders, repeats=1 if quick else 3)
    steps = training.n_steps / 400
    return {
        "training runs a CPU-minute": 60 * n_runs / seconds["all"] * steps,
        "times faster than one by one": seconds["one"] * n_runs / seconds["all"],
        "unrolled, all examples: CPU seconds a seed and query": seconds["reverse"]
        / (n_seeds * 8 * steps),
        "unrolled forward, one direction: CPU seconds a seed": seconds["forward"]
        / (n_seeds * steps),
        "influence functions, exact: CPU seconds a seed": seconds["exact"] / n_seeds,
        "influence functions, CG: CPU seconds a seed": seconds["cg"] / n_seeds,
        "influence functions, K-FAC: CPU seconds a seed": seconds["kronecker"] / n_seeds,
    }


def main() -> None:
    """Measure, print, and write the numbers."""
    options = arguments("Speed of influence")
    results = measure(options.quick)
    rows = [
        {
            "what": name,
            "measured": f"{value:.4g}",
            "target": f">= {FLOORS[name]:g}" if name in FLOORS else "",
            "": ("kept" if value >= FLOORS[name] else "missed") if name in FLOORS else "",
        }
        for name, value in results.items()
    ]
    report({"Influence": pd.DataFrame(rows).set_index("what")}, results, options.json)


if __name__ == "__main__":
    main()
