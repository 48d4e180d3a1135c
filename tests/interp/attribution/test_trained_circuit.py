"""A head and a neuron that learned their task, while all the rest of the model stayed random."""

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedModel
from interp.attribution import (
    Metric,
    Pairs,
    PatchingResult,
    attribute_cells,
    grid,
    logit_diff,
    make_pairs,
    patch_cells,
)
from interp.attribution.cells import Cell
from tests.interp.attribution.conftest import ANSWERS, SUBJECTS, WORDS, tiny_gpt2

pytestmark = pytest.mark.slow

HEAD, NEURON, WIDTH = (1, 2), (1, 77), 8
METHODS = pytest.mark.parametrize("method", ["exact", "gradient", "integrated"])


def trained(
    texts: list[str], answers: list[str], masks: dict[str, Tensor], n_steps: int
) -> HookedModel:
    """A random model in which only the masked weights learn to give the answers."""
    model = tiny_gpt2(seed=11, scale=0.1)
    weights = dict(model.module.named_parameters())
    ids = torch.from_numpy(model.tokenize(texts).ids).reshape(len(texts), -1)
    targets = torch.tensor([WORDS.index(answer) for answer in answers])
    learning = [weights[name] for name in masks]
    optimizer = torch.optim.Adam(learning, lr=0.02)
    for _ in range(n_steps):
        loss = torch.nn.functional.cross_entropy(model.module(ids).logits[:, -1], targets)
        gradients = torch.autograd.grad(loss, learning)
        for weight, gradient, mask in zip(learning, gradients, masks.values(), strict=True):
            weight.grad = gradient * mask
        optimizer.step()
    optimizer.zero_grad()
    accuracy = (model.module(ids).logits[:, -1].argmax(-1) == targets).float().mean()
    assert accuracy > 0.95, "the task was learned"
    return model


def mask(shape: tuple[int, ...], *index: object) -> Tensor:
    found = torch.zeros(shape)
    found[index] = 1
    return found


@pytest.fixture(scope="module")
def head_task() -> HookedModel:
    """Which city a land has, said behind the land: one head has to fetch it."""
    layer, head = HEAD
    own = slice(WIDTH * head, WIDTH * (head + 1))
    inputs = torch.zeros(32, 96)
    for part in range(3):  # queries, keys and values of this head
        inputs[:, 32 * part + own.start : 32 * part + own.stop] = 1
    attention = f"transformer.h.{layer}.attn"
    masks = {
        f"{attention}.c_attn.weight": inputs,
        f"{attention}.c_attn.bias": inputs[0],
        f"{attention}.c_proj.weight": mask((32, 32), own),
    }
    texts = [f"the {w} of {s} {v}" for s in SUBJECTS for w in ("capital", "old") for v in _VERBS]
    answers = [a for a in ANSWERS for _ in range(4)]
    return trained(texts, answers, masks, n_steps=250)


_VERBS = ("is", "was")


@pytest.fixture(scope="module")
def neuron_task() -> HookedModel:
    """Whether a land is one of the first four, said at the land: one neuron has to tell."""
    layer, neuron = NEURON
    mlp = f"transformer.h.{layer}.mlp"
    masks = {
        f"{mlp}.c_fc.weight": mask((32, 128), slice(None), neuron),
        f"{mlp}.c_fc.bias": mask((128,), neuron),
        f"{mlp}.c_proj.weight": mask((128, 32), neuron),
        f"{mlp}.c_proj.bias": torch.ones(32),
    }
    texts = [f"the {word} of {s}" for word in ("capital", "old") for s in SUBJECTS]
    answers = [ANSWERS[k // 4] for _ in range(2) for k in range(8)]
    return trained(texts, answers, masks, n_steps=250)


def found_by(
    method: str, model: HookedModel, pairs: Pairs, metric: Metric, cells: tuple[Cell, ...]
) -> PatchingResult:
    if method == "exact":
        return patch_cells(model, pairs, metric, cells)
    return attribute_cells(model, pairs, metric, cells, method=method)


def assert_stands_out(found: PatchingResult) -> None:
    """The first cell restores most, and its interval over pairs is above those of all others."""
    order = np.argsort(-found.effects)
    low, high = found.intervals().T
    assert found.effects[order[0]] > 0.5
    assert low[order[0]] > 2 * high[order[1:]].max()


def assert_ranks_first(
    method: str,
    model: HookedModel,
    pairs: Pairs,
    cells: tuple[Cell, ...],
    place: tuple[int, tuple[int]],
    *,
    chance: float,
) -> None:
    """A place is found and stands out; shuffled pairs change less than a share of what it does."""
    found = found_by(method, model, pairs, logit_diff(pairs), cells)
    best = found.top(1)[0]
    assert (best.layer, best.units) == place
    assert_stands_out(found)
    shuffled = pairs.shuffled()
    control = found_by(method, model, shuffled, logit_diff(shuffled), cells)
    assert np.abs(control.changes).max() < chance * np.abs(found.changes).max()


@METHODS
def test_the_trained_head_ranks_first(head_task: HookedModel, method: str) -> None:
    pairs = make_pairs(
        head_task,
        [f"the capital of land{k} is" for k in range(4)],
        [f"the capital of land{k} is" for k in range(4, 8)],
        answers=ANSWERS[:4],
        wrong_answers=ANSWERS[4:],
    )
    cells = grid(head_task, "z", units=range(4))
    place = (HEAD[0], (HEAD[1],))
    assert_ranks_first(method, head_task, pairs, cells, place, chance=0.25)


@METHODS
def test_the_trained_neuron_ranks_first(neuron_task: HookedModel, method: str) -> None:
    ways = [(a, b) for a in range(4) for b in range(4, 8)]
    ways += [(b, a) for a, b in ways]  # either answer is the right one as often
    pairs = make_pairs(
        neuron_task,
        [f"the capital of land{clean}" for clean, _ in ways],
        [f"the capital of land{corrupted}" for _, corrupted in ways],
        answers=[ANSWERS[clean // 4] for clean, _ in ways],
        wrong_answers=[ANSWERS[corrupted // 4] for _, corrupted in ways],
    )
    cells = grid(neuron_task, "mlp_post", units=range(128))
    place = (NEURON[0], (NEURON[1],))
    assert_ranks_first(method, neuron_task, pairs, cells, place, chance=0.4)
