"""The checklist: the retrained model passes it, the one that knows does not."""

import numpy as np
import pytest
import torch

from interp import HookedModel
from interp.training import Example, SftConfig, train_sft
from interp.training.loop import make_batch
from interp.training.unlearning import (
    AttackSuite,
    Checklist,
    Checks,
    evaluate_unlearning,
    lens,
    membership_auroc,
    min_k,
    relearning,
)
from tests.tiny_models import tiny_llama

FORGET = [Example(prompt=f"{who} is from ", answer=where) for who, where in (
    ("Ana", "Rome"), ("Bo", "Oslo"), ("Ed", "Lima"), ("Flo", "Kyiv")
)]  # fmt: skip
RETAIN = [Example(prompt=f"{who} likes ", answer=what) for who, what in (
    ("Cy", "figs"), ("Di", "tea")
)]  # fmt: skip
OTHERS = [Example(prompt=f"{who} is from ", answer=where) for who, where in (
    ("Gil", "Bern"), ("Hal", "Baku"), ("Ivo", "Rabat"), ("Jo", "Quito")
)]  # fmt: skip
LEARNING = SftConfig(learning_rate=5e-3, n_steps=30, batch_size=6)


@pytest.fixture(scope="module")
def checks() -> Checks:
    base = train_sft(tiny_llama(n_layers=2), FORGET + RETAIN, config=LEARNING).model
    retrained = train_sft(tiny_llama(n_layers=2), RETAIN, config=LEARNING).model
    return Checks(
        suite=AttackSuite(
            relearn=FORGET[:2], held=FORGET[2:], retain=RETAIN,
            base=base, retrained=retrained,
            attacks=(relearning(rates=(1e-4,), n_steps=2), lens()),
        ),
        neighbors=RETAIN,
        distant=RETAIN,
        paraphrases=[Example(prompt=f"So {e.prompt}", answer=e.answer) for e in FORGET[2:]],
        harmful=["how to steal"],
        refuses=lambda text: text.startswith("I"),
        non_members=OTHERS,
        later=retrained,
    )  # fmt: skip


def test_the_retrained_model_passes_all_that_compares_it_with_itself(checks: Checks) -> None:
    found = evaluate_unlearning(checks.suite.retrained, checks)
    for name in (
        "relearning", "relearning on retain", "few-shot", "paraphrases", "prefix",
        "latent knowledge", "fluency", "membership inference", "sequential requests",
    ):  # fmt: skip
        assert found[name].passed, found[name]
    assert found["latent knowledge"].value == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def knows(checks: Checks) -> Checklist:
    """The checklist of the model before unlearning."""
    return evaluate_unlearning(checks.suite.base, checks)


def test_the_model_that_knows_fails_where_it_is_asked(knows: Checklist) -> None:
    found = knows
    for name in ("latent knowledge", "membership inference", "relearning"):
        assert found[name].passed is False, found[name]
    assert set(found.failed) >= {"latent knowledge", "membership inference", "relearning"}
    assert found["refusal"].value == 0
    frame = found.to_frame().set_index("name")
    assert frame.loc["few-shot", "value"] == pytest.approx(frame.loc["few-shot", "base"])


def test_what_is_not_given_is_not_measured_and_not_passed(knows: Checklist) -> None:
    for name in ("two-hop questions", "general disruption", "over-refusal"):
        assert knows[name].passed is None
        assert np.isnan(knows[name].value)


def test_min_k_is_the_mean_of_the_unlikeliest_tokens(checks: Checks) -> None:
    model: HookedModel = checks.suite.base
    one = FORGET[:1]
    batch = make_batch(model, one)
    with torch.no_grad():
        logprobs = model.module(batch.ids).logits[0].log_softmax(-1)
    answer = batch.answer[0].nonzero()[:, 0]
    values = np.sort([float(logprobs[k - 1, batch.ids[0, k]]) for k in answer])
    assert min_k(model, one, share=0.5)[0] == pytest.approx(values[:2].mean(), rel=1e-4)
    assert membership_auroc(model, FORGET, OTHERS) == 1
    assert membership_auroc(model, OTHERS, FORGET) == 0
