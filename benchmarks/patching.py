"""Speed of activation patching: a layer by position sweep against one forward for each cell.

The contenders are a plain torch hook with a full forward for each cell, and transformer-lens's own
patching on a bridge (`generic_activation_patch`). They are timed on a sample of the cells, and the
median time of a cell is multiplied by the number of cells. Cells before the first word that differs
change nothing and are left out of that number, so that the ratio is for the same work. `--quick`
takes fewer layers and a smaller sample; the fixed cost of our two first runs then weighs more.
"""

import statistics
import time

import numpy as np
import pandas as pd
import torch
from timing import arguments, report
from torch import Tensor
from transformer_lens.patching import generic_activation_patch, layer_pos_patch_setter

from interp import HookedModel, load_model
from interp.attribution import (
    Pairs,
    PatchingResult,
    attribute_cells,
    compare,
    logit_diff,
    make_pairs,
    patch_sweep,
)

CAPITALS = {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid"}
FLOOR = 3.0


def country_pairs(model: HookedModel) -> Pairs:
    """Four questions for a capital, each with another country as its corruption."""
    countries = list(CAPITALS)
    others = countries[1:] + countries[:1]
    text = "The capital city of {} is the city of"
    return make_pairs(
        model,
        [text.format(country) for country in countries],
        [text.format(country) for country in others],
        answers=[f" {CAPITALS[country]}" for country in countries],
        wrong_answers=[f" {CAPITALS[country]}" for country in others],
    )


def one_forward_a_cell(
    model: HookedModel, pairs: Pairs, cells: np.ndarray
) -> tuple[list[float], np.ndarray]:
    """CPU seconds and mean logit difference of each cell, with a torch hook and a full forward."""
    ids = [torch.from_numpy(s.ids).reshape(len(pairs), -1) for s in (pairs.clean, pairs.corrupted)]
    metric, rows = logit_diff(pairs), torch.arange(len(pairs))
    with torch.no_grad():
        states = model.module(ids[0], output_hidden_states=True).hidden_states
    seconds, values = [], []
    for layer, column in cells:

        def put(module: object, args: tuple, layer: int = layer, column: int = column) -> tuple:
            value = args[0].clone()
            value[:, column] = states[layer][:, column]
            return (value, *args[1:])

        start = time.process_time()
        handle = model.module.get_submodule(f"model.layers.{layer}").register_forward_pre_hook(put)
        with torch.no_grad():
            logits = model.module(ids[1], use_cache=False).logits
        handle.remove()
        seconds.append(time.process_time() - start)
        values.append(float(metric.score(logits[:, -1:], rows).mean()))
    return seconds, np.array(values)


def transformer_lens(model: HookedModel, pairs: Pairs, cells: np.ndarray) -> list[float]:
    """CPU seconds of each cell with transformer-lens, one call for each."""
    bridge = model.bridge()
    ids = [torch.from_numpy(s.ids).reshape(len(pairs), -1) for s in (pairs.clean, pairs.corrupted)]
    metric, rows = logit_diff(pairs), torch.arange(len(pairs))

    def score(logits: Tensor) -> Tensor:
        return metric.score(logits[:, -1:], rows).mean()

    seconds = []
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids[0])
        for layer, column in cells:
            start = time.process_time()
            generic_activation_patch(
                bridge,
                ids[1],
                cache,
                score,
                layer_pos_patch_setter,
                "resid_pre",
                index_df=pd.DataFrame({"layer": [layer], "pos": [column]}),
            )
            seconds.append(time.process_time() - start)
    return seconds


def timed_sweep(
    model: HookedModel, pairs: Pairs, layers: range, batch_tokens: int
) -> tuple[float, PatchingResult]:
    """CPU seconds and result of our sweep."""
    start = time.process_time()
    result = patch_sweep(model, pairs, logit_diff(pairs), layers=layers, batch_tokens=batch_tokens)
    return time.process_time() - start, result


def main() -> None:
    """Measure, print, and write the numbers."""
    options = arguments("Speed of activation patching")
    model = load_model("smollm2-135m-instruct")
    pairs = country_pairs(model)
    layers = range(0, model.n_layers, 5 if options.quick else 1)
    ours, result = timed_sweep(model, pairs, layers, 1024)
    first = int(
        np.argmax(
            pairs.clean.ids[: pairs.clean.lengths[0]]
            != pairs.corrupted.ids[: pairs.clean.lengths[0]]
        )
    )
    cells = np.array(
        [(cell.layer, cell.column) for cell in result.cells if (cell.column or 0) >= first]
    )
    rng = np.random.default_rng(0)
    sample = cells[rng.permutation(len(cells))[: 4 if options.quick else 12]]
    hooked, exact = one_forward_a_cell(model, pairs, sample)
    lens = transformer_lens(model, pairs, sample)
    values = {
        (c.layer, c.column): v for c, v in zip(result.cells, result.values.mean(0), strict=True)
    }
    start = time.process_time()
    estimate = attribute_cells(model, pairs, logit_diff(pairs), result.cells)
    estimating = time.process_time() - start
    agreement = compare(estimate, result)
    numbers = {
        "cells": len(cells),
        "sweep: CPU seconds": ours,
        "one forward a cell: CPU seconds": statistics.median(hooked) * len(cells),
        "transformer-lens: CPU seconds": statistics.median(lens) * len(cells),
        "largest difference of a cell": float(
            np.abs(exact - [values[tuple(cell)] for cell in sample]).max()
        ),
        "integrated gradients: CPU seconds": estimating,
        "integrated gradients: Pearson": agreement.pearson,
        "integrated gradients: slope": agreement.slope,
        "integrated gradients: recall of the top 20": agreement.recall,
    }
    for peer in ("one forward a cell", "transformer-lens"):
        numbers[f"times faster than {peer}"] = numbers[f"{peer}: CPU seconds"] / ours
    table = pd.DataFrame({"measured": numbers})
    table["target"] = [f">= {FLOOR}" if "times faster" in name else "" for name in table.index]
    report({"Patching": table}, numbers, options.json)


if __name__ == "__main__":
    main()
