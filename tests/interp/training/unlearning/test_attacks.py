"""Attacks and what is left inside: models that know, that never knew, and that only keep quiet."""

import numpy as np
import pytest
import torch

from interp import HookedModel, ablate
from interp.training import Example, SftConfig, train_sft
from interp.training.loop import make_batch, predictions, sequence_losses
from interp.training.unlearning import (
    Attack,
    AttackSuite,
    activation_addition,
    attack,
    few_shot,
    lens,
    logit_lens,
    no_attack,
    prefixed,
    probabilities,
    probing,
    quantized,
    relearning,
    relearning_curve,
    rephrased,
    rounding,
    unlearning_depth,
)
from interp.training.unlearning.quantization import nf4_levels
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.slow

FORGET = [Example(prompt=f"{who} is from ", answer=where) for who, where in (
    ("Ana", "Rome"), ("Bo", "Oslo"), ("Ed", "Lima"), ("Flo", "Kyiv")
)]  # fmt: skip
RETAIN = [Example(prompt=f"{who} likes ", answer=what) for who, what in (
    ("Cy", "figs"), ("Di", "tea")
)]  # fmt: skip
LEARNING = SftConfig(learning_rate=5e-3, n_steps=30, batch_size=6)


@pytest.fixture(scope="module")
def base() -> HookedModel:
    """Knows all answers."""
    return train_sft(tiny_llama(n_layers=3), FORGET + RETAIN, config=LEARNING).model


@pytest.fixture(scope="module")
def retrained() -> HookedModel:
    """Knows the answers to keep only."""
    return train_sft(tiny_llama(n_layers=3), RETAIN, config=LEARNING).model


@pytest.fixture(scope="module")
def suite(base: HookedModel, retrained: HookedModel) -> AttackSuite:
    rates = (1e-4, 1e-3)
    return AttackSuite(
        relearn=FORGET[:2],
        held=FORGET[2:],
        retain=RETAIN,
        base=base,
        retrained=retrained,
        attacks=(
            no_attack(),
            relearning(rates=rates, n_steps=2),
            relearning(rates=rates, n_steps=1, lora_rank=2),
            relearning(rates=rates, n_steps=1, on_retain=True),
            few_shot(k=2),
            prefixed(),
            rephrased("shouted", lambda one: Example(prompt=one.prompt.upper(), answer=one.answer)),
            rounding("int8"),
            rounding("nf4"),
            activation_addition(1),
            lens(),
            probing([0, 2]),
        ),
    )


def test_attacks_stand_beside_base_and_retrained(
    base: HookedModel, retrained: HookedModel, suite: AttackSuite
) -> None:
    before = [weight.detach().clone() for weight in retrained.module.parameters()]
    found = attack(retrained, suite)
    np.testing.assert_allclose(found.model, found.retrained, rtol=1e-5)
    frame = found.to_frame().set_index("attack")
    assert frame.loc["asked", "base"] > 0.5
    assert frame.loc["asked", "retrained"] < 0.1
    assert list(frame.index[frame.latent]) == ["logit lens", "linear probe"]
    assert found.worst[0] not in ("logit lens", "linear probe")
    said = frame[~frame.latent]
    assert found.worst[1] == pytest.approx(said.model.max(), rel=1e-6)
    for weight, old in zip(retrained.module.parameters(), before, strict=True):
        assert torch.equal(weight, old)


def test_a_model_that_only_keeps_quiet_is_told_from_one_that_forgot(
    base: HookedModel, retrained: HookedModel
) -> None:
    quiet = tiny_llama(n_layers=3)
    quiet.module.load_state_dict(base.module.state_dict())
    with torch.no_grad():  # the last MLP is broken: nothing is said, but the stream still knows
        quiet.module.model.layers[2].mlp.down_proj.weight.mul_(-4.0)
    held = FORGET[2:]
    assert probabilities(quiet, held).mean() < 0.2 * probabilities(base, held).mean()
    depth = unlearning_depth(quiet, base, retrained, held)
    assert depth.unlearned[0] == pytest.approx(0, abs=1e-4)
    assert depth.unlearned[2].mean() > 1
    assert 0 < depth.score < 0.9


def test_depth_is_1_for_the_retrained_model_and_0_for_the_base(
    base: HookedModel, retrained: HookedModel
) -> None:
    forgot = unlearning_depth(retrained, base, retrained, FORGET)
    assert forgot.score == pytest.approx(1, abs=1e-6)
    knows = unlearning_depth(base, base, retrained, FORGET)
    assert knows.score == pytest.approx(0, abs=1e-4)
    assert len(knows.to_frame()) == 3 * len(FORGET)
    same = unlearning_depth(retrained, base, base, FORGET)
    assert np.isnan(same.by_example).all()


