"""Published methods: each expression of three steps equals the method's formula in a plain hook."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from interp import HookedModel, Span, extract, generate
from steering import Gate, OptimizationConfig, Pairs, SteeringVector
from steering.affine import match_moments
from steering.gating import cast_similarity
from steering.repe import (
    Pipeline,
    as_nullspace,
    as_vector,
    contests_of,
    propensities,
    published,
    reading_inputs,
    transform,
)
from steering.spectral_editing import Feature, elu

POSITIVE = [f"text {w} is good" for w in "abcdefgh"]
NEGATIVE = [f"text {w} is evil" for w in "abcdefgh"]
PAIRS = Pairs.from_texts(POSITIVE, NEGATIVE)
LAYER = 1


def sides(model: HookedModel, site: str = "resid_post") -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(  # type: ignore[return-value]
        extract(model, texts, layers=LAYER, sites=site, positions="last", pooling="last").matrix
        for texts in (POSITIVE, NEGATIVE)
    )


def logits(
    model: HookedModel, text: str = "some text", n_prompt: int | None = None
) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    length = torch.tensor([ids.shape[1] if n_prompt is None else n_prompt])
    with torch.no_grad(), model.hooks.prompts(length):
        return model.module(ids).logits[0]


def by_hook(
    model: HookedModel, change: Callable[[torch.Tensor], torch.Tensor], **options: int
) -> torch.Tensor:
    handle = model.module.model.layers[LAYER].register_forward_hook(lambda m, a, out: change(out))
    try:
        return logits(model, **options)  # type: ignore[arg-type]
    finally:
        handle.remove()


def under(
    model: HookedModel, pipeline: Pipeline, coefficient: float, **options: int
) -> torch.Tensor:
    with model.intervene(pipeline.fit(model, PAIRS).intervention(coefficient)):
        found = logits(model, **options)  # type: ignore[arg-type]
    assert not model.hooks.active
    return found


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def first_component(model: HookedModel) -> torch.Tensor:
    a, b = sides(model)
    direction = np.linalg.svd((a - b).double().numpy())[2][0]
    unit = torch.from_numpy(direction).float()
    return (unit @ (a - b).mean(0)) * unit


def test_caa_adds_the_mean_difference_after_the_prompt(llama: HookedModel) -> None:
    a, b = sides(llama)
    v = (a - b).mean(0)
    mask = (torch.arange(9) >= 4)[:, None]
    expected = by_hook(llama, lambda h: h + 1.5 * mask * v, n_prompt=4)
    close(under(llama, published.caa(LAYER), 1.5, n_prompt=4), expected)
    close(under(llama, published.mean_centring(LAYER), 1.5), by_hook(llama, lambda h: h + 1.5 * v))


def test_lat_adds_the_first_component_and_icv_keeps_the_norm(llama: HookedModel) -> None:
    v = first_component(llama)
    close(
        under(llama, published.linear_artificial_tomography([LAYER]), 2.0),
        by_hook(llama, lambda h: h + 2 * v),
    )
    close(
        under(llama, published.in_context_vector([LAYER]), 2.0),
        by_hook(
            llama,
            lambda h: (
                (h + 2 * v) * h.norm(dim=-1, keepdim=True) / (h + 2 * v).norm(dim=-1, keepdim=True)
            ),
        ),
    )


def test_activation_addition_adds_each_position_of_one_pair(llama: HookedModel) -> None:
    pair = Pairs.from_texts(["love"], ["ha"])
    a, b = (extract(llama, [text], layers=LAYER).matrix for text in ("love", "ha  "))
    padded = torch.cat([a - b, torch.zeros(5, 32)])
    expected = by_hook(llama, lambda h: h + 3 * padded)
    with llama.intervene(published.activation_addition(LAYER).fit(llama, pair).intervention(3.0)):
        close(logits(llama), expected)
    with pytest.raises(ValueError, match="takes one"):
        published.activation_addition(LAYER).fit(llama, PAIRS)


def test_iti_shifts_the_best_heads_by_their_spread(llama: HookedModel) -> None:
    fitted = published.inference_time_intervention(2, layers=[LAYER]).fit(llama, PAIRS)
    values = fitted.concept.values[LAYER]  # type: ignore[union-attr]
    a, b = sides(llama, "z")
    chosen = [head for head in range(4) if values[head].abs().sum() > 0]
    assert len(chosen) == 2
    for head in chosen:
        unit = torch.nn.functional.normalize((a - b)[:, head].mean(0), dim=0)
        close(values[head], torch.cat([a, b])[:, head].matmul(unit).std() * unit)

    def hook(module: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        moved = args[0].clone()
        moved[:, -1] += 5 * values.flatten()
        return (moved, *args[1:])

    handle = llama.module.model.layers[LAYER].self_attn.o_proj.register_forward_pre_hook(hook)
    expected = logits(llama)
    handle.remove()
    with llama.intervene(fitted.intervention(5.0)):
        close(logits(llama), expected)


def test_iti_shifts_every_token_that_is_written(llama: HookedModel) -> None:
    fitted = published.inference_time_intervention(2, layers=[LAYER]).fit(llama, PAIRS)
    values = fitted.concept.values[LAYER].flatten()  # type: ignore[union-attr]

    def hook(module: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        moved = args[0].clone()
        moved[:, -1] += 8 * values  # with a cache, the last token of each pass
        return (moved, *args[1:])

    plain = generate(llama, ["some text"], max_new_tokens=8).tokens
    handle = llama.module.model.layers[LAYER].self_attn.o_proj.register_forward_pre_hook(hook)
    expected = generate(llama, ["some text"], max_new_tokens=8).tokens
    handle.remove()
    with llama.intervene(fitted.intervention(8.0)):
        assert generate(llama, ["some text"], max_new_tokens=8).tokens == expected
    assert expected != plain


def test_refusal_ablation_is_the_same_by_hooks_and_in_the_weights(llama: HookedModel) -> None:
    a, b = sides(llama)
    unit = torch.nn.functional.normalize((a - b).mean(0), dim=0)
    weights = {k: w.clone() for k, w in llama.module.state_dict().items()}
    by_hooks = under(llama, published.refusal_ablation(LAYER), 1.0)
    close(under(llama, published.refusal_ablation(LAYER, in_weights=True), 1.0), by_hooks)
    assert all(torch.equal(w, weights[k]) for k, w in llama.module.state_dict().items())
    handles = []

    def out(module: object, args: object, value: torch.Tensor | tuple) -> torch.Tensor | tuple:
        h = value[0] if isinstance(value, tuple) else value
        h = h - (h @ unit)[..., None] * unit
        return (h, *value[1:]) if isinstance(value, tuple) else h

    body = llama.module.model
    for module in [body.embed_tokens, *(m for x in body.layers for m in (x.self_attn, x.mlp))]:
        handles.append(module.register_forward_hook(out))
    expected = logits(llama)
    for handle in handles:
        handle.remove()
    close(by_hooks, expected)
    with pytest.raises(ValueError, match="has only 1"):
        published.refusal_ablation(LAYER).fit(llama, PAIRS).intervention(0.5)


@pytest.mark.parametrize("joined", ["one", "or", "and"])
def test_cast_adds_behind_its_conditions(llama: HookedModel, joined: str) -> None:
    prompts = ["aaaa bbbb", "zzzz yyyy", "abcabc", "zzz aaa"]
    score = cast_similarity(torch.ones(32))
    other = cast_similarity(torch.arange(32.0) - 16)
    means = extract(llama, prompts, layers=0, positions=Span(), pooling="mean").matrix
    gates = [
        Gate(score=f, threshold=float(f(means).median()) + 1e-6, layer=0) for f in (score, other)
    ]
    opens = [f(means) > gate.threshold for f, gate in zip((score, other), gates, strict=True)]
    gate = {"one": gates[0], "or": gates[0] | gates[1], "and": gates[0] & gates[1]}[joined]
    wanted = {"one": opens[0], "or": opens[0] | opens[1], "and": opens[0] & opens[1]}[joined]
    fitted = published.conditional_steering([LAYER], gate).fit(llama, PAIRS)
    v = SteeringVector(values={LAYER: first_component(llama)})
    plain = generate(llama, prompts, max_new_tokens=4).tokens
    with v.applied(llama, coefficient=8.0):
        steered = generate(llama, prompts, max_new_tokens=4).tokens
    with llama.intervene(fitted.intervention(8.0)):
        gated = generate(llama, prompts, max_new_tokens=4).tokens
    expected = [s if is_open else p for p, s, is_open in zip(plain, steered, wanted, strict=True)]
    assert list(gated) == expected


def test_affine_methods_are_their_formulas(llama: HookedModel) -> None:
    a, b = sides(llama)
    made = match_moments(b, a)
    expected = by_hook(llama, lambda h: h @ made.matrix.T + made.offset)
    close(under(llama, published.mimic(LAYER), 1.0), expected)
    correlation = a.T.double() @ a.double() / len(a)
    correlation = correlation / correlation.diagonal().mean()
    soft = correlation @ torch.linalg.inv(correlation + 0.25 * torch.eye(32, dtype=torch.float64))
    close(
        under(llama, published.conceptors(LAYER, aperture=2.0), 1.0),
        by_hook(llama, lambda h: h @ soft.float().T),
    )
    removed = Pipeline(
        identification=reading_inputs(layers=LAYER),
        operationalization=as_nullspace(),
        control=transform(),
    )
    unit = torch.nn.functional.normalize(first_component(llama), dim=0)
    close(under(llama, removed, 1.0), by_hook(llama, lambda h: h - (h @ unit)[..., None] * unit))


@pytest.mark.parametrize("feature", [None, elu])
def test_spectral_editing_is_its_formula(llama: HookedModel, feature: Feature | None) -> None:
    """Qiu et al. (2024), with each activation brought back to its length."""
    neutral = [f"text {w} is okay" for w in "abcdefgh"]
    h, positive, negative = (
        extract(llama, t, layers=LAYER, positions="last", pooling="last").matrix.double().numpy()
        for t in (neutral, POSITIVE, NEGATIVE)
    )

    def forward(x: np.ndarray) -> np.ndarray:
        return x if feature is None else np.where(x >= 0, x, np.exp(np.minimum(x, 0)) - 1)

    def inverse(x: np.ndarray) -> np.ndarray:
        low = np.log(np.clip(x, -1 + 1e-4, 0) + 1)
        return x if feature is None else np.where(x >= 0, x, low)

    def directions(other: np.ndarray) -> tuple[np.ndarray, int]:
        left, size, _ = np.linalg.svd(forward(h).T @ forward(other) / len(h))
        return left, int((np.cumsum(size**2) / (size**2).sum() < 0.9).sum()) + 1

    (up, k), (down, m) = directions(positive), directions(negative)

    def edited(x: torch.Tensor) -> torch.Tensor:
        rows = x.double().numpy()
        new = inverse(forward(rows) @ up[:, :k] @ up[:, :k].T)
        new += inverse(forward(rows) @ down[:, m:] @ down[:, m:].T)
        new *= np.linalg.norm(rows, axis=-1, keepdims=True) / np.linalg.norm(
            new, axis=-1, keepdims=True
        )
        return torch.from_numpy(new).float()

    pipeline = published.spectral_editing(LAYER, neutral, keep=0.9, feature=feature)
    close(under(llama, pipeline, 1.0), by_hook(llama, edited))
    with pytest.raises(ValueError, match="1 neutral texts, but 8 pairs"):
        published.spectral_editing(LAYER, ["one"]).fit(llama, PAIRS)


def test_pseudo_rotation_is_its_formula(llama: HookedModel) -> None:
    """Pham and Nguyen (2024): reflection, and a rotation towards it by the predicted angle."""
    pipeline = published.householder_rotation(LAYER)
    rotation = pipeline.fit(llama, PAIRS).concept.maps[LAYER]  # type: ignore[union-attr]
    w = rotation.normal

    def edited(h: torch.Tensor) -> torch.Tensor:
        mirrored = h @ (torch.eye(32) - 2 * torch.outer(w, w) / (w @ w))
        first = rotation.angles(h)
        second = torch.cosine_similarity(h, mirrored, dim=-1).clamp(-1, 1).acos()[..., None]
        turned = (first.sin() * mirrored + (second - first).sin() * h) / second.sin()
        return torch.where((h @ w < 0)[..., None], turned, h)

    close(under(llama, pipeline, 1.0), by_hook(llama, edited))


def test_optimized_methods_are_their_formulas_with_what_they_found(llama: HookedModel) -> None:
    small = OptimizationConfig(n_steps=3, learning_rate=0.05, batch_size=2, max_norm=None)
    mask = (torch.arange(9) >= 3)[:, None]  # from the last token of a prompt of four
    loreft = published.loreft(LAYER, rank=2, config=small).fit(llama, PAIRS)
    made = loreft.concept.maps[LAYER]  # type: ignore[union-attr]
    with llama.intervene(loreft.intervention()):
        got = logits(llama, n_prompt=4)
    change = by_hook(
        llama, lambda h: torch.where(mask, h @ made.matrix.T + made.offset, h), n_prompt=4
    )
    close(got, change)
    bipo = published.bidirectional_preference(LAYER, config=small).fit(llama, PAIRS)
    v = bipo.concept.values[LAYER]  # type: ignore[union-attr]
    with llama.intervene(bipo.intervention(-2.0)):
        got = logits(llama, n_prompt=4)
    close(got, by_hook(llama, lambda h: h - 2 * mask * v, n_prompt=4))
    reft = published.reft_r1(LAYER, config=small).fit(llama, PAIRS)
    w = reft.concept.values[LAYER]  # type: ignore[union-attr]
    with llama.intervene(reft.intervention(1.5)):
        got = logits(llama)
    close(got, by_hook(llama, lambda h: h + 1.5 * w))


def test_optimized_methods_raise_the_positive_side(llama: HookedModel) -> None:
    config = OptimizationConfig(n_steps=6, learning_rate=0.5, batch_size=4)
    contests = contests_of(PAIRS)
    before = propensities(llama, contests)
    bipo = published.bidirectional_preference(LAYER, config=config).fit(llama, PAIRS)
    assert (propensities(llama, contests, bipo.intervention()) - before).mean() > 0.5
    assert (propensities(llama, contests, bipo.intervention(-1.0)) - before).mean() < -0.5
    found = published.unsupervised(0, 2, n_steps=3).fit(llama, PAIRS[:2])
    assert found.concept.layers == (0,)  # type: ignore[union-attr]


def test_steps_that_do_not_fit_are_refused(llama: HookedModel) -> None:
    wrong = Pipeline(
        identification=reading_inputs(layers=LAYER),
        operationalization=as_vector(),
        control=transform(),
    )
    with pytest.raises(TypeError, match=r"is no map: use steer\(\)"):
        wrong.fit(llama, PAIRS).intervention()


def test_pairs_part_at_whole_words() -> None:
    contests = contests_of(Pairs.from_texts(["it is good"], ["it is grim"]))
    assert contests.prompts == ("it is",)
    assert (contests.positive, contests.negative) == ((" good",), (" grim",))
    with pytest.raises(ValueError, match="share no beginning"):
        contests_of(Pairs.from_texts(["good"], ["bad"]))
