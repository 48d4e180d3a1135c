"""The main job: probe a model for high stakes, see where in a text it fires, and steer with it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hookscope.probing import ProbeStudy, run_probe_study
from interp import Direction, HookedModel, Records, add, extract, generate, viz
from interp.data import load_fixture
from probes import MeanDifferenceProbe

PROMPT = "What should I keep in mind when I water my neighbor's plants?"
STRENGTH = 0.3
"""Length of the steering vector in units of the median activation norm of its layer."""


def run_demo(model: HookedModel, *, out: Path, seed: int = 0) -> dict[str, Any]:
    """Run the study on the shipped data, steer one generation, and write the report.

    Args:
        model: A chat model.
        out: Where to write the report.
        seed: Seed of folds and bootstrap draws.

    Returns:
        The numbers and texts, for JSON.
    """
    show = sys.stderr.isatty()
    train = load_fixture("high_stakes")
    study = run_probe_study(
        model, train, {"other domains": load_fixture("high_stakes_ood")}, seed=seed, progress=show
    )
    print(study.summary())
    strip = token_figure(model, study)
    texts = steered_texts(model, train, study.layer)
    for name, text in texts.items():
        print(f"\n{name}: {text}")
    path = (
        study.report("High-stakes situations, read from the residual stream")
        .heading("Tokens")
        .figure(
            strip,
            f"Score of each token of a conversation that no probe was trained on, under the linear "
            f"probe of layer {study.layer}; the score of the text is their mean. The chat template "
            "and the first token are not scored.",
        )
        .heading("Steering")
        .quotes(
            texts,
            f"Greedy answers to {PROMPT!r} with the mean-difference direction of layer "
            f"{study.layer} added to every token, {STRENGTH} times the median activation norm "
            "long. One text is an illustration: it does not tell how often this works.",
        )
        .details("How this was made", {"seed": seed, "n_examples": len(train), "prompt": PROMPT})
        .save(out)
    )
    print(f"\nreport: {path}")
    return study.to_dict() | {"texts": texts, "report": str(path)}


def token_figure(model: HookedModel, study: ProbeStudy) -> viz.Figure:
    """Scores of the tokens of the first conversation of the other domains."""
    chats = [
        record for record in load_fixture("high_stakes_ood") if record.messages and record.label
    ]
    activations = extract(model, Records(chats[:1]), layers=study.layer)
    tokens = activations.tokens
    assert tokens is not None, "extracted without pooling"
    scores = study.probe.decision_function(activations.matrix.numpy())
    scores = np.where(tokens.content & (tokens.positions > 0), scores, np.nan)
    shown = tokens.turns >= 0
    turns = tokens.turns[shown]
    first = [int(np.argmax(turns == turn)) for turn in np.unique(turns)]
    return viz.token_strip(
        [string for string, keep in zip(tokens.strings, shown, strict=True) if keep],
        scores[shown],
        title="Which words the probe reads as high stakes",
        value_name="log-odds of high stakes",
        breaks=first,
        labels=[tokens.roles[0][turn] for turn in np.unique(turns)],
    )


def steered_texts(model: HookedModel, train: Records, layer: int) -> dict[str, str]:
    """What the model answers as it is, and with the direction subtracted and added."""
    activations = extract(model, train, layers=layer, pooling="mean")
    direction: Direction = MeanDifferenceProbe().fit(activations).direction_
    length = STRENGTH * float(torch.as_tensor(activations.matrix).norm(dim=-1).median())
    prompt = Records.from_texts([PROMPT]).as_chat()
    texts = {"as it is": generate(model, prompt, max_new_tokens=60).texts[0]}
    for name, sign in (("towards low stakes", -1), ("towards high stakes", 1)):
        with model.intervene(add(direction, coefficient=sign * length)):
            texts[name] = generate(model, prompt, max_new_tokens=60).texts[0]
    return texts
