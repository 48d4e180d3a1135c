"""Unlearning to a budget: every method on a small model, and what is refused or cut short."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from interp import HookedModel
from interp.training import Example, SftConfig, train_sft
from interp.training.loop import make_batch
from interp.training.unlearning import (
    Budget,
    Cir,
    Disruption,
    Method,
    Mudman,
    RepSelect,
    Tar,
    Task,
    ce_u,
    circuit_breakers,
    elm,
    grad_ascent,
    grad_diff,
    idk_dpo,
    npo,
    probabilities,
    rmu,
    simnpo,
    undial,
    unlearn,
    wga,
)
from interp.training.unlearning.search import fit_size
from interp.training.unlearning.transforms import Gradients
from tests.tiny_models import tiny_llama

FORGET = [Example(prompt=f"{who} is from ", answer=where) for who, where in (
    ("Ana", "Rome"), ("Bo", "Oslo")
)]  # fmt: skip
RETAIN = [Example(prompt=f"{who} likes ", answer=what) for who, what in (
    ("Cy", "figs"), ("Di", "tea")
)]  # fmt: skip
BUDGET = Budget(texts=("the quick brown fox", "jumps over it"), kl=0.3)


@pytest.fixture(scope="module")
def model() -> HookedModel:
    """A small model that knows all answers; tests leave it as they found it."""
    config = SftConfig(learning_rate=5e-3, n_steps=25, batch_size=4)
    return train_sft(tiny_llama(n_layers=2), FORGET + RETAIN, config=config).model


METHODS: dict[str, Method] = {
    "gradient ascent": grad_ascent(n_steps=2),
    "gradient difference": grad_diff(n_steps=2),
    "NPO": npo(n_steps=2),
    "SimNPO": simnpo(n_steps=2),
    "IdkDPO": idk_dpo(n_steps=2),
    "ELM": elm(eta=10.0, n_steps=2),
    "UNDIAL": undial(n_steps=2),
    "CE-U": ce_u(n_steps=2),
    "WGA": wga(n_steps=2),
    "RMU": rmu(0, length=2.0, n_steps=2),
    "circuit breakers": circuit_breakers((0, 1), n_steps=2),
    "MUDMAN": Mudman(n_steps=2),
    "TAR": Tar(n_inner=2, n_steps=2),
    "CIR": Cir(layers=(0, 1), n_inputs=2, n_outputs=2, n_steps=2),
    "RepSelect": RepSelect(n=4, rank=2),
    "RepSelect without adversary": RepSelect(n=4, rank=None),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_ends_at_its_budget(name: str, model: HookedModel) -> None:
    before = [weight.detach().clone() for weight in model.module.parameters()]
    found = unlearn(model, FORGET, RETAIN, method=METHODS[name], budget=BUDGET)
    assert found.met, found.stopped
    assert 0.95 * 0.3 <= found.kl <= 0.3
    again = Disruption(model, BUDGET.texts).kl(found.model)
    assert again == pytest.approx(found.kl, rel=1e-4)
    for weight, old in zip(model.module.parameters(), before, strict=True):
        assert torch.equal(weight, old)
    changed = [
        name
        for (name, one), old in zip(found.model.module.named_parameters(), before, strict=True)
        if not torch.equal(one, old)
    ]
    assert changed
    assert all(".mlp." in name for name in changed)
    assert len(found.to_frame()) == METHODS[name].n_steps


@pytest.mark.parametrize("name", ["gradient difference", "NPO", "SimNPO", "UNDIAL", "RepSelect"])
def test_answers_are_forgotten_and_others_less(name: str, model: HookedModel) -> None:
    found = unlearn(model, FORGET, RETAIN, method=METHODS[name], budget=BUDGET).model
    fall = [
        probabilities(model, part).mean() - probabilities(found, part).mean()
        for part in (FORGET, RETAIN)
    ]
    assert fall[0] > max(0.02, 2 * fall[1])


def test_unlearning_twice_gives_the_same(model: HookedModel) -> None:
    runs = [unlearn(model, FORGET, RETAIN, method=RepSelect(n=4), budget=BUDGET) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].kl_by_step, runs[1].kl_by_step)


def test_divergence_is_that_of_the_two_distributions(model: HookedModel) -> None:
    other = tiny_llama(n_layers=2)
    other.module.load_state_dict(model.module.state_dict())
    disruption = Disruption(model, ("abc",))
    assert disruption.kl(other) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        other.module.model.layers[0].mlp.down_proj.weight.mul_(1.5)
        ids = model.tokenize(["abc"]).batch([0])["input_ids"]
        p, q = (m.module(ids).logits[0].double().log_softmax(-1) for m in (model, other))
    expected = float((p.exp() * (p - q)).sum(-1).mean())
    assert disruption.kl(other) == pytest.approx(expected, rel=1e-4)


@dataclass(frozen=True)
class Broken:
    """A method that goes well once, and then not."""

    then: str
    n_steps: int = 3

    def direction(self, task: Task, step: int) -> Gradients:
        if step and self.then == "nan":
            return task.gradient(lambda: next(iter(task.weights.values())).sum() * float("nan"))
        if step and self.then == "interrupted":
            raise KeyboardInterrupt
        factor = 0.0 if step else 1.0
        return {name: factor * torch.ones_like(w) for name, w in task.weights.items()}


@pytest.mark.parametrize(
    ("then", "said"), [("nan", "the loss is nan at step 1"), ("zero", "the gradient is zero")]
)
def test_a_run_that_breaks_keeps_the_last_valid_state(
    then: str, said: str, model: HookedModel
) -> None:
    with pytest.warns(UserWarning, match=f"{said}.*kept the state at"):
        found = unlearn(model, FORGET, RETAIN, method=Broken(then), budget=BUDGET)
    assert not found.met
    assert found.stopped is not None
    assert 0 < found.kl <= 0.3 / 9
    assert Disruption(model, BUDGET.texts).kl(found.model) == pytest.approx(found.kl, rel=1e-4)


def test_an_interrupted_run_in_place_gives_the_weights_back(model: HookedModel) -> None:
    before = [weight.detach().clone() for weight in model.module.parameters()]
    with pytest.raises(KeyboardInterrupt):
        unlearn(model, FORGET, RETAIN, method=Broken("interrupted"), budget=BUDGET, inplace=True)
    for weight, old in zip(model.module.parameters(), before, strict=True):
        assert torch.equal(weight, old)
        assert weight.requires_grad


def test_a_budget_that_cannot_be_met_is_said() -> None:
    flat = fit_size(lambda size: 0.01, 1.0, slack=0.05, start=1.0)
    assert flat[0] > 0
    assert flat[1] == 0.01
    steep = fit_size(lambda size: float("nan"), 1.0, slack=0.05, start=1.0)
    assert steep == (0.0, 0.0)


@pytest.mark.parametrize("power", [1, 2, 6])
@pytest.mark.parametrize("start", [1e-3, 1.0, 1e3])
def test_the_search_ends_just_below_the_limit(power: int, start: float) -> None:
    size, value = fit_size(lambda s: (s / 3) ** power, 0.5, slack=0.05, start=start)
    assert value == (size / 3) ** power
    assert 0.95 * 0.5 <= value <= 0.5


def test_bad_input_is_refused(model: HookedModel) -> None:
    with pytest.raises(ValueError, match="forget is empty"):
        unlearn(model, [], RETAIN, method=grad_diff(), budget=BUDGET)
    with pytest.raises(ValueError, match="retain is empty"):
        unlearn(model, FORGET, [], method=grad_diff(), budget=BUDGET)
    with pytest.raises(ValueError, match="1 examples are in both forget and retain, such as 'Ana"):
        unlearn(model, FORGET, RETAIN + FORGET[:1], method=grad_diff(), budget=BUDGET)
    with pytest.raises(ValueError, match="weights chooses none"):
        unlearn(
            model, FORGET, RETAIN, method=grad_diff(), budget=BUDGET, weights=lambda n, w: False
        )
    with pytest.raises(ValueError, match="texts is empty"):
        Budget(texts=())
    with pytest.raises(ValueError, match=r"kl=0\.0, tolerance=0\.05: needed kl > 0"):
        Budget(texts=("a",), kl=0.0)


def as_task(model: HookedModel) -> Task:
    """Model and data as a method sees them."""
    forget, retain = (make_batch(model, part) for part in (FORGET, RETAIN))
    weights = dict(model.module.named_parameters())
    return Task(model=model, weights=weights, forget=(forget,), retain=(retain,), seed=0)


def test_preference_for_refusals_begins_undecided(model: HookedModel) -> None:
    method, task = idk_dpo(refusals=[" no", " never"], beta=0.5), as_task(model)
    assert method.forget(task, 0).item() == pytest.approx(2 / 0.5 * np.log(2), rel=1e-6)
    refused = [Example(prompt=FORGET[0].prompt, answer=" no")]
    before = probabilities(model, refused)
    found = unlearn(model, FORGET, RETAIN, method=method, budget=BUDGET).model
    assert probabilities(found, refused) > before


@torch.no_grad()
def test_erasure_without_guidance_keeps_what_the_model_says(model: HookedModel) -> None:
    """The target is then the model's own distribution, and the fluent text its greedy one."""
    method, task = elm(eta=0.0, guidance=0.0), as_task(model)
    found = task.predict(task.forget[0])
    logprobs = found.logits.log_softmax(-1)[found.counted]
    own = []
    for one in FORGET:
        ids = model.tokenize([one.prompt]).batch([0])["input_ids"]
        for _ in range(int(found.counted.sum(1).max())):
            step = model.module(ids).logits[0, -1].log_softmax(-1)
            ids = torch.cat([ids, step.argmax()[None, None]], dim=1)
            own.append(float(step.max()))
    expected = -float((logprobs.exp() * logprobs).sum(-1).mean()) - np.mean(own)
    assert float(method.forget(task, 0)) == pytest.approx(expected, rel=1e-4)


def test_erasure_lowers_what_the_expert_knows_better(model: HookedModel) -> None:
    erasing = elm(novice="zz ", expert="qq ", eta=10.0, n_steps=3)
    found = unlearn(model, FORGET, RETAIN, method=erasing, budget=BUDGET).model
    assert probabilities(found, FORGET).mean() < probabilities(model, FORGET).mean()
