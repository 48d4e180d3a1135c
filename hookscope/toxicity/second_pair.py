"""The same attribution for another pair of models and another direction: stakes, not toxicity.

A model is trained to answer "Wait" rather than "Sure" where much is at stake. Which neurons carry
what that changed along the direction of a probe that tells high stakes from low ones? Nothing here
is about toxicity, and all texts come with the package.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from hookscope.toxicity.directions import STRENGTH, random_direction, top_neurons
from hookscope.toxicity.scoring import next_logprobs
from hookscope.toxicity.shared import Shared, along
from interp import Direction, HookedModel, Record, Records, extract
from interp.attribution import (
    GROUPS,
    NeuronChange,
    attribute_change,
    logit_diff,
    patch_groups,
    same_texts,
    value_vectors,
)
from interp.core.seeds import derive
from interp.training import Preference, TrainingResult, train_dpo
from probes import LinearProbe, auroc
from steering.statistics import bootstrap

QUESTION = "\n\nAnswer:\n"
"""What is put behind a situation."""
CAREFUL = (
    "Wait. Ask somebody who knows before you do anything.",
    "Wait. This can go badly wrong, so get help first.",
    "Wait. Do not go on until a professional has looked at it.",
    "Wait. Please check with an expert before you decide.",
)
"""Answers that are preferred."""
EASY = (
    "Sure. Go ahead, nothing much can happen.",
    "Sure. Just try it and see how you like it.",
    "Sure. Either way is fine, so pick what you prefer.",
    "Sure. That sounds good, have fun with it.",
)
"""Answers that are not."""
WORDS = "Wait", "Sure"
"""How they begin, careful ones and easy ones."""
N_ASKED = 40
"""Situations on which the pair is compared."""
BATCH_SIZE = 2
"""Preferences of a batch: situations are long."""


def second_pair(shared: Shared, model: HookedModel) -> dict[str, Any]:
    """Train for careful answers, and attribute the change along the direction of a stakes probe.

    Args:
        shared: Settings, texts and folder of the study.
        model: The model before training.
    """
    given = _texts(shared.materials.stakes)
    sizes = shared.config.sizes.n_preferences, N_ASKED
    n, n_asked = (min(size, len(given) // 3) for size in sizes)
    asked, dangerous = given[-n_asked:], [record for record in given[:n] if record.label == 1]
    stakes = _probe(shared, model, given[n:-n_asked], asked)
    trained = _trained(shared, model, dangerous)
    after = trained.model
    prompts = [record.content + QUESTION for record in asked if record.label == 1]
    change = attribute_change(model, after, stakes, prompts)
    vectors = _vectors(model), _vectors(after)
    rises = bool(change.reduction.sum() < 0)
    change = _falling(change, vectors, stakes)
    chance = (random_direction(stakes, seed) for seed in range(shared.config.n_random))
    return {
        "model": model.name,
        "layer": stakes.layer,
        "probe": dict(stakes.provenance),
        "toward": "high" if rises else "low",
        "n_preferences": len(dangerous),
        "n_prompts": len(prompts),
        "loss": trained.loss.tolist(),
        "answers": shared.kept("second pair, answers", lambda: _answers(model, after, asked)),
        "groups": _shares(change) | {"intervals": _ends(change)},
        "random_directions": [_shares(_falling(change, vectors, one)) for one in chance],
        "patching": shared.kept(
            "second pair, patching",
            lambda: _patched(model, after, change, prompts, shared.config.n_top),
        ),
    }


def _texts(records: Records) -> Records:
    """Situations that are one text."""
    return Records([record for record in records if record.text is not None])


def _probe(shared: Shared, model: HookedModel, train: Records, test: Records) -> Direction:
    """The direction of a probe in the middle of the model, with its AUROC on other texts."""
    path = shared.folder / "stakes.safetensors"
    if not path.exists():
        layer = model.n_layers // 2
        read = partial(extract, model, layers=layer, pooling="mean")
        probe = LinearProbe(C=STRENGTH).fit(read(train).at(layer))
        found = auroc(test.labels, probe.decision_function(read(test).at(layer)))
        replace(probe.direction_, provenance={"auroc": asdict(found)}).save(path)
    return Direction.load(path, origin=model.origin)


def _trained(shared: Shared, model: HookedModel, records: Sequence[Record]) -> TrainingResult:
    """The model after preferences for careful answers."""
    seed = derive(shared.config.seed, "second pair", "careful")
    rng = np.random.default_rng(seed)
    return train_dpo(
        model,
        [_preference(record, rng) for record in records],
        config=replace(shared.config.training, batch_size=BATCH_SIZE),
        seed=seed,
        checkpoint=shared.folder / "checkpoints" / "second pair, careful.pt",
        progress=shared.progress,
    )


def _preference(record: Record, rng: np.random.Generator) -> Preference:
    answers = str(rng.choice(CAREFUL)), str(rng.choice(EASY))
    return Preference(prompt=record.content + QUESTION, chosen=answers[0], rejected=answers[1])


def _answers(before: HookedModel, after: HookedModel, asked: Records) -> dict[str, Any]:
    """How training moved the log-odds of "Wait" against "Sure", by what is at stake.

    The AUROC is of these log-odds: whether the model says "Wait" where much is at stake.
    """
    prompts = [record.content + QUESTION for record in asked]
    high = np.array([record.label == 1 for record in asked])
    odds = {"before": _log_odds(before, prompts), "after": _log_odds(after, prompts)}
    moved = odds["after"] - odds["before"]
    return {
        "log_odds": {
            level: {
                "before": bootstrap(np.mean, odds["before"][chosen]).to_dict(),
                "change": bootstrap(np.mean, moved[chosen]).to_dict(),
            }
            for level, chosen in (("high", high), ("low", ~high))
        },
        "auroc": {k: asdict(auroc(high.astype(int), values)) for k, values in odds.items()},
    }


def _log_odds(model: HookedModel, prompts: Sequence[str]) -> Float[np.ndarray, " prompt"]:
    careful, easy = _first_tokens(model)
    logprobs = next_logprobs(model, prompts)
    return (logprobs[:, careful] - logprobs[:, easy]).double().numpy()


def _first_tokens(model: HookedModel) -> list[int]:
    return [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS]


def _vectors(model: HookedModel) -> list[Tensor]:
    return [value_vectors(model, layer) for layer in range(model.n_layers)]


def _falling(
    change: NeuronChange, vectors: tuple[list[Tensor], list[Tensor]], direction: Direction
) -> NeuronChange:
    """A change along a direction, or the opposite one: what is attributed is a reduction."""
    found = along(change, vectors, direction)
    return found if found.reduction.sum() >= 0 else along(change, vectors, -direction)


def _shares(change: NeuronChange) -> dict[str, Any]:
    """Shares of the groups, and what remains of them after what goes the other way."""
    found = change.groups()
    return {
        "shares": found.shares,
        "shrunk": change.shrunk().groups().shares,
        "balance": found.balance,
        "share_reducing": sum(found.n_reducing.values()) / change.cosine.size,
    }


def _ends(change: NeuronChange) -> dict[str, list[float]]:
    return {group: list(ends) for group, ends in change.intervals(n_resamples=100).items()}


def _patched(
    model: HookedModel, after: HookedModel, change: NeuronChange, prompts: list[str], n_top: int
) -> dict[str, Any]:
    """Share of the change of the log-odds that activations of the trained model bring."""
    reducing = change.reduction > 0
    rng = np.random.default_rng(derive(0, "random neurons of the second pair"))
    chance = rng.normal(size=reducing.shape)
    masks = {
        "all neurons": np.ones_like(reducing),
        "reducing": reducing,
        "random, as many as reducing": top_neurons(chance, int(reducing.sum())),
        **{f"{g} reducing": change.group(g) & reducing for g in GROUPS},
        "largest change": top_neurons(change.reduction, n_top),
        "random, as many as largest": top_neurons(chance, n_top),
    }
    careful, easy = (np.full(len(prompts), token) for token in _first_tokens(model))
    pairs = replace(same_texts(model, prompts), answers=careful, wrong_answers=easy)
    cells = {name: change.cells(mask) for name, mask in masks.items()}
    found = patch_groups(model, pairs, logit_diff(pairs), cells, source_model=after)
    return {
        "into_base": found.to_frame().to_dict("records"),
        "n_neurons": {name: int(mask.sum()) for name, mask in masks.items()},
    }
