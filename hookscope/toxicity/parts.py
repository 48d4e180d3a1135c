"""The parts of the toxicity study: each returns plain values for a file."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hookscope.toxicity.config import ALL_MAPS, SHUFFLED
from hookscope.toxicity.directions import (
    hits,
    neuron_scores,
    probe_direction,
    probe_quality,
    top_neurons,
)
from hookscope.toxicity.materials import token_ids
from hookscope.toxicity.methods import (
    Method,
    WeightChange,
    ablation,
    gated_ablation,
    matched,
    shrinkage,
    subtraction,
    tuning_free,
)
from hookscope.toxicity.scoring import next_logprobs
from hookscope.toxicity.shared import Shared, along
from interp import Direction, HookedModel, extract
from interp.attribution import (
    GROUPS,
    Cell,
    NeuronChange,
    align,
    patch_groups,
    same_texts,
    token_mass,
)
from interp.core.seeds import derive

FIRST = "seed 0"
"""The run that patching and the other methods are compared with."""


def probes(shared: Shared) -> dict[str, Any]:
    """The classifier, the words, and probes at every layer."""
    train, test = shared.comments
    records = shared.materials.comments, shared.materials.test_comments
    texts = [np.array([r.content for r in part], object) for part in records]
    return {
        "classifier": shared.classifier.quality,
        "n_words": len(shared.materials.words),
        "n_tokens": len(shared.ids),
        **probe_quality(train, test, (texts[0], texts[1])),
    }


def neurons(shared: Shared) -> dict[str, Any]:
    """Which value vectors write toxic words, by each score, beside random neurons."""
    return _toxic_neurons(shared.model, shared.published, shared.shown, shared.ids)


def training(shared: Shared) -> dict[str, Any]:
    """Each run: its losses, and what it did to the model."""
    runs = {
        name: shared.kept(f"run {name}", lambda n=name: _run(shared, n)) for name in shared.runs
    }
    return {"before": shared.judge.before, "runs": runs}


def groups(shared: Shared) -> dict[str, Any]:
    """Shares of the groups by run and direction, with their nulls."""
    table = []
    for run in shared.runs:
        change, vectors = shared.change(run), shared.value_vectors(run)
        ends = change.intervals(n_resamples=100)
        for name, direction in shared.directions.items():
            row = {
                "run": run,
                "direction": name,
                **_shares(along(change, vectors, direction), shared),
            }
            if direction is shared.published:
                row["intervals"] = {g: list(ends[g]) for g in GROUPS}
            table.append(row)
    change, vectors = shared.change(FIRST), shared.value_vectors(FIRST)
    null = [
        _shares(along(change, vectors, chance), shared)
        for chance in shared.random_directions(shared.config.n_random)
    ]
    reductions = [shared.change(run).reduction.ravel() for run in shared.runs]
    correlations = np.corrcoef(reductions)[0].tolist()
    return {
        "rows": table,
        "random_directions": null,
        "correlation_with_first": dict(zip(shared.runs, correlations, strict=True)),
    }


def patching(shared: Shared) -> dict[str, Any]:
    """Activations of the trained model put into the base model, and back."""
    after = shared.trained(FIRST).model
    pairs, metric = same_texts(shared.model, shared.materials.prompts), token_mass(shared.ids)
    cells = _patched(shared)
    there = patch_groups(shared.model, pairs, metric, cells, source_model=after)
    few = {k: cells[k] for k in ("all neurons", "reducing", "TP reducing", "most toxic")}
    back = patch_groups(after, pairs, metric, few, source_model=shared.model)
    return {
        "into_base": there.to_frame().to_dict("records"),
        "into_trained": back.to_frame().to_dict("records"),
        "n_neurons": {k: sum(len(c.units or ()) for c in group) for k, group in cells.items()},
    }


def all_maps(shared: Shared) -> dict[str, Any]:
    """What of a run with adapters on all maps goes through neurons' activations."""
    layers = range(shared.model.n_layers)
    sites = {
        "all neurons": ("mlp_post",),
        "MLP outputs": ("mlp_out",),
        "attention outputs": ("attn_out",),
        "MLP and attention outputs": ("mlp_out", "attn_out"),
    }
    cells = {
        label: [Cell(site=site, layer=layer) for site in names for layer in layers]
        for label, names in sites.items()
    }
    pairs, metric = same_texts(shared.model, shared.materials.prompts), token_mass(shared.ids)
    after = shared.trained(ALL_MAPS).model
    found = patch_groups(shared.model, pairs, metric, cells, source_model=after)
    return {"into_base": found.to_frame().to_dict("records")}


def methods(shared: Shared) -> dict[str, Any]:
    """Every method at the divergence of the first run, and the published edit as it is."""
    judge = shared.judge
    budget = judge.cost(WeightChange.between(shared.model, shared.trained(FIRST).model))
    made = _methods(shared)

    def scored(name: str) -> dict[str, Any]:
        method, start = made[name]
        strength = matched(lambda s: judge.cost(method(s)), budget, start=start)
        return {"strength": strength, **judge.scores(method(strength))}

    rows = {name: shared.kept(f"method {name}", lambda n=name: scored(n)) for name in made}
    edit = made["tuning-free edit"][0](0.5)
    return {
        "budget": budget,
        "rows": rows,
        "published_edit": shared.kept("method published edit", lambda: judge.scores(edit)),
    }


