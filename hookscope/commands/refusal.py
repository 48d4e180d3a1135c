"""`hookscope refusal`: the refusal direction of a model, removed and added."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.commands.parser import Commands
from interp import Direction, HookedModel, Records, extract, load_model
from interp.core.seeds import derive
from interp.data import load_fixture
from probes import LinearProbe, MeanDifferenceProbe
from steering import Instructions, RefusalConfig, RefusalResult, run_refusal_study

N_NULL = 50
"""Directions of permuted labels that the cosine with a probe is compared with."""
SHORTEST, N_NEUTRAL = 400, 6
"""Letters of a neutral paragraph at least, and number of paragraphs."""


def add(commands: Commands) -> None:
    """Describe the command."""
    text = "Find the refusal direction of a model, remove it and add it."
    parser = commands.add("refusal", run, text)
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="has harmful_train.json, harmful_val.json, harmful_test.json and the harmless ones, "
        'each a list of {"instruction": ...}',
    )
    parser.add_argument(
        "--neutral",
        type=Path,
        metavar="FILE",
        help="text of which long paragraphs are neutral; by default the shipped situations",
    )
    parser.add_argument("--layers", type=int, nargs="+", help="candidate layers")
    parser.add_argument("--coefficient", type=float, default=1.0, help="factor of the addition")
    parser.add_argument("--train", type=int, default=128, help="instructions of each kind")
    parser.add_argument("--validation", type=int, default=24, help="instructions of each kind")
    parser.add_argument("--test", type=int, default=64, help="instructions of each kind")
    parser.add_argument("--tokens", type=int, default=32, help="length of the answers")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the study can resume")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the study and print its tables."""
    counts = {"n_train": arguments.train, "n_validation": arguments.validation}
    counts |= {"n_test": arguments.test, "seed": arguments.seed}
    harmful, harmless = (
        Instructions.load(arguments.folder, kind, **counts) for kind in ("harmful", "harmless")
    )
    model = load_model(arguments.model)
    config = RefusalConfig(
        layers=None if arguments.layers is None else tuple(arguments.layers),
        coefficient=arguments.coefficient,
        max_new_tokens=arguments.tokens,
        seed=arguments.seed,
    )
    result = run_refusal_study(
        model,
        harmful,
        harmless,
        neutral=_neutral(arguments.neutral),
        config=config,
        folder=arguments.out,
        progress=True,
    )
    probes, null = _stakes_directions(model, result.vector.layers[0], seed=arguments.seed)
    result = result.compared(probes)
    largest = float(np.quantile([abs(result.vector.direction().cosine(d)) for d in null], 0.95))
    _print(result, largest)
    return {
        "model": model.name,
        "coefficient": arguments.coefficient,
        **counts,
        **result.to_dict(),
        "cosine_null": largest,
    }


def _neutral(path: Path | None) -> Records | list[str]:
    if path is None:
        return load_fixture("high_stakes_ood")
    paragraphs = [line.strip() for line in path.read_text().splitlines()]
    return [text for text in paragraphs if len(text) >= SHORTEST][:N_NEUTRAL]


def _stakes_directions(
    model: HookedModel, layer: int, *, seed: int
) -> tuple[dict[str, Direction], list[Direction]]:
    """Directions of high-stakes probes on the shipped situations, and some of permuted labels."""
    records = load_fixture("high_stakes")
    activations = extract(model, records, layers=layer, pooling="mean").at(layer)
    labels = np.asarray(records.labels)

    def fitted(probe: LinearProbe | MeanDifferenceProbe, targets: np.ndarray) -> Direction:
        return probe.fit(activations, targets).direction_

    directions = {
        "high-stakes probe, linear": fitted(LinearProbe(), labels),
        "high-stakes probe, mean difference": fitted(MeanDifferenceProbe(), labels),
    }
    random = np.random.default_rng(derive(seed, "permuted labels"))
    null = [fitted(MeanDifferenceProbe(), random.permutation(labels)) for _ in range(N_NULL)]
    return directions, null


def _print(result: RefusalResult, null: float) -> None:
    def table(frame: Any) -> str:
        return frame.to_string(index=False, float_format="{:.3f}".format)

    where = f"layer {result.vector.layers[0]}, {result.choice.tokens_back} tokens before the end"
    print(f"direction of {where}\n{table(result.choice.table)}")
    print(f"\nrefusals by first words (Wilson 95 % interval)\n{table(result.rates())}")
    print(f"\nchange of the log-odds of a refusal\n{table(result.effects())}")
    print(f"\ncost on neutral texts\n{table(result.costs())}")
    for name, cosine in result.cosines.items():
        print(f"cosine with {name}: {cosine:+.3f} (permuted labels: up to {null:.3f})")
