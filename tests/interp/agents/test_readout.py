"""The readout, the tuning of choices and the patching of severity, on small random models."""

import numpy as np
import pytest
import torch

from interp import HookedModel
from interp.agents import (
    HookedBackend,
    Lesson,
    TuningConfig,
    decision_prompt,
    fit_readout,
    make_scenarios,
    patch_severity,
    tune_choices,
    with_readout,
)
from interp.agents.severity import log_odds
from tests.tiny_models import tiny_llama

pytestmark = pytest.mark.slow

OPTIONS = ("Yes", "No")


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return tiny_llama()


def test_readout_finds_planted_weights_and_none_in_noise() -> None:
    random = np.random.default_rng(0)
    states = torch.from_numpy(random.normal(size=(300, 12))).float()
    planted = torch.from_numpy(random.normal(size=12)).float() / 4
    wanted = (states @ planted).sigmoid().numpy().astype(float)
    groups = np.arange(300) % 5
    assert torch.allclose(fit_readout(states, wanted, groups), planted, atol=0.01)
    shuffled = random.permutation(wanted)
    assert fit_readout(states, shuffled, groups).norm() < planted.norm() / 3
    with pytest.raises(ValueError, match="strictly between"):
        fit_readout(states, np.ones(300), groups)


def test_model_with_a_readout_decides_by_it_and_else_is_the_same(model: HookedModel) -> None:
    messages = decision_prompt("A text.")
    weights = torch.linspace(-1, 1, 32)
    other = with_readout(model, weights, OPTIONS)
    seen = []
    hook = model.module.get_output_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0, -1])
    )
    before = HookedBackend(model).choice(messages, ("Y", "N"))
    hook.remove()
    odds = log_odds(HookedBackend(with_readout(model, weights, ("Y", "N"))), messages, ("Y", "N"))
    assert odds == pytest.approx(float(weights @ seen[0]), rel=1e-3)
    assert HookedBackend(model).choice(messages, ("Y", "N")).tolist() == before.tolist()
    tokens = torch.tensor([[5, 9, 40]])
    with torch.no_grad():
        old, new = (m.module(tokens).logits[..., 60:].clone() for m in (model, other))
    same = (old - new).abs().amax((0, 1)) == 0
    assert int((~same).sum()) <= 2
    with pytest.raises(ValueError, match="needed two"):
        with_readout(model, weights, ("A", "B", "C"))


def test_patching_everything_behind_the_threat_at_the_last_layer_restores_the_normal_run(
    model: HookedModel,
) -> None:
    scenarios = make_scenarios()[:2]
    pairs = [[decision_prompt(s.text(v)) for s in scenarios] for v in ("normal", "surrogate")]
    result = patch_severity(model, *pairs, ("Y", "N"), layers=[0, 3])
    backend = HookedBackend(model)
    odds = [[log_odds(backend, m, ("Y", "N")) for m in side] for side in pairs]
    assert result.difference == pytest.approx(np.subtract(*odds), abs=1e-5)
    assert result.recovered[:, 1] == pytest.approx(np.stack([result.difference] * 2), abs=1e-4)
    itself = patch_severity(model, pairs[1], pairs[1], ("Y", "N"), layers=[1])
    assert np.abs(itself.recovered).max() < 1e-5
    assert len(result.to_frame()) == 4
    assert model.hooks.active == ()
    with pytest.raises(ValueError, match="needed pairs"):
        patch_severity(model, pairs[0], [], ("Y", "N"), layers=[0])


def lessons() -> list[Lesson]:
    texts = {"burn": 0.9, "keep": 0.1}
    return [
        Lesson(
            messages=({"role": "user", "content": f"They {word} it. {k}"},),
            options=("Y", "N"),
            wanted=(p, 1 - p),
        )
        for word, p in texts.items()
        for k in range(4)
    ]


def test_tuning_teaches_choices_to_a_copy_and_repeats_itself(model: HookedModel) -> None:
    pytest.importorskip("peft", reason="the extra train is not installed")
    config = TuningConfig(n_steps=25, batch_size=4, lr=2e-2)
    before = HookedBackend(model).choice(lessons()[0].messages, ("Y", "N"))
    tuned, losses = tune_choices(model, lessons(), config=config, seed=1)
    assert losses[-5:].mean() < losses[:3].mean() / 2
    p = [HookedBackend(tuned).choice(one.messages, ("Y", "N"))[0] for one in lessons()]
    assert min(p[:4]) > 0.6
    assert max(p[4:]) < 0.4
    assert HookedBackend(model).choice(lessons()[0].messages, ("Y", "N")).tolist() == (
        before.tolist()
    )
    short = TuningConfig(n_steps=2, batch_size=2)
    runs = [tune_choices(model, lessons(), config=short, seed=1)[1] for _ in range(2)]
    assert runs[0].tolist() == runs[1].tolist()


def test_bad_lessons_are_named(model: HookedModel) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        Lesson(messages=(), options=("Y", "N"), wanted=(0.5, 0.6))
    with pytest.raises(ValueError, match="no lessons"):
        tune_choices(model, [])
    same = Lesson(messages=lessons()[0].messages, options=("Yes", "Y"), wanted=(1.0, 0.0))
    with pytest.raises(ValueError, match="same token"):
        tune_choices(model, [same])
