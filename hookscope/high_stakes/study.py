"""Running the high-stakes study; what it finds is one dictionary of plain numbers.

Everything that costs time is kept in a folder and resumed: an interrupted study goes on, and one
with other choices uses the activations that are there. The result (`results.json`) is what the
notebook draws. Test sets decide nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hookscope.high_stakes import tables
from hookscope.high_stakes.choice import choose
from hookscope.high_stakes.monitoring import cascades, costs, prompted
from hookscope.high_stakes.sequences import as_published, by_pooling
from hookscope.high_stakes.sets import HighStakesConfig, read_sets
from interp import HookedModel
from interp.core.files import write_atomically
from probes.high_stakes import HighStakes


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
        model: A language model with a chat template.
        sets: The sets, from `load_high_stakes`.
        folder: Stores of activations, answers of the prompted model, and the result.
        config: How much to run.
        progress: Show progress bars.

    Raises:
        ModelMismatchError: If the folder holds activations of another model or other texts.
        ValueError: If there is no development set to choose on, or no test set.
    """
    if not sets.dev or not sets.test:
        raise ValueError(
            f"{len(sets.dev)} development and {len(sets.test)} test sets: needed one of each at "
            "least, since what is chosen on a set cannot be tested on it"
        )
    config, folder = config or HighStakesConfig(), Path(folder)
    parts = read_sets(model, sets, folder, config, progress=progress)
    choice = choose(parts, config)
    scores = {name: choice.scores(part) for name, part in parts.items()}
    others = tables.floors(model, parts)
    gains = {name: tables.mean_gain(parts, scores, other, config) for name, other in others.items()}
    best = min(tables.TEXT_FLOORS, key=lambda name: gains[name].value)
    result: dict[str, Any] = {
        "model": model.name,
        "config": asdict(config),
        "sizes": {name: len(part.records) for name, part in parts.items()},
        "removed": dict(sets.n_removed),
        "choice": choice.table,
        "chosen": asdict(choice.reading),
        "layer": choice.layer,
        "sets": tables.by_set(parts, scores, others, config),
        "gains": {name: asdict(gain) for name, gain in gains.items()},
        "best_floor": best,
        "gain": asdict(gains[best]),
        "layers": tables.by_layer(parts, choice.reading.C),
        "matrix": tables.matrix(parts, choice),
        "few_shot": tables.few_shot(parts, choice, config),
        "calibration": tables.calibration(parts, scores),
        "heatmap": tables.heatmap(parts, choice.layer, choice.reading.C),
    }
    answers = prompted(model, parts, folder, config)
    result |= cascades(model, parts, scores, answers, config)
    result["cost"] = costs(model, answers)
    _write(folder, result)  # the sequence probes take longest
    result["pooling"] = by_pooling(parts, choice.layer, config)
    result["published"] = as_published(model, parts, config)
    _write(folder, result)
    return result


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    write_atomically(folder / "results.json", json.dumps(result, indent=1).encode())
