"""Interventions: equal to hand-written torch hooks, right at every position, undone afterwards."""

import inspect
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import Direction, Site, ablate, add, edit, extract, generate, patch, replace
from interp.core.positions import PositionRule, check_rule

TEXTS = ["a fire in the house", "tea", "the old bridge"]
VECTOR = torch.linspace(-3, 3, 16)
settings.register_profile(
    "few",
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("few")


def logits(model, texts=TEXTS, side="right", rows=None) -> Tensor:
    tokens = model.tokenize(texts)
    batch = tokens.batch(range(len(texts)) if rows is None else rows, side=side)
    with torch.no_grad(), model.hooks.prompts(torch.from_numpy(tokens.lengths)):
        return model.module(**batch, use_cache=False).logits[batch["attention_mask"].bool()]


def by_hand(model, change: Callable[[Tensor], Tensor], layer: int, part: str = "") -> Tensor:
    """Logits with a plain torch hook on a block or a part of it."""
    module = model.module.model.layers[layer].get_submodule(part)
    handle = module.register_forward_hook(lambda m, args, output: change(output))
    try:
        return logits(model)
    finally:
        handle.remove()


def project_out(value: Tensor) -> Tensor:
    unit = VECTOR / VECTOR.norm()
    return value - (value @ unit)[..., None] * unit


MEAN = torch.linspace(1, 2, 16)
CASES = {
    "add": (add(VECTOR, layers=1), lambda x: x + VECTOR),
    "add half": (add(VECTOR, layers=1, coefficient=-0.5), lambda x: x - 0.5 * VECTOR),
    "zero": (ablate(layers=1), torch.zeros_like),
    "mean": (ablate(mean=MEAN, layers=1), MEAN.expand_as),
    "direction": (ablate(VECTOR, layers=1), project_out),
    "direction to mean": (
        ablate(VECTOR, mean=MEAN, layers=1),
        lambda x: project_out(x) + (MEAN - project_out(MEAN)),
    ),
    "replace": (replace(VECTOR, layers=1), VECTOR.expand_as),
    "edit": (edit(lambda value, call: value.flip(-1), layers=1), lambda x: x.flip(-1)),
}


@pytest.mark.parametrize("case", CASES)
def test_interventions_equal_hand_written_hooks(tiny, case: str) -> None:
    intervention, change = CASES[case]
    clean = logits(tiny)
    with tiny.intervene(intervention):
        steered = logits(tiny)
    torch.testing.assert_close(steered, by_hand(tiny, change, 1), atol=1e-5, rtol=1e-5)
    assert (steered - clean).abs().max() > 1e-2
    assert torch.equal(logits(tiny), clean)


@pytest.mark.parametrize(
    ("site", "part"), [("attn_out", "self_attn"), ("mlp_out", "mlp"), ("resid_post", "")]
)
def test_output_sites_are_edited_where_a_hook_would(tiny, site: str, part: str) -> None:
    def change(output: Tensor | tuple) -> Tensor | tuple:
        return (output[0] + VECTOR, *output[1:]) if isinstance(output, tuple) else output + VECTOR

    with tiny.intervene(add(VECTOR, layers=2, site=site)):
        steered = logits(tiny)
    torch.testing.assert_close(steered, by_hand(tiny, change, 2, part), atol=1e-5, rtol=1e-5)


def test_input_sites_are_edited_where_a_hook_would(tiny) -> None:
    block = tiny.module.model.layers[1]
    paths = {
        "z": (block.self_attn.o_proj, 4),
        "mlp_post": (block.mlp.down_proj, 24),
        "resid_mid": (block.post_attention_layernorm, 16),
    }
    for site, (module, width) in paths.items():
        values = torch.linspace(-1, 1, width)
        repeated = values.repeat(4) if site == "z" else values
        with tiny.intervene(add(values, layers=1, site=site)):
            steered = logits(tiny)
        handle = module.register_forward_pre_hook(lambda m, args, v=repeated: (args[0] + v,))
        by_hook = logits(tiny)
        handle.remove()
        if site != "resid_mid":  # there the stream goes past the norm, see the next test
            torch.testing.assert_close(steered, by_hook, atol=1e-5, rtol=1e-5)
        assert (steered - logits(tiny)).abs().max() > 1e-3


def test_directional_ablation_leaves_nothing_along_the_span(tiny) -> None:
    directions = torch.stack([VECTOR, 1e-9 * VECTOR.flip(0) + 1e-9 * torch.eye(16)[3], MEAN])
    with tiny.intervene(ablate(directions, layers=[0, 1])):
        values = extract(tiny, TEXTS, layers=[0, 1]).values
    clean = extract(tiny, TEXTS, layers=0).values
    along = values @ torch.nn.functional.normalize(directions, dim=-1).mT
    assert along.abs().max() < 1e-4
    basis = torch.linalg.qr(directions.mT.double()).Q.float()
    expected = clean - clean @ basis @ basis.mT
    torch.testing.assert_close(values[:, :1], expected, atol=1e-4, rtol=1e-4)


def test_a_direction_brings_its_layer_and_site(tiny) -> None:
    direction = Direction(vector=VECTOR, layer=2, site="mlp_out")
    with tiny.intervene(add(direction, coefficient=4.0)):
        steered = logits(tiny)
    unit = VECTOR / VECTOR.norm()
    expected = by_hand(tiny, lambda x: x + 4.0 * unit, 2, "mlp")
    torch.testing.assert_close(steered, expected, atol=1e-5, rtol=1e-5)


def test_patching_clean_into_clean_changes_nothing(tiny) -> None:
    clean = logits(tiny)
    for site in ("resid_post", "z", "mlp_post"):
        source = extract(tiny, TEXTS, sites=site)
        with tiny.intervene(patch(source)):
            assert torch.equal(logits(tiny), clean)
            assert torch.equal(logits(tiny, side="left"), logits(tiny, side="left"))


def test_patching_another_run_equals_a_hand_written_hook(tiny) -> None:
    corrupted = ["a game in the house", "tee", "the new bridge"]
    source = extract(tiny, corrupted, layers=1)
    table, mask = source.padded()
    assert mask.sum() == 19 + 3 + 14

    def change(output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 5:7] = table[:, 5:7]
        return output

    whole = [text + " " * (19 - len(text)) for text in TEXTS]
    source = extract(tiny, [text + " " * (19 - len(text)) for text in corrupted], layers=1)
    table, _ = source.padded()
    with tiny.intervene(patch(source, positions=[[(5, 7)]] * 3)):
        patched = logits(tiny, whole)
    handle = tiny.module.model.layers[1].register_forward_hook(lambda m, args, out: change(out))
    expected = logits(tiny, whole)
    handle.remove()
    assert torch.equal(patched, expected)
    assert not torch.equal(patched, logits(tiny, whole))


def test_a_patch_follows_its_text_through_the_batches_of_extract_and_generate(tiny) -> None:
    source = extract(tiny, TEXTS, layers=0)
    noise = extract(tiny, [text[::-1] for text in TEXTS], layers=0)
    clean = extract(tiny, TEXTS, layers=2)
    for batch_tokens in (4, 40, 1000):
        with tiny.intervene(edit(lambda value, call: 0 * value, layers=0), patch(source)):
            patched = extract(tiny, TEXTS, layers=2, batch_tokens=batch_tokens)
        torch.testing.assert_close(patched.values, clean.values, atol=1e-4, rtol=1e-4)
    alone = []
    for i, text in enumerate(TEXTS):
        with tiny.intervene(patch(noise[[i]])):
            alone += generate(tiny, [text], max_new_tokens=4).tokens
    for batch_size in (1, 2, 3):
        with tiny.intervene(patch(noise)):
            together = generate(tiny, TEXTS, max_new_tokens=4, batch_size=batch_size).tokens
        assert together == tuple(alone)


RULES: dict[str, Callable[[int], PositionRule]] = {
    "all": lambda i: "all",
    "prompt": lambda i: "prompt",
    "generated": lambda i: "generated",
    "last": lambda i: "last",
    "mask": lambda i: MASK if i < 0 else MASK[[i]],
    "spans": lambda i: SPANS if i < 0 else [SPANS[i]],
}
MASK = torch.zeros(3, 24, dtype=torch.bool)
MASK[0, [1, 5, 20]] = MASK[1, [0, 4]] = MASK[2, [2, 15]] = True
SPANS = [[(0, 2), (4, 7)], [(2, 6)], []]


@pytest.mark.parametrize("rule", RULES)
def test_position_rules_mean_the_same_cached_uncached_batched_and_single(tiny, rule) -> None:
    vector = 40 * torch.randn(16, generator=torch.Generator().manual_seed(1))

    def run(texts: list[str], row: int, **options: object) -> tuple:
        with tiny.intervene(add(vector, layers=1, positions=RULES[rule](row))):
            return generate(tiny, texts, max_new_tokens=6, **options).tokens

    single = tuple(run([text], i)[0] for i, text in enumerate(TEXTS))
    clean = generate(tiny, TEXTS, max_new_tokens=6).tokens
    assert single != clean
    for use_cache in (True, False):
        for batch_size in (1, 2, 16):
            batched = run(TEXTS, -1, use_cache=use_cache, batch_size=batch_size)
            assert batched == single, (use_cache, batch_size)


@pytest.mark.parametrize("rule", RULES)
def test_position_rules_act_exactly_where_they_say(tiny, rule) -> None:
    """During a cached generation, the difference at the site is the vector or nothing."""
    n_new = 5
    seen: list[tuple[Tensor, Tensor]] = []
    before: list[Tensor] = []
    site = Site("resid_post", 1)

    def look(value: Tensor, call: object) -> Tensor:
        before.append(value)
        return value

    def note(value: Tensor, call) -> None:
        changed = (value - before[-1]).abs().sum(-1) > 0
        seen.append((changed, call.positions.where(call.mask, -1)))

    with tiny.hooks.attached(edits=[(site, look)]), tiny.hooks.attached(reads=[(site, note)]):
        with tiny.intervene(add(VECTOR, layers=1, positions=RULES[rule](-1))):
            generate(tiny, TEXTS, max_new_tokens=n_new, on_token=lambda ids: None)
    order = [0, 2, 1]  # generate runs the longest prompt first
    found: list[set[int]] = [set(), set(), set()]
    for changed, positions in seen:
        for row, example in enumerate(order):
            found[example] |= set(positions[row][changed[row]].tolist())
    lengths = [len(text) for text in TEXTS]
    for example, length in enumerate(lengths):
        known = range(length + n_new - 1)
        expected = {
            "all": set(known),
            "prompt": set(range(length)),
            "generated": set(range(length, length + n_new - 1)),
            "last": {length - 1},
            "mask": set(MASK[example].nonzero()[:, 0].tolist()) & set(known),
            "spans": {p for a, b in SPANS[example] for p in range(a, b)} & set(known),
        }[rule]
        assert found[example] == expected


@given(data=st.data())
def test_masks_pick_the_same_tokens_on_either_side_of_the_padding(tiny, data) -> None:
    rows = data.draw(
        st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=3, max_size=3)
    )
    with tiny.intervene(add(VECTOR, layers=0, positions=torch.tensor(rows))):
        left, right = (logits(tiny, side=side) for side in ("left", "right"))
    torch.testing.assert_close(left, right, atol=1e-3, rtol=1e-3)


