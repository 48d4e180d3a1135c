"""Fitting: planted vectors are found, the centered component is not, bad pairs are refused."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from interp import Activations, HookedModel
from steering import PairActivations, Pairs, extract_pairs, fit, fit_vector, methods

FINDERS = [
    methods.mean_difference,
    methods.paired_pca,
    methods.logistic,
    methods.whitened,
    methods.ridge,
]


def planted(
    strength: float = 4.0, n: int = 400, d: int = 24, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positive and negative rows that differ by a planted vector, and that vector."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.nn.functional.normalize(torch.randn(d, generator=generator), dim=0) * strength
    shared = torch.randn(n, d, generator=generator)
    positive = shared + vector + torch.randn(n, d, generator=generator)
    return positive, shared + torch.randn(n, d, generator=generator), vector


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("method", FINDERS)
def test_planted_vector_is_found_with_its_length(method: methods.Method) -> None:
    positive, negative, vector = planted()
    found = method(positive, negative)
    assert cosine(found, vector) >= 0.95
    assert float(found.norm()) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("method", FINDERS)
def test_shuffled_sides_hold_no_planted_vector(method: methods.Method) -> None:
    positive, negative, vector = planted()
    swap = torch.arange(len(positive)) % 2 == 0
    mixed = torch.where(swap[:, None], positive, negative)
    other = torch.where(swap[:, None], negative, positive)
    assert float(method(mixed, other).norm()) < 0.25 * float(vector.norm())


def test_centering_removes_the_direction_that_is_wanted() -> None:
    positive, negative, vector = planted()
    assert abs(cosine(methods.centered_pca(positive, negative), vector)) < 0.5
    assert abs(cosine(methods.paired_pca(positive, negative), vector)) > 0.95


def test_lda_is_that_of_sklearn() -> None:
    positive, negative, _ = planted(n=300, d=6)
    fitted = LinearDiscriminantAnalysis(solver="eigen").fit(
        torch.cat([positive, negative]).numpy(), np.repeat([1, 0], len(positive))
    )
    expected = torch.from_numpy(fitted.coef_[0]).float()
    assert cosine(methods.whitened(positive, negative, ridge=0.0), expected) > 0.99999
    assert cosine(methods.lda(positive, negative), expected) > 0.999


def test_large_ridge_is_the_difference_of_means() -> None:
    positive, negative, _ = planted()
    gap = methods.mean_difference(positive, negative)
    torch.testing.assert_close(
        methods.whitened(positive, negative, ridge=1e9), gap, rtol=1e-3, atol=1e-3
    )
    assert cosine(methods.ridge(positive, negative, penalty=1e9), gap) > 0.9999


def activations(positive: torch.Tensor, negative: torch.Tensor) -> PairActivations:
    sides = [
        Activations(tensors={"resid_post": side[:, None]}, layers=(5,), pooling="mean")
        for side in (positive, negative)
    ]
    return PairActivations(positive=sides[0], negative=sides[1], norms={5: 10.0})


def test_fit_keeps_layer_norm_and_provenance() -> None:
    positive, negative, _ = planted(n=10)
    vector = fit(activations(positive, negative))
    torch.testing.assert_close(vector.values[5], (positive - negative).mean(0))
    assert vector.norms == {5: 10.0}
    assert vector.provenance == {"method": "mean_difference", "n_pairs": 10}


def test_zero_difference_is_refused(llama: HookedModel) -> None:
    positive, _, _ = planted(n=10)
    with pytest.raises(ValueError, match="equal at layer 5"):
        fit(activations(positive, positive))
    with pytest.raises(ValueError, match="equal at layer 0"):
        fit_vector(llama, Pairs.from_texts(["ab"], ["ab"]))


def test_all_layers_come_from_one_pass_and_equal_the_mean_difference(llama: HookedModel) -> None:
    pairs = Pairs.from_texts(["one a", "two a"], ["one b", "two b"])
    calls = []
    handle = llama.module.model.layers[0].register_forward_hook(lambda *a: calls.append(1))
    vector = fit_vector(llama, pairs)
    handle.remove()
    assert len(calls) == 3  # the pairs, and the two passes of the check
    assert vector.layers == (0, 1, 2, 3)
    acts = extract_pairs(llama, pairs, share_prefixes=False)
    for layer in vector.layers:
        torch.testing.assert_close(vector.values[layer], acts.differences(layer).mean(0))


def test_heads_are_fitted_head_by_head(llama: HookedModel) -> None:
    pairs = Pairs.from_texts(["one a", "two c"], ["one b", "two d"])
    acts = extract_pairs(llama, pairs, layers=[1], site="z")
    vector = fit(acts, method=methods.paired_pca)
    expected = methods.paired_pca(acts.sides(1)[0][:, 2], acts.sides(1)[1][:, 2])
    torch.testing.assert_close(vector.values[1][2], expected)


def test_a_background_may_have_any_number_of_examples() -> None:
    positive, negative, vector = planted()
    found = methods.mean_centered(positive[:300], negative)
    assert cosine(found, vector) >= 0.95
