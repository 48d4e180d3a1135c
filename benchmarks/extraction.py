"""Extraction against the bare forward and against what people use instead.

The floor is the Hugging Face decoder on the same batches, cut behind the last layer that is needed,
without unembedding and without reading anything. Peers run as their documentation shows. All get
token ids, so that nobody pays for tokenizing.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timing import arguments, median_cpu_seconds, peak_mebibytes, report

from interp import HookedModel, Site, Tokens, extract, extract_to_disk, load_model
from interp.core.extraction import BATCH_TOKENS, Reader
from interp.data import load_fixture

PEER_BATCH = 8
MIDDLE = 15


def texts_of(model: HookedModel, lengths: Sequence[int]) -> Tokens:
    """Texts of the given numbers of tokens, made of the shipped sentences in random order."""
    contents = [record.content for record in load_fixture("high_stakes")]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(contents)[: 2 + n // 12]) for n in lengths]
    tokens = model.tokenize(texts)
    limit = np.repeat(np.asarray(lengths), tokens.lengths)
    return tokens.take(tokens.positions < limit)


@contextmanager
def cut(model: HookedModel, n_layers: int):
    """The model's body with its first layers only."""
    layers = model.body.layers
    model.body.layers = layers[:n_layers]
    try:
        yield
    finally:
        model.body.layers = layers


def floor(model: HookedModel, tokens: Tokens, n_layers: int) -> None:
    """The bare decoder on our batches."""
    plan = Reader(model, tokens, None, "resid_post", None, None, torch.float32).plan(BATCH_TOKENS)
    with torch.no_grad(), cut(model, n_layers):
        for rows in plan:
            model.body(**tokens.batch(rows), use_cache=False)


def in_order(tokens: Tokens) -> list[dict[str, torch.Tensor]]:
    """Batches of a fixed size in the caller's order, as the documentation of the peers has them."""
    starts = range(0, len(tokens), PEER_BATCH)
    return [tokens.batch(range(s, min(s + PEER_BATCH, len(tokens)))) for s in starts]