@given(factor=st.floats(-3, 3), other=st.floats(-3, 3))
def test_additions_compose(tiny, factor: float, other: float) -> None:
    with tiny.intervene(add(VECTOR, layers=1, coefficient=factor + other)):
        at_once = logits(tiny)
    with tiny.intervene(add(VECTOR, layers=1, coefficient=factor)):
        with tiny.intervene(add(VECTOR, layers=1, coefficient=other)):
            torch.testing.assert_close(logits(tiny), at_once, atol=1e-3, rtol=1e-3)


def test_coefficient_zero_changes_nothing(tiny) -> None:
    clean = logits(tiny)
    with tiny.intervene(add(VECTOR, layers=[0, 1, 2], coefficient=0.0)):
        assert torch.equal(logits(tiny), clean)


def test_padding_is_never_touched(tiny) -> None:
    batch = tiny.tokenize(TEXTS).batch(range(3))
    site = Site("resid_post", 0)
    with torch.no_grad(), tiny.capture([site]) as clean:
        tiny.module(**batch)
    with torch.no_grad(), tiny.intervene(ablate(layers=0)), tiny.capture([site]) as found:
        tiny.module(**batch)
    real = batch["attention_mask"].bool()
    assert not found[site][0][real].any()
    assert torch.equal(found[site][0][~real], clean[site][0][~real])


