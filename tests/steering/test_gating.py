"""Conditional steering: a decision for each example, alike in a batch and alone."""

import pytest
import torch

from interp import HookedModel, Records, Span, extract, generate
from steering import Gate, MapSteering, SteeringVector, fit_gate
from steering.gating import cast_similarity, cosine_similarity

PROMPTS = ["aaaa bbbb", "zzzz yyyyyy xx", "aab bba", "zyx"]


def means(model: HookedModel, prompts: list[str], layer: int) -> torch.Tensor:
    acts = extract(model, prompts, layers=layer, pooling="mean", positions=Span())
    return acts.matrix


def half_open(model: HookedModel, direction: torch.Tensor) -> Gate:
    """A gate that opens for half of the prompts."""
    score = cosine_similarity(direction)
    scores = score(means(model, PROMPTS, 1))
    return Gate(score=score, threshold=float(scores.median()) + 1e-4, layer=1)


def test_open_rows_are_steered_and_closed_rows_are_not(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    gate, steer = half_open(llama, torch.ones(32)), SteeringVector(values={2: vector})
    is_open = gate.decide(means(llama, PROMPTS, 1)).tolist()
    assert 0 < sum(is_open) < len(PROMPTS)
    plain = generate(llama, PROMPTS, max_new_tokens=8).tokens
    with steer.applied(llama):
        full = generate(llama, PROMPTS, max_new_tokens=8).tokens
    with steer.applied(llama, gate=gate):
        gated = generate(llama, PROMPTS, max_new_tokens=8).tokens
        uncached = generate(llama, PROMPTS, max_new_tokens=8, use_cache=False).tokens
        single = tuple(generate(llama, [p], max_new_tokens=8).tokens[0] for p in PROMPTS)
    assert gated == uncached == single
    for row, opened in enumerate(is_open):
        assert gated[row] == (full[row] if opened else plain[row])


def test_joined_gates_open_where_their_conditions_hold(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    scores = [cosine_similarity(torch.ones(32)), cosine_similarity(torch.arange(32.0) - 16)]
    layers, opens, gates = (1, 0), [], []
    for score, layer in zip(scores, layers, strict=True):
        found = score(means(llama, PROMPTS, layer))
        gates.append(Gate(score=score, threshold=float(found.median()) + 1e-5, layer=layer))
        opens.append((found > gates[-1].threshold).tolist())
    first, second = gates
    rules = {
        "and": (first & second, [a and b for a, b in zip(*opens, strict=True)]),
        "or": (first | second, [a or b for a, b in zip(*opens, strict=True)]),
        "not": (~(first | ~second), [not a and b for a, b in zip(*opens, strict=True)]),
    }
    steer = SteeringVector(values={2: vector})
    plain = generate(llama, PROMPTS, max_new_tokens=4).tokens
    with steer.applied(llama):
        full = generate(llama, PROMPTS, max_new_tokens=4).tokens
    assert plain != full
    for name, (gate, is_open) in rules.items():
        with steer.applied(llama, gate=gate):
            gated = generate(llama, PROMPTS, max_new_tokens=4).tokens
            alone = tuple(generate(llama, [p], max_new_tokens=4).tokens[0] for p in PROMPTS)
        expected = [f if o else p for p, f, o in zip(plain, full, is_open, strict=True)]
        assert list(gated) == list(alone) == expected, name
    assert not llama.hooks.active
    with (
        pytest.raises(ValueError, match=r"the gate reads blocks.1"),
        SteeringVector(values={0: vector}).applied(llama, gate=first & second),
    ):
        pass


def test_maps_act_behind_gates_too(llama: HookedModel) -> None:
    gate = half_open(llama, torch.ones(32))
    is_open = gate.decide(means(llama, PROMPTS, 1)).tolist()
    plain = generate(llama, PROMPTS, max_new_tokens=4).tokens
    with MapSteering(maps={2: lambda h: -h}, gate=gate).applied(llama):
        gated = generate(llama, PROMPTS, max_new_tokens=4).tokens
    assert [a != b for a, b in zip(plain, gated, strict=True)] == is_open


def test_gate_at_the_steered_layer_reads_before_it_is_steered(
    llama: HookedModel, vector: torch.Tensor
) -> None:
    gate, steer = half_open(llama, torch.ones(32)), SteeringVector(values={1: 5 * vector})
    is_open = gate.decide(means(llama, PROMPTS, 1)).tolist()
    plain = generate(llama, PROMPTS, max_new_tokens=4).tokens
    with steer.applied(llama, gate=gate):
        gated = generate(llama, PROMPTS, max_new_tokens=4).tokens
    assert [a != b for a, b in zip(plain, gated, strict=True)] == is_open


def test_gate_above_a_steered_layer_is_refused(llama: HookedModel, vector: torch.Tensor) -> None:
    gate = Gate(score=cosine_similarity(vector), threshold=0.0, layer=3)
    steer = SteeringVector(values={1: vector})
    with (
        pytest.raises(ValueError, match=r"the gate reads blocks.3"),
        steer.applied(llama, gate=gate),
    ):
        pass


def test_cast_similarity_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    h, c = torch.randn(3, 8, generator=generator), torch.randn(8, generator=generator)
    matrix = torch.outer(c, c) / (c @ c)
    expected = [torch.cosine_similarity(x, torch.tanh(matrix @ x), dim=0) for x in h]
    torch.testing.assert_close(cast_similarity(c)(h), torch.stack(expected))


def test_fitted_gate_opens_for_the_condition(llama: HookedModel) -> None:
    def records(letters: str, seed: int) -> Records:
        generator = torch.Generator().manual_seed(seed)
        picks = torch.randint(0, len(letters), (24, 9), generator=generator)
        return Records.from_texts(["".join(letters[i] for i in row) for row in picks.tolist()])

    positive, negative = (
        extract(llama, records(letters, seed), pooling="mean")
        for letters, seed in (("abcd", 0), ("wxyz", 1))
    )
    gate = fit_gate(positive, negative)
    held_out = [
        gate.decide(extract(llama, records(s, 5), layers=gate.layer, pooling="mean").matrix)
        for s in ("abcd", "wxyz")
    ]
    assert held_out[0].float().mean() > 0.8
    assert held_out[1].float().mean() < 0.2


def test_empty_condition_set_is_refused(llama: HookedModel) -> None:
    acts = extract(llama, ["ab", "cd"], pooling="mean")
    with pytest.raises(ValueError, match="positive condition set has 2 prompts"):
        fit_gate(acts, acts)
