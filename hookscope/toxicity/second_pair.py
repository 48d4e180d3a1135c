"""The same attribution for another pair of models and another direction: stakes, not toxicity.

A model is trained to answer "Wait" rather than "Sure" where much is at stake. Which neurons carry
what that changed along the direction of a probe that tells high stakes from low ones? Nothing here
is about toxicity, and all texts come with the package.
"""

from collections.abc import Mapping, Sequence
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
RUNS = "careful", "shuffled"
"""The run that prefers careful answers, and one in which half of the preferences are turned."""


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
    n, n_asked = (
        min(size, len(given) // 3) for size in (shared.config.sizes.n_preferences, N_ASKED)
    )
    asked, dangerous = given[-n_asked:], [record for record in given[:n] if record.label == 1]
    stakes, quality = _probe(model, given[n:-n_asked], asked)
    trained = {name: _trained(shared, model, dangerous, name) for name in RUNS}
    after = {name: run.model for name, run in trained.items()}
    prompts = [record.content + QUESTION for record in asked if record.label == 1]
    changes = {k: attribute_change(model, other, stakes, prompts) for k, other in after.items()}
    first = changes[RUNS[0]]
    sides = {k: (_vectors(model), _vectors(other)) for k, other in after.items()}
    rises = bool(first.reduction.sum() < 0)
    if rises:  # what is attributed is a reduction, here along the opposite direction
        stakes = -stakes
        changes = {k: along(change, sides[k], stakes) for k, change in changes.items()}
        first = changes[RUNS[0]]
    chance = (random_direction(stakes, seed) for seed in range(shared.config.n_random))
    return {
        "model": model.name,
        "layer": stakes.layer,
        "probe": quality,
        "toward": "high" if rises else "low",
        "n_preferences": len(dangerous),
        "n_prompts": len(prompts),
        "loss": {name: run.loss.tolist() for name, run in trained.items()},
        "answers": shared.kept(
            "second pair, answers", lambda: {"runs": _answers(model, after, asked)}
        )["runs"],
        "groups": {name: _shares(one) for name, one in changes.items()},
        "random_directions": [
            _shares(along(first, sides[RUNS[0]], one), ends=False) for one in chance
        ],
        "patching": shared.kept(
            "second pair, patching",
            lambda: _patched(model, after[RUNS[0]], first, prompts, shared.config.n_top),
        ),
    }


def _texts(records: Records) -> Records:
    """Situations that are one text."""
    return Records([record for record in records if record.text is not None])


def _probe(model: HookedModel, train: Records, test: Records) -> tuple[Direction, dict[str, Any]]:
    """The direction of a probe in the middle of the model, and how well it reads other texts."""
    layer = model.n_layers // 2
    read = partial(extract, model, layers=layer, pooling="mean")
    probe = LinearProbe(C=STRENGTH).fit(read(train).at(layer))
    scores = probe.decision_function(read(test).at(layer))
    return probe.direction_, asdict(auroc(test.labels, scores))


def _trained(
    shared: Shared, model: HookedModel, records: Sequence[Record], name: str
) -> TrainingResult:
    """The model after preferences for careful answers, or for them half of the time."""
    seed = derive(shared.config.seed, "second pair", name)
    rng = np.random.default_rng(seed)
    turned = rng.permutation(len(records))[: len(records) // 2] if name == "shuffled" else []
    return train_dpo(
        model,
        [_preference(record, k not in turned, rng) for k, record in enumerate(records)],
        config=replace(shared.config.training, batch_size=BATCH_SIZE),
        seed=seed,
        checkpoint=shared.folder / "checkpoints" / f"second pair, {name}.pt",
        progress=shared.progress,
    )


def _preference(record: Record, careful: bool, rng: np.random.Generator) -> Preference:
    answers = str(rng.choice(CAREFUL)), str(rng.choice(EASY))
    chosen, rejected = answers if careful else answers[::-1]
    return Preference(prompt=record.content + QUESTION, chosen=chosen, rejected=rejected)


def _answers(
    before: HookedModel, after: Mapping[str, HookedModel], asked: Records
) -> dict[str, dict[str, Any]]:
    """For each run, how it moved the log-odds of "Wait" against "Sure" by what is at stake.

    The AUROC is of these log-odds: whether the model says "Wait" where much is at stake.
    """
    prompts = [record.content + QUESTION for record in asked]
    high = np.array([record.label == 1 for record in asked])
    plain, found = _log_odds(before, prompts), {}
    for name, model in after.items():
        odds = _log_odds(model, prompts)
        rows = {
            level: {
                "before": bootstrap(np.mean, plain[chosen]).to_dict(),
                "change": bootstrap(np.mean, (odds - plain)[chosen]).to_dict(),
            }
            for level, chosen in (("high", high), ("low", ~high))
        }
        quality = {
            when: asdict(auroc(high.astype(int), values))
            for when, values in (("before", plain), ("after", odds))
        }
        found[name] = {"log_odds": rows, "auroc": quality}
    return found


def _log_odds(model: HookedModel, prompts: Sequence[str]) -> Float[np.ndarray, " prompt"]:
    careful, easy = _first_tokens(model)
    logprobs = next_logprobs(model, prompts)
    return (logprobs[:, careful] - logprobs[:, easy]).double().numpy()


def _first_tokens(model: HookedModel) -> list[int]:
    return [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS]


def _vectors(model: HookedModel) -> list[Tensor]:
    return [value_vectors(model, layer) for layer in range(model.n_layers)]


def _shares(change: NeuronChange, *, ends: bool = True) -> dict[str, Any]:
    """Shares of the groups, with intervals if wanted, and their balance."""
    found = change.groups()
    table = {
        "shares": found.shares,
        "shrunk": change.shrunk().groups().shares,
        "balance": found.balance,
        "share_reducing": sum(found.n_reducing.values()) / change.cosine.size,
    }
    if ends:
        table["intervals"] = {g: list(e) for g, e in change.intervals(n_resamples=100).items()}
    return table


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
