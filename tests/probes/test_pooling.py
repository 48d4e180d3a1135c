import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.pooling import (
    Attention,
    Ema,
    Last,
    Max,
    Mean,
    Pooling,
    RollingAttention,
    RollingMean,
    Softmax,
    Swim,
)

RULES = [
    Mean(),
    Last(),
    Max(),
    Max(n_heads=3),
    Softmax(),
    Softmax(temperature=0.7),
    Attention(),
    Attention(n_heads=2),
    RollingMean(window=4),
    RollingMean(window=40),
    RollingAttention(window=3, n_heads=2),
    Swim(window=5),
    Ema(decay=0.3),
]


def weighted(v: np.ndarray, logits: np.ndarray) -> float:
    w = np.exp(logits - logits.max())
    return float((w * v).sum() / w.sum())


def by_hand(rule: Pooling, values: np.ndarray, queries: np.ndarray) -> float:
    """The score of one text by the definition, head by head."""
    total = 0.0
    for v, q in zip(values.T, queries.T, strict=True):
        if isinstance(rule, RollingMean):
            width = min(rule.window, len(v))
            logits = q if rule.has_queries else np.zeros(len(v))
            spans = [slice(i, i + width) for i in range(len(v) - width + 1)]
            total += max(weighted(v[s], logits[s]) for s in spans)
        elif isinstance(rule, Softmax):
            total += weighted(v, v / rule.temperature)
        elif isinstance(rule, Attention):
            total += weighted(v, q)
        elif isinstance(rule, Ema):
            average, best = v[0], v[0]
            for x in v[1:]:
                average = (1 - rule.decay) * average + rule.decay * x
                best = max(best, average)
            total += best
        else:
            total += {"Mean": v.mean(), "Last": v[-1], "Max": v.max()}[type(rule).__name__]
    return total


def texts(rule: Pooling, lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Values, queries and mask; the padding holds large numbers that must not matter."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths), rule.n_heads)
    values, queries = (torch.randn(shape, generator=g, dtype=torch.float64) - 3 for _ in range(2))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return values.masked_fill(~mask[..., None], 1e3), queries, mask


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_every_rule_is_its_definition_whatever_the_padding(
    rule: Pooling, lengths: list[int], seed: int
) -> None:
    values, queries, mask = texts(rule, lengths, seed)
    scores = rule.pooled(values, rule.logits(values, queries), mask)
    expected = [
        by_hand(rule, v[:n].numpy(), q[:n].numpy())
        for v, q, n in zip(values, queries, lengths, strict=True)
    ]
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_streaming_gives_the_score_of_every_prefix(rule: Pooling) -> None:
    values, queries, _ = texts(rule, [50])
    state = rule.start(values[:, 0])
    for n in range(1, 51):
        logits = rule.logits(values[:, n - 1], queries[:, n - 1])
        state, score = rule.step(state, values[:, n - 1], logits)
        assert score.item() == pytest.approx(
            by_hand(rule, values[0, :n].numpy(), queries[0, :n].numpy())
        )
    assert sum(tensor.numel() for tensor in state) <= 4 * 40 * 3


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_scores_are_piecewise_linear_in_the_values(rule: Pooling) -> None:
    values, queries, mask = texts(rule, [50, 3])
    logits = rule.logits(values, queries)
    values.requires_grad_()
    scores = rule.pooled(values, logits.detach(), mask)
    (gradient,) = torch.autograd.grad(scores.sum(), values)
    parts = (values * gradient).sum((-1, -2))
    np.testing.assert_allclose(parts.detach().numpy(), scores.detach().numpy())


def test_max_of_negative_scores_is_not_the_zero_of_the_padding() -> None:
    values = torch.tensor([[[-2.0], [-1.0], [0.0], [0.0]]])
    mask = torch.tensor([[True, True, False, False]])
    assert Max().pooled(values, values, mask).item() == -1


def test_windows_never_reach_into_the_padding_and_short_texts_are_one_window() -> None:
    values = torch.tensor([[[-6.0], [-2.0], [0.0], [0.0], [0.0]]])
    mask = torch.tensor([[True, True, False, False, False]])
    assert RollingMean(window=3).pooled(values, 0 * values, mask).item() == -4
    assert RollingMean(window=40).pooled(values, 0 * values, mask).item() == -4


def test_swim_weighs_confident_windows_more() -> None:
    rule = Swim(window=2)
    mask = torch.ones(1, 6, dtype=torch.bool)
    quiet = torch.full((1, 6, 1), -4.0)
    alarm = quiet.clone()
    alarm[0, 2:4] = 6.0
    harmless = torch.zeros(1)
    assert rule.loss(quiet, 0 * quiet, mask, harmless).item() < 0.02
    assert rule.loss(alarm, 0 * alarm, mask, harmless).item() > 4


def test_swim_loss_is_its_formula() -> None:
    rule = Swim(window=2, temperature=0.5)
    v = torch.tensor([1.0, -1.0, 2.0])
    means = torch.tensor([0.0, 0.5])
    share = (means / 0.5).softmax(0)
    expected = (share * torch.nn.functional.softplus(-means)).sum()
    loss = rule.loss(
        v[None, :, None], torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool), torch.ones(1)
    )
    assert loss.item() == pytest.approx(expected.item())


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="window=0: needed a positive number"):
        RollingMean(window=0)
