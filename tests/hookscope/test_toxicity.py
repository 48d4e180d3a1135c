"""Parts of the toxicity study: words from data, matched strengths, weights that come back."""

import copy

import numpy as np
import pytest
import torch

from hookscope.toxicity.directions import hits, random_direction, top_neurons, word_direction
from hookscope.toxicity.materials import Sizes, load_materials, token_ids, toxic_words
from hookscope.toxicity.methods import (
    WeightChange,
    ablation,
    gated_ablation,
    matched,
    shrinkage,
    subtraction,
    tuning_free,
)
from hookscope.toxicity.scoring import (
    fit_classifier,
    mean_divergence,
    next_logprobs,
    overlap,
    repeated,
)
from interp import HookedModel, Records, Site
from interp.attribution import align, mean_activations
from tests.tiny_models import tiny_llama

PROMPTS = ["the first of many", "another one", "and a third, longer than these"]


@pytest.fixture(scope="module")
def model() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_llama()


@pytest.fixture(scope="module")
def tuned(model: HookedModel) -> HookedModel:
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        module.model.layers[1].mlp.up_proj.weight *= 0.5
    return HookedModel(module, tokenizer=model.tokenizer, name="tuned")


def test_words_are_those_that_both_sets_mark() -> None:
    comments = Records.from_texts(
        ["what a dolt you are", "the dolt again", "a fair point", "so fair of them", "a rude dolt"],
        labels=[1, 1, 0, 0, 1],
    )
    pairs = [("that dolt was rude", "that person was unkind"), ("dolt!", "no")]
    assert toxic_words(comments, pairs, n_comments=2, n_pairs=2) == ("dolt",)
    unmarked = Records.from_texts([r.content for r in comments], labels=[0, 1, 1, 0, 0])
    assert toxic_words(unmarked, pairs, n_comments=2, n_pairs=2) == ()


def test_tokens_spell_the_words(model: HookedModel) -> None:
    ids = token_ids(model, ["a", "q"])
    found = {model.tokenizer.decode([token]) for token in ids.tolist()}
    assert found == {"a", "A", "q", "Q"}


def test_a_change_of_weights_is_the_trained_model_and_goes_away(
    model: HookedModel, tuned: HookedModel
) -> None:
    change = WeightChange.between(model, tuned)
    assert list(change.deltas) == ["model.layers.1.mlp.up_proj.weight"]
    plain, wanted = next_logprobs(model, PROMPTS), next_logprobs(tuned, PROMPTS)
    with model.intervene(change):
        torch.testing.assert_close(next_logprobs(model, PROMPTS), wanted)
    assert torch.equal(next_logprobs(model, PROMPTS), plain)
    with model.intervene(change.scaled(3.0)):
        assert not torch.equal(next_logprobs(model, PROMPTS), wanted)
    with pytest.raises(ValueError, match="stop"), model.intervene(change):
        raise ValueError("stop")
    assert torch.equal(next_logprobs(model, PROMPTS), plain)


def test_every_method_is_brought_to_one_divergence(model: HookedModel, tuned: HookedModel) -> None:
    plain = next_logprobs(model, PROMPTS)
    direction = word_direction(model, token_ids(model, ["a"]))
    sides = align(model, direction)
    active = mean_activations(model, PROMPTS).tensors["mlp_post"].numpy().mean(0)
    change = WeightChange.between(model, tuned)

    def cost(method, strength: float) -> float:
        with model.intervene(method(strength)):
            return float(mean_divergence(plain, next_logprobs(model, PROMPTS)).mean())

    budget = cost(change.scaled, 1.0)
    methods = {
        "weights": (change.scaled, 0.1),
        "subtraction": (subtraction(random_direction(direction, 0)), 0.1),
        "shrinkage": (shrinkage(4), 0.01),
    }
    for method, start in methods.values():
        found = matched(lambda s, m=method: cost(m, s), budget, start=start)
        assert cost(method, found) == pytest.approx(budget, rel=0.06)
    few, many = (cost(ablation(sides.cosine), n) for n in (1, 40))
    assert few < many
    few, many = (cost(tuning_free(sides, active), share) for share in (0.02, 0.5))
    assert few < many
    with pytest.raises(ValueError, match=r"no strength up to .* costs 1 nats"):
        matched(lambda s: 0.0, 1.0, start=1.0)


