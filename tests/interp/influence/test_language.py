"""Adapters of a language model as a problem."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from interp.influence import (
    Queries,
    Training,
    language_problem,
    text_losses,
    train_ensemble,
    unrolled_reverse,
)
from interp.training.loop import trainable
from tests.tiny_models import tiny_llama

IDS = torch.randint(2, 258, (6, 7), generator=torch.Generator().manual_seed(0))
TARGETS = torch.where(torch.arange(7) < 3, -100, IDS)


def test_losses_are_cross_entropies_of_the_targets() -> None:
    logits = torch.randn(2, 7, 258, generator=torch.Generator().manual_seed(1))
    for row, loss in enumerate(text_losses(logits, TARGETS[:2])):
        expected = functional.cross_entropy(logits[row, 2:-1], IDS[row, 3:])
        torch.testing.assert_close(loss, expected)


def test_unrolling_an_adapter_is_the_finite_difference_of_its_training() -> None:
    pytest.importorskip("peft", reason="adapters come from peft (the extra `train`)")
    adapted = trainable(tiny_llama(n_layers=1).module, 2, 0, targets=["q_proj"]).double()
    problem = language_problem(adapted, IDS, TARGETS)
    assert adapted.config._attn_implementation == "sdpa"  # only the copy is changed
    assert problem.n_parameters == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    training = Training(n_steps=4, batch_size=3, lr=0.5, initial="kept")
    queries = Queries(inputs=IDS[:2], targets=TARGETS[:2], measure=text_losses)
    scores = unrolled_reverse(train_ensemble(problem, training, seeds=[0]), queries)
    example = int(np.abs(scores.values).sum((0, 1)).argmax())
    ends = []
    for shift in (1e-3, -1e-3):
        weights = torch.ones(6, dtype=torch.float64)
        weights[example] += shift
        moved = train_ensemble(problem, training, seeds=[0], weights=weights)
        ends.append(moved.measure(queries).numpy())
    slope = (ends[0] - ends[1]) / 2e-3
    error = np.linalg.norm(scores.values[:, :, example] - slope) / np.linalg.norm(slope)
    assert error < 1e-3  # attention takes its softmax in float32


def test_a_text_without_targets_is_refused() -> None:
    targets = TARGETS.clone()
    targets[4] = -100
    with pytest.raises(ValueError, match=r"texts \[4\] have no target"):
        language_problem(tiny_llama(n_layers=1).module, IDS, targets)