PARTS: dict[str, Callable[[Shared], dict[str, Any]]] = {
    "probes": probes,
    "neurons": neurons,
    "training": training,
    "patching": patching,
    "groups": groups,
    "methods": methods,
    "all maps": all_maps,
}
"""The parts by name, in the order in which they run."""


def contrast_model(shared: Shared, other: HookedModel) -> dict[str, Any]:
    """Toxic neurons of another model, and what their ablation does beside random neurons."""
    materials, last = shared.materials, other.n_layers - 1
    direction = probe_direction(
        extract(other, materials.comments, layers=last, pooling="mean"), last
    )
    ids, shown = (token_ids(other, words) for words in (materials.words, materials.words[::2]))
    scores = neuron_scores(other, align(other, direction).cosine, shown)
    plain = np.exp(next_logprobs(other, materials.prompts).numpy()[:, ids]).sum(1)
    masses = {}
    for name, values in scores.items():
        with other.intervene(ablation(values)(shared.config.n_top)):
            changed = next_logprobs(other, materials.prompts).numpy()[:, ids]
        masses[name] = float(np.exp(changed).sum() / plain.sum())
    found = _toxic_neurons(other, direction, shown, ids)
    return {"model": other.name, "mass": float(plain.mean()), "ablated": masses, **found}


def _run(shared: Shared, name: str) -> dict[str, Any]:
    result = shared.trained(name)
    change = WeightChange.between(shared.model, result.model)
    end = slice(-max(1, len(result.loss) // 4), None)
    return {
        "loss": result.loss.tolist(),
        "last_margin": float(result.margin[end].mean()),
        "last_accuracy": float(result.accuracy[end].mean()),
        **shared.judge.scores(change),
    }


def _methods(shared: Shared) -> dict[str, tuple[Method, float]]:
    """Each method with a strength to begin with."""
    sides = align(shared.model, shared.published)
    mean = shared.change(FIRST).before.mean(0)
    scores = neuron_scores(shared.model, sides.cosine, shared.shown)
    shuffled = WeightChange.between(shared.model, shared.trained(SHUFFLED).model)
    found: dict[str, tuple[Method, float]] = {f"DPO, {SHUFFLED}": (shuffled.scaled, 1.0)}
    for name, values in scores.items():
        found[f"ablated neurons, {name}"] = (ablation(values), 32.0)
    found["ablated where toxic, vocabulary"] = (gated_ablation(scores["vocabulary"]), 32.0)
    for name in (next(iter(shared.directions)), *list(shared.directions)[-2:]):
        found[f"subtracted {name}"] = (subtraction(shared.directions[name]), 8.0)
    (chance,) = shared.random_directions(1)
    found["subtracted random direction"] = (subtraction(chance), 8.0)
    found["tuning-free edit"] = (tuning_free(sides, mean), 0.02)
    found["all activations shrunk"] = (shrinkage(shared.model.n_layers), 0.05)
    return found


def _shares(change: NeuronChange, shared: Shared) -> dict[str, Any]:
    """What is said of one change along one direction, and of uniform shrinkage."""
    found, n_top = change.groups(), shared.config.n_top
    aligned = top_neurons(np.where(change.cosine > 0, change.cosine, 0), n_top)
    return {
        "reductions": dict(found.reductions),
        "shares": found.shares,
        "shrunk": change.shrunk().groups().shares,
        "balance": found.balance,
        "share_reducing": sum(found.n_reducing.values()) / change.cosine.size,
        "share_of_dampened": change.share_of(change.dampened(n_top)),
        "share_of_most_aligned": change.share_of(aligned),
    }


def _patched(shared: Shared) -> dict[str, tuple[Cell, ...]]:
    """Groups of neurons to patch, with random ones of their size."""
    change, n_top = shared.change(FIRST), shared.config.n_top
    scores = neuron_scores(shared.model, change.cosine, shared.shown)
    reducing = change.reduction > 0
    masks = {
        "all neurons": np.ones_like(reducing),
        "reducing": reducing,
        "increasing": ~reducing,
        **{f"{g} reducing": change.group(g) & reducing for g in GROUPS},
        "dampened": change.dampened(n_top),
        "most toxic": top_neurons(scores["vocabulary"], n_top),
        "largest change": top_neurons(change.reduction, n_top),
    }
    rng = np.random.default_rng(derive(shared.config.seed, "random group"))
    sizes = {
        "random 0": n_top,
        "random 1": n_top,
        "random, as many as TP reducing": int(masks["TP reducing"].sum()),
        "random, as many as reducing": int(reducing.sum()),
    }
    for name, size in sizes.items():
        masks[name] = top_neurons(rng.normal(size=reducing.shape), size)
    return {name: change.cells(mask) for name, mask in masks.items()}


def _toxic_neurons(
    model: HookedModel, direction: Direction, shown: np.ndarray, ids: np.ndarray
) -> dict[str, Any]:
    """The top neurons of each score, and how many of their ten tokens are toxic."""
    scores = neuron_scores(model, align(model, direction).cosine, shown)
    rows = {name: hits(model, values, ids) for name, values in scores.items()}
    return {
        "tokens_of_ten": {
            name: float(np.mean([len(row["toxic_tokens"]) for row in found]))
            for name, found in rows.items()
        },
        "top": {name: found[:8] for name, found in rows.items()},
    }
