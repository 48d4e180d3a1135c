"""Patching on the embedded model: where a capital is known, and estimates against exact runs."""

import numpy as np
import pytest

from interp import HookedModel, load_model
from interp.attribution import (
    Pairs,
    attribute_cells,
    compare,
    logit_diff,
    make_pairs,
    patch_sweep,
    value_tokens,
    vocabulary_scores,
)
from interp.core.loading import EMBEDDED

CAPITALS = {"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid"}


@pytest.fixture(scope="module")
def pairs(smollm2: HookedModel) -> Pairs:
    countries = list(CAPITALS)
    others = countries[1:] + countries[:1]
    text = "The capital city of {} is the city of"
    return make_pairs(
        smollm2,
        [text.format(country) for country in countries],
        [text.format(country) for country in others],
        answers=[f" {CAPITALS[country]}" for country in countries],
        wrong_answers=[f" {CAPITALS[country]}" for country in others],
    )


@pytest.mark.model
@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_integrated_gradients_agree_with_patching(
    smollm2: HookedModel, pairs: Pairs, site: str
) -> None:
    metric = logit_diff(pairs)
    exact = patch_sweep(smollm2, pairs, metric, site)
    estimate = attribute_cells(smollm2, pairs, metric, exact.cells, n_steps=5)
    agreement = compare(estimate, exact)
    assert agreement.pearson >= 0.98
    assert 0.9 <= agreement.slope <= 1.15
    if site == "resid_post":  # an early layer's last token knows nothing yet, a late one's all
        effects = exact.effects.reshape(30, -1)
        assert abs(effects[0, -1]) < 0.1
        assert effects[-1, -1] == pytest.approx(1, abs=0.1)
        np.testing.assert_array_equal(effects[:, :4], 0)


@pytest.mark.model
@pytest.mark.skipif(
    not EMBEDDED["gemma-3-270m"].pieces(),
    reason=f"Gemma is not installed: {EMBEDDED['gemma-3-270m'].install}",
)
def test_gemma_has_neurons_that_write_profanity() -> None:
    gemma = load_model("gemma-3-270m")
    profanity = [" fuck", " fucking", " shit", " crap"]
    ids = np.array(
        [gemma.tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in profanity]
    )
    scores = vocabulary_scores(gemma, ids, layers=[5])[0]
    assert scores.argmax() == 1668
    assert any("fuck" in token for token in value_tokens(gemma, 5, 1668))
