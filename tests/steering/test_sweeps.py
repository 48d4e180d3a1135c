"""Sweeps: the shared computation gives what two passes per coefficient through hooks give."""

import numpy as np
import pytest
import torch

from interp import HookedModel, Window
from steering import (
    Contests,
    Item,
    SteeringVector,
    SweepPlan,
    choices,
    operators,
    sweep,
    sweep_layers,
)
from steering.propensity import letter_choices, tokenize_continuations
from steering.resuming import Resuming
from steering.sweep_results import merged

CONTESTS = Contests(
    prompts=("the sky is", "the sky is", "a", "another prompt"),
    positive=(" blue", " very blue", "bc", "!"),
    negative=(" red", " green", "b", "?"),
    reduce="mean",
)
COEFFICIENTS = (-1.0, 0.0, 0.5, 2.0)


def by_hooks(
    model: HookedModel, vector: SteeringVector, contests: Contests, rule: object, operator: object
) -> np.ndarray:
    """Propensities by one pass for each text and coefficient."""
    table = np.zeros((len(contests), len(COEFFICIENTS)))
    for sign, side in ((1, contests.positive), (-1, contests.negative)):
        for row, text in enumerate(tokenize_continuations(model, contests.prompts, side)):
            ids = torch.tensor([text.ids])
            for column, c in enumerate(COEFFICIENTS):
                with (
                    torch.no_grad(),
                    model.hooks.prompts(torch.tensor([text.n_prompt])),
                    vector.applied(model, coefficient=c, positions=rule, operator=operator),  # type: ignore[arg-type]
                ):
                    logits = model.module(ids).logits[0].log_softmax(-1)
                steps = range(text.n_prompt - 1, len(text.ids) - 1)
                found = [float(logits[k, text.ids[k + 1]]) for k in steps]
                table[row, column] += sign * (
                    np.mean(found) if contests.reduce == "mean" else sum(found)
                )
    return table


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("rule", "operator"),
    [
        (Window(start=-1), operators.add),
        ("last", operators.add),
        ("all", operators.ablate_then_add),
        ("generated", operators.rotate),
        ("prompt", operators.add),
    ],
)
@pytest.mark.parametrize(("site", "layers"), [("resid_post", (1,)), ("mlp_out", (0, 2))])
def test_sweep_equals_passes_through_hooks(
    fixture: str,
    rule: object,
    operator: operators.Operator,
    site: str,
    layers: tuple[int, ...],
    vector: torch.Tensor,
    request: pytest.FixtureRequest,
) -> None:
    model: HookedModel = request.getfixturevalue(fixture)
    steer = SteeringVector(values=dict.fromkeys(layers, vector), site=site)
    got = sweep(
        model,
        steer,
        CONTESTS,
        coefficients=COEFFICIENTS,
        positions=rule,
        operator=operator,  # type: ignore[arg-type]
    )
    expected = by_hooks(model, steer, CONTESTS, rule, operator)
    np.testing.assert_allclose(got.propensity, expected, atol=1e-4)
    assert not model.hooks.active


def test_slopes_are_those_of_polyfit(llama: HookedModel, vector: torch.Tensor) -> None:
    result = sweep(llama, SteeringVector(values={1: vector}), CONTESTS)
    expected = np.polyfit(result.coefficients, result.propensity.T, 1)[0]
    np.testing.assert_allclose(result.slopes, expected, atol=1e-8)
    assert result.slope.value == pytest.approx(expected.mean())
    assert result.anti_steerable.value == pytest.approx((expected < 0).mean())


def test_layers_share_the_unsteered_pass(llama: HookedModel, vector: torch.Tensor) -> None:
    steer = SteeringVector(values={0: vector, 2: -vector})
    together = sweep_layers(llama, steer, CONTESTS, coefficients=COEFFICIENTS)
    for layer in steer.layers:
        alone = sweep(llama, steer.at(layer), CONTESTS, coefficients=COEFFICIENTS)
        np.testing.assert_allclose(together[layer].propensity, alone.propensity, atol=1e-5)


def test_texts_that_are_not_steered_have_no_slope(llama: HookedModel, vector: torch.Tensor) -> None:
    result = sweep(llama, SteeringVector(values={1: vector}), CONTESTS, positions=Window(start=50))
    np.testing.assert_allclose(result.slopes, 0, atol=1e-9)


def test_trees_of_any_size_give_the_same(llama: HookedModel, vector: torch.Tensor) -> None:
    steer = SteeringVector(values={1: vector})
    small = SweepPlan(llama, CONTESTS, layers=(1,), max_tokens=20).run(steer)
    np.testing.assert_allclose(
        small.propensity, sweep(llama, steer, CONTESTS).propensity, atol=1e-5
    )
    with pytest.raises(ValueError, match="not made for layers"):
        SweepPlan(llama, CONTESTS, layers=(1,)).run(SteeringVector(values={2: vector}))


