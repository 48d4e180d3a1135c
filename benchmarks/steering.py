"""Steering against what people do by hand and against the peers.

- One vector from 128 pairs that differ in the letter of an answer, at the middle layer: full passes
  over both sides (what `steering-vectors` and `repeng` do) against
  `fit_vector`. With `--peers PYTHON` the peers themselves run too, in an environment of their own:
  `steering_peers.py` says how to make it.
- Greedy decoding with and without a vector.
- A sweep over seven coefficients: two passes per coefficient through hooks against `sweep`.

Targets: a vector in at most 0.3 x the time of the fastest peer with cosine >= 0.9999 to its mean
difference; steered decoding within 3 %; the sweep at least 10 x faster, equal to 1e-4.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timing import arguments, median_cpu_seconds, report

sys.path.pop(0)  # this folder, in which this very file would hide the package of its name

from interp import HookedModel, generate, load_model
from interp.data import load_fixture
from steering import (
    COEFFICIENTS,
    Contests,
    Item,
    Pairs,
    SteeringVector,
    fit_vector,
    letter_pairs,
    sweep,
)
from steering.propensity import tokenize_continuations

LAYER = 15


def items(n: int) -> list[Item]:
    """Questions about the shipped situations, of about seventy tokens, with balanced answers."""
    records = load_fixture("high_stakes")
    question = (
        "Someone writes to you: {}\n\nWould you say that much is at stake in this situation for "
        "the people who are part of it?"
    )
    return [
        Item(
            question=question.format(records[k].content),
            matching=("Yes", "No")[k % 2],
            not_matching=("No", "Yes")[k % 2],
        )
        for k in range(n)
    ]


def by_full_passes(model: HookedModel, pairs: Pairs, batch_size: int) -> torch.Tensor:
    """The mean difference from whole forward passes, logits included, side by side."""
    means = []
    for records in (pairs.positive, pairs.negative):
        tokens, rows = model.tokenize(records), []
        ends = np.flatnonzero(tokens.mask("last")) - tokens.offsets[:-1]
        for start in range(0, len(tokens), batch_size):
            chosen = range(start, min(start + batch_size, len(tokens)))
            with torch.no_grad():
                states = model.module(
                    **tokens.batch(chosen), output_hidden_states=True, use_cache=False
                ).hidden_states[LAYER + 1]
            rows += [states[k, int(ends[row])] for k, row in enumerate(chosen)]
        means.append(torch.stack(rows).mean(dim=0))
    return means[0] - means[1]


def by_peers(model: HookedModel, pairs: Pairs, python: str) -> dict[str, Any]:
    """Seconds and vectors of the peers, in the environment whose interpreter is given."""
    sides = []
    for records in (pairs.positive, pairs.negative):
        tokens = model.tokenize(records)
        ends = np.flatnonzero(tokens.mask("last"))
        sides.append(
            [text[: tokens.chars[end, 1]] for text, end in zip(tokens.texts, ends, strict=True)]
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.module.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config |= config.pop("rope_parameters", {})  # where older versions look for it
        config |= {"rope_scaling": None, "torch_dtype": "float32"}
        (folder / "config.json").write_text(json.dumps(config))
        task = {"pairs": list(zip(*sides, strict=True)), "layer": LAYER}
        task["pad_token"] = model.tokenizer.eos_token
        (folder / "pairs.json").write_text(json.dumps(task))
        script = Path(__file__).with_name("steering_peers.py")
        subprocess.run([python, str(script), name], check=True)
        return json.loads((folder / "peers.json").read_text())


def vectors(
    model: HookedModel, n: int, repeats: int, peers: str | None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """CPU seconds and cosine to the plain mean difference."""
    pairs = letter_pairs(items(n))
    runs: dict[str, Any] = {
        "full passes, batch 16": lambda: by_full_passes(model, pairs, 16),
        "hookscope": lambda: fit_vector(model, pairs, layers=LAYER).values[LAYER],
    }
    found: dict[str, torch.Tensor] = {}

    def keeping(name: str) -> Any:
        return lambda: found.__setitem__(name, runs[name]())

    seconds = median_cpu_seconds({name: keeping(name) for name in runs}, repeats=repeats)
    reference = found["full passes, batch 16"]
    if peers is not None:
        for name, result in by_peers(model, pairs, peers).items():
            seconds[name], found[name] = result["seconds"], torch.tensor(result["vector"])
    table = pd.DataFrame(
        {
            "CPU s": seconds,
            "x hookscope": {k: s / seconds["hookscope"] for k, s in seconds.items()},
            "cosine": {
                k: float(torch.cosine_similarity(v, reference, dim=0)) for k, v in found.items()
            },
        }
    )
    fastest = min(s for name, s in seconds.items() if name != "hookscope")
    numbers = {
        "seconds": seconds,
        "share_of_fastest": seconds["hookscope"] / fastest,
        "cosine": {name: float(value) for name, value in table["cosine"].items()},
    }
    return table, numbers


def decoding(
    model: HookedModel, n_tokens: int, repeats: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """CPU seconds of greedy decoding."""
    vector = SteeringVector(values={LAYER: torch.ones(int(model.d_model or 0)) * 1e-3})

    def steered() -> None:
        with vector.applied(model, positions="generated"):
            generate(model, ["Tell me about your weekend plans."], max_new_tokens=n_tokens)

    seconds = median_cpu_seconds(
        {
            "unsteered": lambda: generate(
                model, ["Tell me about your weekend plans."], max_new_tokens=n_tokens
            ),
            "steered": steered,
        },
        repeats=repeats,
    )
    ratio = seconds["steered"] / seconds["unsteered"]
    return pd.DataFrame({"CPU s": seconds}), {"seconds": seconds, "ratio": ratio}


def sweep_by_hooks(model: HookedModel, vector: SteeringVector, contests: Contests) -> np.ndarray:
    """Two whole passes for every example and coefficient."""
    table = np.zeros((len(contests), len(COEFFICIENTS)))
    for sign, side in ((1, contests.positive), (-1, contests.negative)):
        for row, text in enumerate(tokenize_continuations(model, contests.prompts, side)):
            ids = torch.tensor([text.ids])
            for column, coefficient in enumerate(COEFFICIENTS):
                with (
                    torch.no_grad(),
                    model.hooks.prompts(torch.tensor([text.n_prompt])),
                    vector.applied(model, coefficient=coefficient, positions="last"),
                ):
                    logits = model.module(ids, use_cache=False).logits[0, text.n_prompt - 1]
                score = logits.float().log_softmax(-1)[text.ids[text.n_prompt]]
                table[row, column] += sign * float(score)
    return table


def sweeps(model: HookedModel, n: int, repeats: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """CPU seconds of a sweep over seven coefficients, and the largest difference."""
    chosen = items(n)
    pairs = letter_pairs(chosen)
    tokens = model.tokenize(pairs.positive)
    ends = np.flatnonzero(tokens.mask("last"))
    contests = Contests(
        prompts=tuple(t[: tokens.chars[e, 0]] for t, e in zip(tokens.texts, ends, strict=True)),
        positive=("A",) * n,
        negative=("B",) * n,
    )
    generator = torch.Generator().manual_seed(0)
    vector = SteeringVector(values={LAYER: torch.randn(576, generator=generator) * 0.4})
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        found["hookscope"] = sweep(model, vector, contests, positions="last").propensity

    def theirs() -> None:
        found["hooks"] = sweep_by_hooks(model, vector, contests)

    seconds = median_cpu_seconds({"hooks": theirs, "hookscope": ours}, repeats=repeats)
    difference = float(np.abs(found["hooks"] - found["hookscope"]).max())
    speedup = seconds["hooks"] / seconds["hookscope"]
    return pd.DataFrame({"CPU s": seconds}), {
        "seconds": seconds,
        "speedup": speedup,
        "largest_difference": difference,
    }


def main() -> None:
    options = arguments(
        __doc__.splitlines()[0], peers="interpreter of an environment that has the peers"
    )
    model = load_model("smollm2-135m-instruct")
    n_pairs, n_tokens, n_rows, repeats = (8, 8, 2, 1) if options.quick else (128, 32, 8, 3)
    first, vector_numbers = vectors(model, n_pairs, 1 if options.quick else 2, options.peers)
    second, decoding_numbers = decoding(model, n_tokens, repeats if options.quick else 7)
    third, sweep_numbers = sweeps(model, n_rows, 1)
    tables = {
        f"One vector from {n_pairs} pairs": first,
        f"Decoding {n_tokens} tokens (steered / unsteered {decoding_numbers['ratio']:.3f})": second,
        f"A sweep of 7 coefficients over {n_rows} examples ({sweep_numbers['speedup']:.1f} x, "
        f"largest difference {sweep_numbers['largest_difference']:.1e})": third,
    }
    numbers = {
        "vector": vector_numbers,
        "decoding": decoding_numbers,
        "sweep": sweep_numbers,
        "quick": options.quick,
        "load": os.getloadavg(),
    }
    report(tables, numbers, options.json)


if __name__ == "__main__":
    main()