def test_gated_ablation_spares_what_writes_the_other_way(model: HookedModel) -> None:
    scores = np.zeros((4, 64), np.float32)
    scores[2, 5], scores[1, 7] = 2.0, -1.0
    assert np.argwhere(top_neurons(scores, 2)).tolist() == [[1, 7], [2, 5]]
    batch = model.tokenize(PROMPTS).batch([2])
    sites = [Site("mlp_post", 2), Site("mlp_post", 1)]
    with torch.no_grad(), model.capture(sites) as plain:
        model.body(**batch)
    with torch.no_grad(), model.intervene(gated_ablation(scores)(2)), model.capture(sites) as found:
        model.body(**batch)
    later, earlier = (found[site][0] for site in sites)
    assert (later[..., 5] <= 0).all()
    old = plain[sites[1]][0]
    torch.testing.assert_close(earlier[..., 7], old[..., 7].clamp(min=0))
    others = torch.arange(64) != 7
    torch.testing.assert_close(earlier[..., others], old[..., others])


def test_a_neuron_that_writes_a_toxic_token_is_found(model: HookedModel) -> None:
    planted = HookedModel(copy.deepcopy(model.module), tokenizer=model.tokenizer)
    ids = token_ids(model, ["q"])
    direction = word_direction(model, ids)
    with torch.no_grad():
        planted.module.model.layers[2].mlp.down_proj.weight[:, 9] = 5 * direction.vector
    rows = hits(planted, align(planted, direction).cosine, ids, n=2)
    assert (rows[0]["layer"], rows[0]["neuron"]) == (2, 9)
    assert set(rows[0]["toxic_tokens"]) == {"q", "Q"}
    random = align(planted, random_direction(direction, 1)).cosine
    assert all(len(row["toxic_tokens"]) < 2 for row in hits(planted, random, ids, n=2)[1:])


def test_the_classifier_learns_words_and_its_test_shows_it() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    filler = np.array(["red", "blue", "green", "gray"])
    texts = [
        " ".join([*rng.choice(filler, 4), "dolt" if toxic and rng.random() < 0.9 else "there"])
        for toxic in labels
    ]
    records = Records.from_texts(texts, labels=labels.tolist())
    found = fit_classifier(records[:150], records[150:])
    assert found.quality["auroc"]["value"] > 0.85
    assert found.quality["brier"]["value"] < 0.15
    toxic, clean = found(["a red dolt", "there there"])
    assert toxic > 0.8
    assert clean < 0.3
    shuffled = Records.from_texts(texts, labels=rng.permutation(labels).tolist())
    chance = fit_classifier(shuffled[:150], shuffled[150:]).quality["auroc"]
    assert chance["low"] < 0.5 < chance["high"]


def test_repetition_and_overlap() -> None:
    assert repeated([1]) == 0
    assert repeated([1, 2, 3]) == 0
    assert repeated([1, 1, 1, 1]) == pytest.approx(2 / 3)
    assert overlap("a b", "a b c d") == 1
    assert overlap("x", "a") == 0
    assert overlap("", "a") == 0


def test_the_texts_of_the_study_do_not_overlap(data_dir: object) -> None:
    found = load_materials(Sizes(n_comments=100, n_preferences=30))
    sets = [
        {record.content for record in part}
        for part in (found.comments, found.test_comments, found.other_comments)
    ]
    assert sum(map(len, sets)) == len(set.union(*sets))
    assert len(found.comments) == 75
    assert len(found.preferences) == 30
    assert 30 <= len(found.words) <= 60
    one = found.preferences[0]
    assert len(one.prompt.split()) >= 2
    assert one.chosen != one.rejected
    again = load_materials(Sizes(n_comments=100, n_preferences=30))
    assert (again.preferences, again.prompts) == (found.preferences, found.prompts)
    assert again.comments[0] == found.comments[0]