def test_blocks_are_as_before_after_an_error(llama: HookedModel) -> None:
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        expected = llama.module(ids).logits
    with (
        pytest.raises(RuntimeError, match="stop"),
        Resuming(llama).behind(2, torch.zeros(1, 3, 32)),
    ):
        raise RuntimeError("stop")
    assert all("forward" not in block.__dict__ for block in llama.module.model.layers)
    with torch.no_grad():
        assert torch.equal(llama.module(ids).logits, expected)


def items(n: int = 6) -> list[Item]:
    pairs = [("(A)", "(B)"), ("(B)", "(A)")]
    text = "Q{}?\n\nChoices:\n (A) one\n (B) two"
    return [
        Item(question=text.format(k), matching=pairs[k % 2][0], not_matching=pairs[k % 2][1])
        for k in range(n)
    ]


def test_multiple_choice_is_the_logit_difference_of_the_answers(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    contests = choices(llama, items())
    result = sweep(llama, SteeringVector(values={1: vector}), contests, coefficients=(0.0, 1.0))
    ids = llama.tokenizer(contests.prompts[0])["input_ids"]
    with torch.no_grad():
        logits = llama.module(torch.tensor([ids])).logits[0, -1]
    a, b = (llama.tokenizer(x)["input_ids"][0] for x in "AB")
    assert result.propensity[0, 0] == pytest.approx(float(logits[a] - logits[b]), abs=1e-4)


def test_answers_of_several_tokens_are_refused_unless_the_whole_answer_is_scored(
    llama: HookedModel,
) -> None:
    item = Item(question="Kind?", matching="Yes", not_matching="No", statement="I am kind")
    with pytest.raises(ValueError, match=r"' Yes' is 4 tokens .* whole_answer=True"):
        choices(llama, [item])
    whole = choices(llama, items(2), whole_answer=True)
    assert (whole.positive[0], whole.negative[0]) == (" one", " two")
    assert whole.prompts[0].endswith("Answer:")


def test_letters_are_balanced_in_chat_choices(llama: HookedModel) -> None:
    answers = [("Yes", "No"), ("No", "Yes")] * 4
    made = [
        Item(question=f"Kind {k}?", matching=a, not_matching=b) for k, (a, b) in enumerate(answers)
    ]
    contests = letter_choices(llama, made)
    assert contests.prompts[0].endswith("(A): Yes\n(B): No</s>\n<s>assistant\n(")
    assert contests.positive == ("A", "A", "B", "B", "A", "A", "B", "B")
    assert contests.first_answer is not None
    assert contests.first_answer.tolist() == [True, True, False, False] * 2


def test_trait_and_answer_bias_are_told_apart() -> None:
    result = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 1.2], [0.0, -0.8]])
    made = sweep_result(result, np.array([True, False, True, False]))
    assert made.slope.value == pytest.approx(0.1)
    assert made.trait.value == pytest.approx(0.1)
    assert made.bias is not None
    assert made.bias.value == pytest.approx(1.0)


def sweep_result(propensity: np.ndarray, first: np.ndarray | None = None) -> "object":
    from steering import SweepResult

    return SweepResult(
        coefficients=np.array([0.0, 1.0]),
        positive=propensity,
        negative=np.zeros_like(propensity),
        first_answer=first,
    )


def test_results_merge_and_become_frames_and_figures(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    result = sweep(llama, SteeringVector(values={1: vector}), CONTESTS)
    both = merged([result, result])
    assert len(both.to_frame()) == 2 * 4 * 7
    figure = result.plot()
    assert "coefficient" in figure.layout.xaxis.title.text
    with pytest.raises(ValueError, match="do not merge"):
        merged(
            [
                result,
                sweep(llama, SteeringVector(values={1: vector}), CONTESTS, coefficients=(0.0, 1.0)),
            ]
        )


def test_several_vectors_together_are_swept_as_each_alone(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    plan = SweepPlan(llama, CONTESTS, layers=(1, 2))
    vectors = {
        name: SteeringVector(values={1: a * vector, 2: b * vector.flip(0)})
        for name, a, b in (("first", 1.0, 0.5), ("second", -0.3, 2.0), ("third", 0.7, -1.0))
    }
    for operator in (operators.add, operators.clamp):
        options = {"coefficients": COEFFICIENTS, "operator": operator}
        together = plan.run_all(vectors, **options)
        for name, steer in vectors.items():
            alone = by_hooks(llama, steer, CONTESTS, Window(start=-1), operator)
            np.testing.assert_allclose(together[name].propensity, alone, atol=1e-4)
    with pytest.raises(ValueError, match="different layers"):
        plan.run_all({"a": vectors["first"], "b": vectors["second"].at(1)})