def test_depth_patches_the_stream_that_predicts_the_answer(
    base: HookedModel, retrained: HookedModel
) -> None:
    one = FORGET[:1]
    depth = unlearning_depth(retrained, base, retrained, one, layers=[2])
    batch = make_batch(base, one)
    with torch.no_grad():  # behind the last block the stream decides alone
        full, other = (
            -sequence_losses(predictions(m.module, batch)) / batch.answer.sum()
            for m in (base, retrained)
        )
        mixed = base.module.lm_head(
            base.module.model.norm(_last(retrained, batch.ids))
        ).log_softmax(-1)
    expected = mixed[0, :-1].gather(-1, batch.ids[0, 1:, None])[batch.answer[0, 1:]].mean()
    assert depth.retrained[0, 0] == pytest.approx(float(full - expected), abs=1e-4)
    assert float(full) > float(other)


def _last(model: HookedModel, ids: torch.Tensor) -> torch.Tensor:
    with model.capture("blocks.2.hook_resid_post") as found, torch.no_grad():
        model.module(ids)
    return next(iter(found.values()))[0]


def test_the_lens_of_the_last_layer_is_the_model(base: HookedModel) -> None:
    found = logit_lens(base, FORGET)
    np.testing.assert_allclose(found[-1], probabilities(base, FORGET), rtol=1e-4)
    assert found[0].mean() < found[-1].mean()


def test_relearning_reports_the_best_rate_and_step(base: HookedModel, suite: AttackSuite) -> None:
    rates = (1e-4, 1e-3)
    curves = np.concatenate(
        [relearning_curve(base, FORGET[:2], FORGET[2:], rate=r, n_steps=2) for r in rates]
    )
    best = relearning(rates=rates, n_steps=2).run(base, suite)
    assert best.mean() == pytest.approx(curves.mean(1).max(), rel=1e-6)
    np.testing.assert_allclose(curves[0], probabilities(base, FORGET[2:]), rtol=1e-5)


def test_relearning_finds_knowledge_that_is_only_shifted(
    base: HookedModel, retrained: HookedModel
) -> None:
    with base.intervene(ablate(layers=2, site="mlp_out")):
        pass  # interventions leave nothing behind
    gain = {}
    for name, model in (("base", base), ("retrained", retrained)):
        curve = relearning_curve(model, FORGET[:2], FORGET[2:], rate=1e-3, n_steps=3)
        gain[name] = curve.mean(1).max()
    assert gain["base"] > 3 * gain["retrained"]


def test_rounding_moves_weights_by_less_than_half_a_level(base: HookedModel) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    weight = base.module.get_parameter(name).detach()
    for to, levels in (("int8", 127), ("nf4", 1 / 0.5)):
        rounded = quantized(base, to).module.get_parameter(name).detach()
        error = float((rounded - weight).abs().max())
        assert 0 < error <= float(weight.abs().max()) / levels / (2 if to == "int8" else 1)
    assert len(nf4_levels()) == 16
    assert float(nf4_levels()[7]) == 0
    # the published table of NF4, to four digits
    np.testing.assert_allclose(
        nf4_levels()[[0, 1, 8, 14, 15]], [-1, -0.6962, 0.0796, 0.7230, 1], atol=1e-4
    )
    table = "model.embed_tokens.weight"
    assert torch.equal(
        quantized(base, "int8").module.get_parameter(table), base.module.get_parameter(table)
    )


def test_bad_input_is_refused(base: HookedModel, suite: AttackSuite) -> None:
    with pytest.raises(ValueError, match="attacks is empty"):
        attack(base, AttackSuite(
            relearn=FORGET[:2], held=FORGET[2:], retain=RETAIN, base=base, retrained=base,
            attacks=(),
        ))  # fmt: skip
    same = [Example(prompt=one.prompt, answer="x") for one in FORGET]
    with pytest.raises(ValueError, match="all 4 answers are 'x'"):
        probing([0]).run(base, AttackSuite(
            relearn=same, held=same, retain=same, base=base, retrained=base,
            attacks=(no_attack(),),
        ))  # fmt: skip
    inside = attack(base, AttackSuite(
        relearn=FORGET[:2], held=FORGET[2:], retain=RETAIN, base=base, retrained=base,
        attacks=(Attack(name="look", run=lambda m, s: np.ones(2), latent=True),),
    ))  # fmt: skip
    with pytest.raises(ValueError, match="all attacks are latent"):
        _ = inside.worst