def test_gradients_flow_to_the_vector_and_into_the_model(tiny) -> None:
    vector = torch.zeros(16, requires_grad=True)
    batch = tiny.tokenize(["a fire"]).batch([0])
    with tiny.intervene(add(vector, layers=1, coefficient=2.0)):
        tiny.module(**batch).logits[0, -1, 65].backward()
    assert vector.grad is not None
    step, gradient = 1e-2, vector.grad.clone()
    for sign_of in range(0, 16, 5):
        nudge = torch.zeros(16)
        nudge[sign_of] = step
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                with tiny.intervene(add(sign * nudge, layers=1, coefficient=2.0)):
                    ends.append(tiny.module(**batch).logits[0, -1, 65])
        assert gradient[sign_of].item() == pytest.approx(
            ((ends[0] - ends[1]) / (2 * step)).item(), abs=2e-2, rel=2e-2
        )
    tiny.module.zero_grad(set_to_none=True)


def test_wrong_arguments_are_refused_before_anything_runs(tiny) -> None:
    unchecked = inspect.unwrap(check_rule)  # without the types that the tests enforce
    with pytest.raises(ValueError, match=r"positions='end': needed \('all', 'prompt'"):
        unchecked("end")
    with pytest.raises(ValueError, match="a mask must be boolean, of shape"):
        unchecked(torch.ones(2, 3))
    with pytest.raises(ValueError, match="layers is missing"):
        add(VECTOR)
    with pytest.raises(ValueError, match="zero or linearly dependent"):
        ablate(torch.zeros(16), layers=1)
    with pytest.raises(ValueError, match="zero or linearly dependent"):
        ablate(torch.stack([VECTOR, 2 * VECTOR]), layers=1)
    with pytest.raises(KeyError, match="no layer 7"):
        with tiny.intervene(add(VECTOR, layers=7)):
            pass
    pooled = extract(tiny, TEXTS, layers=1, pooling="mean")
    with pytest.raises(ValueError, match="pooled"):
        patch(pooled)
    gaps = extract(tiny, TEXTS, layers=1, positions="content")
    with pytest.raises(ValueError, match="source lacks some positions"):
        patch(gaps)


def test_values_that_do_not_fit_the_site_are_refused(tiny) -> None:
    wrong = {
        r"vector has shape \(5,\), but this site has \(16,\)": add(torch.ones(5), layers=1),
        r"vector has shape \(3, 16\)": add(torch.ones(3, 16), layers=1),
        r"gave shape \(16,\)": edit(lambda value, call: value[0, 0], layers=1),
        "positions has 2 rows, but there are 3 texts": add(
            VECTOR, layers=1, positions=torch.ones(2, 4, dtype=torch.bool)
        ),
        "values has 2 rows, but there are 3 texts": replace(torch.ones(2, 4, 16), layers=1),
    }
    for message, intervention in wrong.items():
        with pytest.raises(ValueError, match=message), tiny.intervene(intervention):
            logits(tiny)


def test_a_prompt_rule_without_a_known_prompt_is_refused(tiny) -> None:
    batch = tiny.tokenize(TEXTS).batch(range(3))
    with pytest.raises(ValueError, match="nothing tells where the prompt ends"):
        with torch.no_grad(), tiny.intervene(add(VECTOR, layers=1, positions="generated")):
            tiny.module(**batch)
