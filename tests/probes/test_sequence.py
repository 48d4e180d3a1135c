import dataclasses

import numpy as np
import pytest
import torch
from sklearn.base import clone

from interp import Activations, Span
from interp.core.tokens import Tokens
from probes import LinearProbe, auroc
from probes.pooling import Attention, Last, Max, Mean, RollingMean, Softmax, Swim
from probes.sequence import SequenceProbe
from probes.sequence_fitting import Examples, SequenceTraining, TokenWeights, fit_tokens, row_auroc
from probes.sweeps import cross_scores, sweep_layers

D_MODEL = 16
QUICK = SequenceTraining(n_epochs=14, learning_rate=0.04, batch_size=16, patience=14)


def token_table(lengths: np.ndarray) -> Tokens:
    """Conversations of two turns; the first token of each is no content."""
    n, total = len(lengths), int(lengths.sum())
    positions = np.concatenate([np.arange(k) for k in lengths])
    half = np.repeat(lengths // 2, lengths)
    return Tokens(
        ids=np.arange(total) % 50,
        lengths=lengths,
        positions=positions,
        turns=(positions >= half).astype(np.int64),
        content=positions > 0,
        chars=np.stack([positions, positions + 1], 1),
        texts=tuple("x" * int(k) for k in lengths),
        roles=(("user", "assistant"),) * n,
    )


def token_activations(n: int = 120, *, needle: bool = True, seed: int = 0) -> Activations:
    """Positive texts have one token with a planted direction, somewhere; the rest is noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 30, n)
    labels = np.arange(n) % 2
    X = rng.normal(size=(int(lengths.sum()), 2, D_MODEL))
    starts = np.cumsum(lengths) - lengths
    at = starts + rng.integers(1, lengths)
    X[at[labels == 1], 1, 3] += 6 if needle else 0
    return Activations(
        tensors={"resid_post": torch.from_numpy(X).float()},
        layers=(2, 5),
        labels=labels,
        groups=np.array([f"g{i // 2}" for i in range(n)]),
        tokens=token_table(lengths),
    )


@pytest.fixture(scope="module")
def data() -> Activations:
    return token_activations()


@pytest.fixture(scope="module")
def fitted(data: Activations) -> SequenceProbe:
    return SequenceProbe(Max(), training=QUICK).fit(data.at(5))


RULES = [Attention(), Attention(n_heads=2), Max(), Softmax(temperature=1.0), RollingMean(window=3)]


@pytest.mark.parametrize("rule", [*RULES, Swim(window=2)], ids=repr)
def test_a_planted_token_is_found(data: Activations, rule) -> None:
    probe = SequenceProbe(rule, training=QUICK).fit(data.at(5))
    fresh = token_activations(seed=1).at(5)
    assert auroc(fresh.labels, probe.decision_function(fresh)).value > 0.85
    tokens = probe.score_tokens(fresh)
    assert tokens.shape == (120, int(fresh.tokens.lengths.max()))


def test_nothing_is_found_where_nothing_was_planted() -> None:
    probe = SequenceProbe(training=QUICK).fit(token_activations(needle=False).at(5))
    fresh = token_activations(300, needle=False, seed=1).at(5)
    found = auroc(fresh.labels, probe.decision_function(fresh))
    assert abs(found.value - 0.5) < 0.15


def test_needle_has_the_highest_token_score(fitted: SequenceProbe) -> None:
    fresh = token_activations(seed=1).at(5)
    values, _ = fresh.padded()
    scores = fitted.score_tokens(fresh)
    positive = fresh.labels == 1
    needle = values[..., 3].argmax(1).numpy()
    assert (np.nanargmax(scores, 1) == needle)[positive].mean() > 0.9


def test_direction_is_the_planted_axis(fitted: SequenceProbe, data: Activations) -> None:
    direction = fitted.direction_
    assert direction.vector.argmax() == 3
    assert (direction.layer, direction.site) == (5, "resid_post")
    joined = SequenceProbe(training=dataclasses.replace(QUICK, n_epochs=1)).fit(data)
    with pytest.raises(AttributeError, match="one layer, one head"):
        _ = joined.direction_


def test_padding_and_left_out_tokens_are_nan(fitted: SequenceProbe, data: Activations) -> None:
    scores = fitted.score_tokens(data.at(5))
    expected = np.arange(scores.shape[1]) < data.tokens.lengths[:, None]
    expected[:, 0] = False
    np.testing.assert_array_equal(np.isfinite(scores), expected)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_contributions_sum_to_the_score(data: Activations, rule) -> None:
    probe = SequenceProbe(rule, training=dataclasses.replace(QUICK, n_epochs=2)).fit(data.at(5))
    parts = probe.explain(data.at(5))
    np.testing.assert_allclose(np.nansum(parts, 1), probe.decision_function(data.at(5)), atol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_score_of_a_prefix_is_that_of_the_text_cut_there(data: Activations, rule) -> None:
    probe = SequenceProbe(rule, training=dataclasses.replace(QUICK, n_epochs=2)).fit(data.at(5))
    some = data.at(5)[:3]
    prefixes = probe.score_prefixes(some)
    for stop in (2, 4):
        keep = some.tokens.positions < stop
        cut = Activations(
            tensors={"resid_post": some.values[torch.from_numpy(keep)]},
            layers=(5,),
            tokens=some.tokens.take(keep),
        )
        np.testing.assert_allclose(prefixes[:, stop - 1], probe.decision_function(cut), atol=1e-5)


def test_turns_are_scored_alone_and_so_far(fitted: SequenceProbe, data: Activations) -> None:
    some = data.at(5)[:4]
    frame = fitted.score_turns(some)
    scores = fitted.score_tokens(some)
    last = frame[frame["turn"] == 1]
    np.testing.assert_allclose(last["so_far"], fitted.decision_function(some), atol=1e-5)
    for row in frame.itertuples():
        half, n = some.tokens.lengths[row.example] // 2, some.tokens.lengths[row.example]
        span = slice(1, half) if row.turn == 0 else slice(half, n)
        assert row.score == pytest.approx(np.nanmax(scores[row.example, span]), abs=1e-5)
    assert set(fitted.score_turns(some, role="user")["role"]) == {"user"}


def test_trained_soft_and_read_hard(data: Activations) -> None:
    training = dataclasses.replace(QUICK, n_epochs=4)
    soft = SequenceProbe(Softmax(temperature=1.0), training=training).fit(data.at(5))
    hard = SequenceProbe(Softmax(temperature=1.0), reading=Max(), training=training).fit(data.at(5))
    torch.testing.assert_close(soft.weights_.value, hard.weights_.value)
    np.testing.assert_allclose(
        hard.decision_function(data.at(5)), np.nanmax(soft.score_tokens(data.at(5)), 1), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"needs heads or queries that .* does not train"):
        SequenceProbe(Mean(), reading=Attention()).fit(data.at(5))


def test_several_layers_at_once(data: Activations) -> None:
    probe = SequenceProbe(Max(), training=QUICK).fit(data)
    assert probe.weights_.value.shape == (1, 1, 2 * D_MODEL)
    assert probe.weights_.value.abs().argmax() == D_MODEL + 3
    with pytest.raises(ValueError, match="fitted to resid_post of layer 2, 5, and these"):
        probe.decision_function(data.at(5))


def test_a_pooled_probe_reads_tokens_with_the_same_score(data: Activations) -> None:
    pooled = data.at(5).pool("mean")
    probe = LinearProbe(C=0.1).fit(pooled)
    by_token = SequenceProbe.from_pooled(probe)
    np.testing.assert_allclose(
        by_token.decision_function(data.at(5)), probe.decision_function(pooled), atol=1e-4
    )
    assert by_token.predict(data.at(5)).tolist() == probe.predict(pooled).tolist()


def test_order_of_examples_and_chunks_do_not_matter(fitted, data, monkeypatch) -> None:
    whole = fitted.decision_function(data.at(5))
    monkeypatch.setattr("probes.sequence._CHUNK", 40)
    shuffled = np.random.default_rng(0).permutation(len(data))
    np.testing.assert_allclose(
        fitted.decision_function(data.at(5)[shuffled]), whole[shuffled], atol=1e-5
    )


def test_best_epoch_is_kept_as_a_copy(data: Activations, monkeypatch) -> None:
    seen = []

    def evaluate(model, examples, targets):
        seen.append(model.unstandardized([p.detach().clone() for p in model.parameters]))
        rate = 1.0 if len(seen) == 3 else 0.0
        scores = torch.where(targets > 0, rate, 1 - rate).expand_as(targets)
        return scores + 1e-3 * torch.arange(targets.shape[1]), torch.zeros(len(targets))

    monkeypatch.setattr("probes.sequence_fitting._Model.evaluate", evaluate)
    training = dataclasses.replace(QUICK, n_epochs=8)
    probe = SequenceProbe(Mean(), training=training).fit(data.at(5))
    torch.testing.assert_close(probe.weights_.value, seen[2].value)
    assert not torch.allclose(seen[2].value, seen[-1].value)


def test_fewer_batches_than_usual_still_learn(data: Activations) -> None:
    training = dataclasses.replace(QUICK, batch_size=1000, n_epochs=40)
    probe = SequenceProbe(Max(), training=training).fit(data.at(5))
    assert auroc(data.labels, probe.decision_function(data.at(5))).value > 0.85


def test_training_leaves_the_activations_as_they_are(data: Activations) -> None:
    before = data.values.clone()
    SequenceProbe(training=dataclasses.replace(QUICK, n_epochs=1)).fit(data.at(5))
    torch.testing.assert_close(data.values, before, rtol=0, atol=0)


def test_seeds_are_trained_at_once_and_the_best_is_kept(data: Activations) -> None:
    training = dataclasses.replace(QUICK, n_epochs=3, n_seeds=4)
    probe = SequenceProbe(Attention(n_heads=2), training=training).fit(data.at(5))
    assert probe.weights_.value.shape == (1, 2, D_MODEL)
    again = SequenceProbe(Attention(n_heads=2), training=training).fit(data.at(5))
    torch.testing.assert_close(probe.weights_.value, again.weights_.value)


def test_classes_have_scores_of_their_own(data: Activations) -> None:
    y = np.array(["a", "b", "c"])[np.arange(len(data)) % 3]
    training = dataclasses.replace(QUICK, n_epochs=2)
    probe = SequenceProbe(training=training).fit(data.at(5), y)
    assert probe.decision_function(data.at(5)).shape == (len(data), 3)
    assert probe.score_tokens(data.at(5)).shape[2] == 3
    assert set(probe.predict(data.at(5))) <= set("abc")
    np.testing.assert_allclose(probe.predict_proba(data.at(5)).sum(1), 1)


def test_positions_may_be_a_turn_or_the_last_token(data: Activations) -> None:
    training = dataclasses.replace(QUICK, n_epochs=2)
    probe = SequenceProbe(Mean(), positions=Span(turn=1), training=training).fit(data.at(5))
    frame = probe.score_turns(data.at(5))
    assert set(frame["turn"]) == {1}
    last = SequenceProbe(Last(), positions="last", training=training).fit(data.at(5))
    assert np.isfinite(last.score_tokens(data.at(5))).sum() == len(data)


def test_fitting_may_begin_with_another_probe(fitted: SequenceProbe, data: Activations) -> None:
    still = dataclasses.replace(QUICK, n_epochs=1, learning_rate=1e-9, validation_folds=0)
    probe = SequenceProbe(Max(), training=still).fit(data.at(5), start=fitted)
    np.testing.assert_allclose(
        probe.decision_function(data.at(5)), fitted.decision_function(data.at(5)), atol=1e-4
    )


def test_row_auroc_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(3, 30)), rng.integers(0, 2, (3, 30))
    ours = row_auroc(torch.from_numpy(scores), torch.from_numpy(targets).double())
    expected = [auroc(y, row, n_draws=10).value for y, row in zip(targets, scores, strict=True)]
    np.testing.assert_allclose(ours.numpy(), expected)


def test_gradients_of_rows_are_independent() -> None:
    g = torch.Generator().manual_seed(0)
    X = torch.randn(90, 1, 5, generator=g)
    examples = Examples(X=X, lengths=torch.full((30,), 3))
    targets = (X.view(30, 3, 5).mean(1)[:, :2].T > 0).float()
    held, config = torch.zeros(30, dtype=torch.bool), dataclasses.replace(QUICK, validation_folds=0)
    zeros = TokenWeights(
        value=torch.zeros(2, 1, 5), intercept=torch.zeros(2, 1), query=torch.zeros(2, 0, 5)
    )
    (both,) = fit_tokens(examples, targets, held, Mean(), config=config, start=zeros)
    one = zeros.take(torch.tensor([1]))
    (single,) = fit_tokens(examples, targets[1:], held, Mean(), config=config, start=one)
    torch.testing.assert_close(both.weights.value[1:], single.weights.value)


@pytest.mark.parametrize("rule", [Attention(n_heads=2), Max()], ids=repr)
def test_layers_trained_at_once_are_those_trained_alone(data: Activations, rule) -> None:
    training = dataclasses.replace(QUICK, n_epochs=6, patience=2, n_seeds=2)
    probe = SequenceProbe(rule, training=training)
    y = np.array(["a", "b", "c"])[np.arange(len(data)) % 3]
    together = probe.fit_layers(data, y)
    assert not hasattr(probe, "weights_")
    for layer, found in zip((2, 5), together, strict=True):
        alone = clone(probe).fit(data.at(layer), y)
        torch.testing.assert_close(found.weights_.value, alone.weights_.value)
        torch.testing.assert_close(found.weights_.intercept, alone.weights_.intercept)
        np.testing.assert_array_equal(found.validation_auroc_, alone.validation_auroc_)
        assert found.place_ == alone.place_


def test_a_sweep_is_that_of_each_layer(data: Activations) -> None:
    probe = SequenceProbe(Max(), training=dataclasses.replace(QUICK, n_epochs=3))
    sweep = sweep_layers(data, probe, n_folds=2)
    for layer, scores in zip((2, 5), sweep.scores, strict=True):
        alone = cross_scores(probe, data.at(layer), data.labels, sweep.folds)
        np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert sweep.best_layer == 5


def test_the_planted_layer_is_found(data: Activations) -> None:
    rates = [p.validation_auroc_[0] for p in SequenceProbe(Max(), training=QUICK).fit_layers(data)]
    assert rates[1] > 0.9
    assert rates[1] - rates[0] > 0.15


def test_bad_input_is_refused(fitted: SequenceProbe, data: Activations) -> None:
    with pytest.raises(ValueError, match="are pooled"):
        fitted.decision_function(data.at(5).pool("mean"))
    with pytest.raises(TypeError, match="X is a ndarray"):
        fitted._examples(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one class"):
        SequenceProbe(training=QUICK).fit(data.at(5), np.zeros(len(data), int))
    assert clone(fitted).training is not None
