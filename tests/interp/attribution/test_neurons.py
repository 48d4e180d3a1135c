"""Neurons: projections that sum to the MLP's, groups that leave none out, known changes found."""

import copy

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from interp import Direction, HookedModel, ModelMismatchError, Site
from interp.attribution import (
    GROUPS,
    NeuronChange,
    ablate_neurons,
    align,
    align_vectors,
    attribute_change,
    edited_activations,
    group_changes,
    kl_from_clean,
    patch_groups,
    reduction_shares,
    same_texts,
    value_tokens,
    value_vectors,
    vocabulary_scores,
)

TEXTS = [f"the old capital of land{k} is city{(k + 2) % 8}" for k in range(8)] + ["the land0 is"]


@pytest.fixture(scope="module")
def gemma(gpt2: HookedModel) -> HookedModel:
    """A random Gemma: gated MLPs, with norms behind them."""
    config = Gemma3TextConfig(
        vocab_size=len(gpt2.tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Gemma3ForCausalLM(config).eval()
        for name, parameter in module.named_parameters():
            if "norm" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return HookedModel(module, tokenizer=gpt2.tokenizer, name="tiny-gemma")


@pytest.fixture
def direction() -> Direction:
    return Direction(vector=torch.randn(32, generator=torch.Generator().manual_seed(3)), layer=2)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma"])
def test_projections_sum_to_that_of_the_mlp(
    name: str, direction: Direction, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    sides = align(model, direction)
    batch = model.tokenize(TEXTS).batch(range(3))
    for layer in range(3):
        sites = Site("mlp_post", layer), Site("mlp_out", layer)
        path = model.sites[sites[0]].path
        bias = getattr(model.module.get_submodule(path), "bias", None)
        with torch.no_grad(), model.capture(sites) as found:
            model.body(**batch)
        active, out = (found[site][0] for site in sites)
        if name == "gemma":  # before the norm divides by each token's length
            raw = model.module.get_submodule(path)(active).detach()
            out = out * raw.pow(2).mean(-1, keepdim=True).add(1e-6).sqrt()
        expected = (out - (0 if bias is None else bias.detach())) @ direction.vector
        total = active @ torch.from_numpy(sides.projection[layer])
        torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)
        vectors = value_vectors(model, layer)
        cosine = torch.cosine_similarity(vectors, direction.vector[None])
        np.testing.assert_allclose(sides.cosine[layer], cosine, atol=1e-5)


def test_the_groups_share_no_neuron_and_leave_none_out() -> None:
    rng = np.random.default_rng(0)
    cosine, active, less = rng.normal(size=(3, 2, 500))
    found = group_changes(cosine, active, less)
    assert sum(found.n_neurons.values()) == 1000
    assert sum(found.shares.values()) == pytest.approx(1)
    total = sum(found.reductions.values()) + sum(found.increases.values())
    assert total == pytest.approx(less.sum())
    expected = less[(cosine > 0) & (active > 0) & (less > 0)]
    assert found.reductions["TP"] == pytest.approx(expected.sum())
    assert found.n_reducing["TP"] == len(expected)
    assert found.balance == pytest.approx(less.sum() / less[less > 0].sum())
    assert found.to_frame()["group"].tolist() == list(GROUPS)


def test_published_sums_give_the_published_shares() -> None:
    """GPT-2 medium, Yang et al. 2025: sums of TP, AN, TN and AP from their notebook."""
    sums = {"TP": 15.111, "AN": 17.717, "TN": 11.336, "AP": 3.320}
    percent = {g: round(100 * share, 1) for g, share in reduction_shares(sums).items()}
    assert percent == {"TP": 31.8, "AN": 37.3, "TN": 23.9, "AP": 7.0}


def tuned_twin(model: HookedModel, layer: int, neurons: list[int], factor: float) -> HookedModel:
    """The same model with some neurons scaled, as if training had dampened them."""
    module = copy.deepcopy(model.module)
    mlp = module.model.layers[layer].mlp
    with torch.no_grad():
        mlp.up_proj.weight[neurons] *= factor
    return HookedModel(module, tokenizer=model.tokenizer, name="tuned")


def test_neurons_that_changed_are_found(llama: HookedModel, direction: Direction) -> None:
    tuned = tuned_twin(llama, 2, [5, 9], 0.2)
    change = attribute_change(llama, tuned, direction, TEXTS)
    moved = np.argwhere(np.abs(change.reduction) > 1e-5).tolist()
    assert moved == [[2, 5], [2, 9]]
    mean = change.before.mean(0)
    expected = 0.8 * mean[2, 5] * change.projection_before[2, 5]
    assert change.reduction[2, 5] == pytest.approx(expected, rel=1e-3)
    assert sum(change.groups().n_reducing.values()) == int((change.reduction > 0).sum())
    same = attribute_change(llama, llama, direction, TEXTS)
    np.testing.assert_array_equal(same.reduction, 0)
    assert np.isnan(same.groups().balance)


def test_a_change_is_read_along_other_directions_without_a_run(
    llama: HookedModel, direction: Direction
) -> None:
    tuned = tuned_twin(llama, 2, [5, 9], 0.2)
    change = attribute_change(llama, tuned, direction, TEXTS)
    other = Direction(vector=direction.vector.flip(0), layer=2)
    expected = attribute_change(llama, tuned, other, TEXTS)
    found = change.along(align(llama, other), align(tuned, other))
    np.testing.assert_array_equal(found.reduction, expected.reduction)
    np.testing.assert_array_equal(found.cosine, expected.cosine)
    vectors = [value_vectors(llama, layer) for layer in range(3)]
    np.testing.assert_array_equal(align_vectors(vectors, other).cosine, found.cosine)
    with pytest.raises(ValueError, match=r"layers are \(0, 1, 2\), but the alignments' \(1,\)"):
        change.along(*[align(llama, other, layers=[1])] * 2)


def test_padding_and_batches_do_not_matter(llama: HookedModel, direction: Direction) -> None:
    tuned = tuned_twin(llama, 1, [5], 0.2)
    one, many = (
        attribute_change(llama, tuned, direction, TEXTS, batch_tokens=n) for n in (1, 4096)
    )
    np.testing.assert_allclose(one.before, many.before, atol=1e-5)


def synthetic_change(factor: float = 0.9, noise: float = 0.3) -> NeuronChange:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(1, 2, 400)) + 0.1 * rng.normal(size=(30, 2, 400))
    after = factor * before + noise * rng.normal(size=(1, 2, 400))
    projection = rng.normal(size=(2, 400))
    return NeuronChange(
        layers=(0, 1),
        before=before,
        after=after,
        projection_before=projection,
        projection_after=projection,
        cosine=projection / 10,
    )


def test_shrinkage_fills_two_groups_along_any_direction() -> None:
    null = synthetic_change(noise=0.0).groups()
    assert null.shares["TP"] + null.shares["AN"] == pytest.approx(1)
    fitted = synthetic_change().shrunk()
    ratio = fitted.after / fitted.before
    assert ratio == pytest.approx(np.full(ratio.shape, 0.9), abs=0.05)
    assert fitted.groups().shares["TN"] == pytest.approx(0)


def test_shares_come_with_intervals_over_prompts() -> None:
    change = synthetic_change()
    shares, intervals = change.groups().shares, change.intervals(n_resamples=60)
    for group in GROUPS:
        low, high = intervals[group]
        assert low < high
        assert low - 0.01 <= shares[group] <= high + 0.01
    assert change.share_of(change.group("TP")) == pytest.approx(shares["TP"])
    top = change.dampened(7)
    assert top.sum() == 7
    assert (top & change.group("TP") & (change.reduction > 0)).sum() == 7
    assert change.cosine[top].min() >= 0
    assert change.dampened(10**6).sum() == change.groups().n_reducing["TP"]
    figure = change.plot()
    assert "TP" in str(figure.layout.yaxis.ticktext)
    with pytest.raises(ValueError, match="no group 'XX'"):
        change.group("XX")


def test_patching_all_neurons_undoes_a_change_of_mlps(
    llama: HookedModel, direction: Direction
) -> None:
    tuned = tuned_twin(llama, 1, list(range(0, 48, 2)), 0.1)
    change = attribute_change(llama, tuned, direction, TEXTS)
    pairs = same_texts(llama, TEXTS)  # of unequal length
    moved = np.abs(change.reduction) > 1e-6
    everything = change.cells(np.ones_like(moved))
    groups = {
        "all": everything,
        "those that changed": change.cells(moved),
        "the others": change.cells(~moved),
    }
    metric = kl_from_clean(tuned, pairs)
    found = patch_groups(llama, pairs, metric, groups, source_model=tuned, batch_tokens=20)
    effects = dict(zip(found.labels, found.effects, strict=True))
    assert effects["all"] == pytest.approx(1, abs=1e-3)
    assert effects["the others"] < 0.5 < effects["those that changed"]
    assert found.to_frame()["group"].tolist() == list(groups)
    assert len(found.plot().data) == 1


def test_ablation_holds_neurons_at_constants(llama: HookedModel) -> None:
    mask = np.zeros((3, 48), bool)
    mask[1, [3, 5]] = True
    values = np.full((3, 48), 0.7)
    batch = llama.tokenize(TEXTS).batch([0])
    site = Site("mlp_post", 1)
    for constants, expected in ((None, 0.0), (values, 0.7)):
        held = ablate_neurons(mask, values=constants)
        assert len(held) == 1
        with torch.no_grad(), llama.intervene(*held), llama.capture(site) as found:
            llama.body(**batch)
        active = found[site][0]
        assert active[..., [3, 5]] == pytest.approx(torch.full_like(active[..., :2], expected))
        assert not (active[..., 4] == expected).any()


def test_the_edit_dampens_what_points_along_the_direction(
    llama: HookedModel, direction: Direction
) -> None:
    change = attribute_change(llama, llama, direction, TEXTS)
    sides, mean = align(llama, direction), change.before.mean(0)
    chosen, values = edited_activations(sides, mean, strength=0.1, fraction=0.5)
    assert 0.45 < chosen.mean() < 0.6
    moved = (values - mean) * sides.projection
    assert (moved[chosen] <= 0).all()  # every one writes less along the direction
    np.testing.assert_array_equal(values[~chosen], mean[~chosen])
    np.testing.assert_allclose(np.abs(values - mean)[chosen], 0.1 * np.abs(mean[chosen]), rtol=1e-4)
    strong = chosen & change.group("TP")
    assert sides.cosine[strong].min() >= np.median(sides.cosine[change.group("TP")]) - 1e-6


def test_a_neuron_that_writes_words_is_found_by_the_vocabulary(gpt2: HookedModel) -> None:
    model = HookedModel(copy.deepcopy(gpt2.module), tokenizer=gpt2.tokenizer)
    ids = np.array([gpt2.tokenizer.convert_tokens_to_ids(f"city{k}") for k in (1, 2, 3)])
    with torch.no_grad():
        head = model.module.lm_head.weight
        gain = model.module.transformer.ln_f.weight
        wanted = (head[ids] * gain).mean(0) - (head * gain).mean(0)
        model.module.transformer.h[1].mlp.c_proj.weight[17] = 5 * wanted
        model.module.transformer.h[2].mlp.c_proj.weight[40] = -5 * wanted
    scores = vocabulary_scores(model, ids)
    logits = value_vectors(model, 2) @ (head * gain).detach().T
    expected = (logits[:, ids].mean(1) - logits.mean(1)) / logits.std(1)
    np.testing.assert_allclose(scores[2], expected, rtol=1e-3, atol=1e-4)
    assert np.unravel_index(scores.argmax(), scores.shape) == (1, 17)
    assert np.unravel_index(scores.argmin(), scores.shape) == (2, 40)
    best = ((head * gain) @ wanted).topk(3).indices.tolist()
    assert list(value_tokens(model, 1, 17, n=3)) == gpt2.tokenizer.convert_ids_to_tokens(best)
    assert value_tokens(model, 2, 40, n=3, negative=True) == value_tokens(model, 1, 17, n=3)


def test_models_and_directions_have_to_fit(
    llama: HookedModel, gpt2: HookedModel, direction: Direction
) -> None:
    with pytest.raises(ModelMismatchError, match="48 neurons a layer"):
        attribute_change(llama, gpt2, direction, TEXTS)
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.add_tokens(["new"])
    with pytest.raises(ModelMismatchError, match="different tokenizers"):
        attribute_change(llama, HookedModel(llama.module, tokenizer=tokenizer), direction, TEXTS)
    shorter = copy.deepcopy(llama.module)
    shorter.model.layers = shorter.model.layers[:2]
    shorter.config.num_hidden_layers = 2
    with pytest.raises(ModelMismatchError, match=r"3 layers of width 32, but .* 2 of width 32"):
        attribute_change(llama, HookedModel(shorter, tokenizer=llama.tokenizer), direction, TEXTS)
    with pytest.raises(ValueError, match="residual stream has width 32"):
        align(llama, torch.ones(5))