def mean_of(values: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over real tokens but the first."""
    weights = (batch["attention_mask"] * (batch["position_ids"] > 0)).float()
    return torch.einsum("bpd,bp->bd", values, weights / weights.sum(-1, keepdim=True))


def hidden_states(model: HookedModel, tokens: Tokens, layers: Sequence[int]) -> list[Any]:
    """Hugging Face's `output_hidden_states=True`."""
    found = []
    with torch.no_grad():
        for batch in in_order(tokens):
            states = model.module(**batch, output_hidden_states=True, use_cache=False).hidden_states
            found.append([mean_of(states[layer + 1], batch) for layer in layers])
    return found


def run_with_cache(bridge: Any, tokens: Tokens, layers: Sequence[int]) -> list[Any]:
    """A `TransformerBridge` with a names filter and `stop_at_layer`."""
    names = [str(Site("resid_post", layer)) for layer in layers]
    last = max(layers) + 1
    stop = last if last < bridge.cfg.n_layers else None
    found = []
    with torch.no_grad():
        for batch in in_order(tokens):
            _, cache = bridge.run_with_cache(
                batch["input_ids"],
                attention_mask=batch["attention_mask"],
                names_filter=names,
                stop_at_layer=stop,
            )
            found.append([mean_of(cache[name], batch) for name in names])
    return found


def nnsight_trace(traced: Any, tokens: Tokens, layers: Sequence[int]) -> list[Any]:
    """Nnsight's tracing, stopped behind the last layer."""
    found = []
    with torch.no_grad():
        for batch in in_order(tokens):
            kept = {}
            with traced.trace(
                {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            ) as tracer:
                for layer in layers:
                    kept[layer] = traced.model.layers[layer].output.save()
                tracer.stop()
            states = [x[0] if isinstance(x, tuple) else x for x in kept.values()]
            found.append([mean_of(state, batch) for state in states])
    return found


def peers(model: HookedModel) -> dict[str, Callable[[Tokens, Sequence[int]], Any]]:
    """The peers that are installed."""
    bridge = model.bridge()
    found: dict[str, Callable[[Tokens, Sequence[int]], Any]] = {
        "output_hidden_states": lambda tokens, layers: hidden_states(model, tokens, layers),
        "TransformerBridge.run_with_cache": lambda t, layers: run_with_cache(bridge, t, layers),
    }
    try:
        import nnsight
    except ImportError:
        return found
    import copy

    traced = nnsight.LanguageModel(copy.deepcopy(model.module), tokenizer=model.tokenizer)
    return found | {"nnsight": lambda tokens, layers: nnsight_trace(traced, tokens, layers)}


def contenders(
    model: HookedModel, tokens: Tokens, layers: Sequence[int], pooling: Any
) -> dict[str, Callable[[], Any]]:
    """Everybody who extracts these layers, the floor first."""
    return {
        "floor": lambda: floor(model, tokens, max(layers) + 1),
        "hookscope": lambda: extract(model, tokens, layers=list(layers), pooling=pooling),
        **{name: (lambda f=f: f(tokens, layers)) for name, f in peers(model).items()},
    }


def peak_of(name: str, lengths: list[int], layers: list[int]) -> float:
    """Peak memory of a contender that pools, in MiB; to be called in a process of its own."""
    torch.set_num_threads(1)
    model = load_model("smollm2-135m-instruct")
    tokens = texts_of(model, lengths)
    if name in ("floor", "hookscope"):  # nothing else is loaded beside these two
        extract(model, tokens.rows(range(2)), layers=[0], pooling="mean")
        run = {
            "floor": lambda: floor(model, tokens, max(layers) + 1),
            "hookscope": lambda: extract(model, tokens, layers=layers, pooling="mean"),
        }[name]
    else:
        run = contenders(model, tokens, layers, "mean")[name]
    return peak_mebibytes(run)


def peaks(names: Sequence[str], lengths: Sequence[int], layers: Sequence[int]) -> dict[str, float]:
    """Peak memory of contenders, each in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found[name] = pool.submit(peak_of, name, list(map(int, lengths)), list(layers)).result()
    return found


def table(
    seconds: dict[str, float], memory: dict[str, float] | None, tokens: Tokens
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table of one comparison, and its ratios."""
    ours, base = seconds["hookscope"], seconds["floor"]
    rivals = {k: v for k, v in seconds.items() if k not in ("hookscope", "floor", "to disk")}
    frame = pd.DataFrame({"CPU s": seconds, "peak MiB": memory})
    frame["x floor"] = frame["CPU s"] / base
    frame["tokens/s"] = len(tokens.ids) / frame["CPU s"]
    numbers: dict[str, Any] = {
        "seconds": seconds,
        "peak_mib": memory,
        "ratio_to_floor": ours / base,
    }
    if rivals:
        numbers["ratio_to_fastest_peer"] = ours / min(rivals.values())
    return frame, numbers


def main() -> None:
    """Run all comparisons."""
    args = arguments(__doc__ or "")
    n, repeats = (6, 1) if args.quick else (16, 5)
    model = load_model("smollm2-135m-instruct")
    rng = np.random.default_rng(0)
    even = texts_of(model, rng.integers(64, 129, n))
    mixed = texts_of(model, np.exp(rng.uniform(np.log(8), np.log(513), n)).astype(int))
    every = range(model.n_layers)
    tables, numbers = {}, {}

    def compare(
        key: str, title: str, tokens: Tokens, layers: Sequence[int], pooling: Any, memory: bool
    ) -> None:
        runs = contenders(model, tokens, layers, pooling)
        seconds = median_cpu_seconds(runs, repeats=repeats)
        rises = peaks(list(runs), tokens.lengths, layers) if memory else None
        tables[title], numbers[key] = table(seconds, rises, tokens)

    title = f"All layers, mean-pooled, {n} texts of 64 to 128 tokens"
    compare("pooled_even_lengths", title, even, every, "mean", memory=False)
    title = f"All layers, mean-pooled, {n} texts of 8 to 512 tokens"
    compare("pooled_all_layers", title, mixed, every, "mean", memory=True)
    title = f"Every token of layer {MIDDLE}, {n} texts of 8 to 512 tokens"
    compare("one_layer_tokens", title, mixed, [MIDDLE], None, memory=False)

    folder = Path(tempfile.mkdtemp())

    def to_disk() -> None:
        shutil.rmtree(folder)
        extract_to_disk(model, even, folder, dtype=torch.float16)

    seconds = median_cpu_seconds(
        {"floor": lambda: floor(model, even, model.n_layers), "hookscope": to_disk}, repeats=repeats
    )
    shutil.rmtree(folder)
    numbers["all_tokens_to_disk"] = {"ratio_to_floor": seconds["hookscope"] / seconds["floor"]}
    tables["All tokens of all layers to disk, float16"] = pd.DataFrame({"CPU s": seconds})

    sizes = (50, 500) if args.quick else (500, 5000)
    rises = {
        size: peaks(["hookscope"], rng.integers(8, 25, size), range(3))["hookscope"]
        for size in sizes
    }
    numbers["pooled_peak_mib"] = rises
    tables["Peak memory of pooled extraction by number of texts"] = pd.DataFrame({"MiB": rises})
    report(tables, numbers, args.json)


if __name__ == "__main__":
    main()
