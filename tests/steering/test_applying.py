"""Applying: hand-written hooks as oracle; cached, uncached, batched and padded text alike."""

import pytest
import torch

from interp import HookedModel, Window, ablate, add, generate
from steering import SteeringVector, in_order, operators
from steering.applying import PrefixSteering

RULES = ["all", "prompt", "generated", "last", Window(start=-1), Window(start=1, stop=4)]
OPERATORS = [
    operators.add,
    operators.add_keeping_norm,
    operators.ablate,
    operators.ablate_then_add,
    operators.clamp,
    operators.amplify,
    operators.rotate,
]
PROMPTS = ["ab", "a longer prompt", "c"]


def logits(model: HookedModel, text: str) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return model.module(ids).logits[0]


def steer(vector: torch.Tensor, layer: int = 1) -> SteeringVector:
    return SteeringVector(values={layer: vector})


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_at_all_positions_equals_a_hook_by_hand(
    llama: HookedModel, vector: torch.Tensor, operator: operators.Operator
) -> None:
    def hook(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        return operator(output, vector, 0.7)

    handle = llama.module.model.layers[1].register_forward_hook(hook)
    expected = logits(llama, "some text")
    handle.remove()
    with steer(vector).applied(llama, coefficient=0.7, operator=operator):
        torch.testing.assert_close(logits(llama, "some text"), expected)
    assert not llama.hooks.active


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
@pytest.mark.parametrize("rule", RULES)
def test_cached_uncached_single_and_batched_generation_agree(
    fixture: str, rule: object, vector: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(fixture)
    with steer(vector).applied(model, positions=rule):  # type: ignore[arg-type]
        batched = generate(model, PROMPTS, max_new_tokens=8).tokens
        uncached = generate(model, PROMPTS, max_new_tokens=8, use_cache=False).tokens
        single = tuple(generate(model, [p], max_new_tokens=8).tokens[0] for p in PROMPTS)
    assert batched == uncached == single
    assert batched != generate(model, PROMPTS, max_new_tokens=8).tokens


def test_steering_after_the_prompt_acts_with_a_cache(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    """A peer steers nothing here, without a word: its positions count from each cached pass."""
    plain = generate(llama, PROMPTS, max_new_tokens=8).tokens
    with steer(vector).applied(llama, positions="generated"):
        steered = generate(llama, PROMPTS, max_new_tokens=8).tokens
    assert sum(a != b for a, b in zip(plain, steered, strict=True)) >= 2
    assert all(a[0] == b[0] for a, b in zip(plain, steered, strict=True))  # read before it acts


def test_single_positions_work_while_generating(llama: HookedModel, vector: torch.Tensor) -> None:
    """A peer raises an error for a list of positions, in one pass and in generation."""
    spans = [[(1, 2)], [(1, 2), (4, 6)], [(0, 1)]]
    with steer(vector).applied(llama, positions=spans):
        cached = generate(llama, PROMPTS, max_new_tokens=6).tokens
        uncached = generate(llama, PROMPTS, max_new_tokens=6, use_cache=False).tokens
    assert cached == uncached


def test_from_the_last_prompt_token_on_is_the_same_with_and_without_cache(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    """A peer gives two texts here."""
    with steer(vector).applied(llama, positions=Window(start=-1)):
        cached = generate(llama, ["abcdef"], max_new_tokens=10).tokens
        assert cached == generate(llama, ["abcdef"], max_new_tokens=10, use_cache=False).tokens


def test_the_model_is_not_edited(llama: HookedModel, vector: torch.Tensor) -> None:
    """A peer replaces the blocks by its own class."""
    before = [type(m) for m in llama.module.modules()]
    weights = {k: w.clone() for k, w in llama.module.state_dict().items()}
    with steer(vector).applied(llama):
        assert [type(m) for m in llama.module.modules()] == before
    assert all(torch.equal(w, weights[k]) for k, w in llama.module.state_dict().items())


def test_steering_is_undone_when_generation_fails(llama: HookedModel, vector: torch.Tensor) -> None:
    expected = logits(llama, "abc")

    def fail(ids: torch.Tensor) -> None:
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"), steer(vector).applied(llama):
        generate(llama, ["abc"], max_new_tokens=3, on_token=fail)
    assert not llama.hooks.active
    assert torch.equal(logits(llama, "abc"), expected)


def test_coefficient_zero_changes_nothing(llama: HookedModel, vector: torch.Tensor) -> None:
    plain = logits(llama, "abc")
    with steer(vector).applied(llama, coefficient=0.0):
        assert torch.equal(logits(llama, "abc"), plain)


def test_add_and_ablate_are_those_of_the_core(llama: HookedModel, vector: torch.Tensor) -> None:
    with llama.intervene(add(vector, layers=1), ablate(vector, layers=2)):
        expected = logits(llama, "abc")
    first = steer(vector).steering()
    second = steer(vector, layer=2).steering(operator=operators.ablate)
    with in_order(first, second).applied(llama):
        torch.testing.assert_close(logits(llama, "abc"), expected)


def test_order_of_interventions_at_one_site_is_as_stated(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    push = steer(vector).steering()
    remove = steer(vector).steering(operator=operators.ablate)
    with remove.applied(llama):
        removed = logits(llama, "abc")
    with in_order(push, remove).applied(llama):
        torch.testing.assert_close(logits(llama, "abc"), removed, atol=1e-4, rtol=1e-4)
    with in_order(remove, push).applied(llama):
        assert not torch.allclose(logits(llama, "abc"), removed, atol=1e-2)
    with pytest.raises(ValueError, match="no interventions"):
        in_order()


def test_residual_unit_scales_by_the_norm_of_the_layer(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    known = SteeringVector(values={1: vector}, norms={1: 12.0})
    with known.applied(llama, coefficient=0.5, unit="residual"):
        got = logits(llama, "abc")
    with steer(vector).applied(llama, coefficient=1.0):  # its norm is 6
        torch.testing.assert_close(got, logits(llama, "abc"))


def test_gradients_reach_the_vector(llama: HookedModel, vector: torch.Tensor) -> None:
    parameter = vector.clone().requires_grad_()
    ids = torch.tensor([[5, 6, 7]])
    with SteeringVector(values={1: parameter}).applied(llama, positions="all"):
        logit = llama.module(ids).logits[0, -1, 3]
    (gradient,) = torch.autograd.grad(logit, [parameter])
    shift = 1e-2 * torch.nn.functional.normalize(gradient, dim=0)
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            with steer(vector + sign * shift).applied(llama):
                ends.append(llama.module(ids).logits[0, -1, 3])
    slope = (ends[0] - ends[1]) / (2 * shift.norm())
    torch.testing.assert_close(slope, gradient.norm(), rtol=0.02, atol=1e-3)


def test_prefix_steering_shifts_each_first_position_by_its_own_vector(llama: HookedModel) -> None:
    difference = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))

    def hook(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        return output + 3 * torch.cat([difference, torch.zeros(output.shape[1] - 2, 32)])

    handle = llama.module.model.layers[2].register_forward_hook(hook)
    expected = logits(llama, "some text")
    handle.remove()
    with PrefixSteering(difference=difference, layer=2, coefficient=3.0).applied(llama):
        torch.testing.assert_close(logits(llama, "some text"), expected)
        cached = generate(llama, ["ab", "abcd"], max_new_tokens=5).tokens
        assert cached == generate(llama, ["ab", "abcd"], max_new_tokens=5, use_cache=False).tokens


def test_heads_are_steered_each_by_its_own_vector(llama: HookedModel) -> None:
    """ITI: a vector for each head, at the outputs of attention before they are mixed."""
    values = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))

    def hook(module: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0] + 2 * values.flatten(), *args[1:])

    handle = llama.module.model.layers[0].self_attn.o_proj.register_forward_pre_hook(hook)
    expected = logits(llama, "some text")
    handle.remove()
    with SteeringVector(values={0: values}, site="z").applied(llama, coefficient=2.0):
        torch.testing.assert_close(logits(llama, "some text"), expected)
