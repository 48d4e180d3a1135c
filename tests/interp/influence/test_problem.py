from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interp.influence import Problem, Queries
from tests.interp.influence.conftest import data, entropy, squared


def test_outputs_are_those_of_the_module(perceptron: Problem) -> None:
    theta = perceptron.parameters()
    torch.testing.assert_close(
        perceptron.outputs(theta, perceptron.inputs), perceptron.model(perceptron.inputs)
    )
    torch.testing.assert_close(
        perceptron.losses(theta, perceptron.inputs, perceptron.targets),
        squared(perceptron.model(perceptron.inputs), perceptron.targets),
    )


def test_the_callers_model_is_copied() -> None:
    model, (x, y) = nn.Linear(3, 1).double(), data()
    problem = Problem(model, squared, x, y)
    before = problem.parameters()
    nn.init.zeros_(model.weight)
    assert torch.equal(problem.parameters(), before)


def test_only_what_requires_a_gradient_is_trained() -> None:
    base, x = nn.Linear(3, 1).double(), data()
    base.requires_grad_(requires_grad=False)
    low_rank = nn.Sequential(base, nn.Linear(1, 1, bias=False).double())
    assert Problem(low_rank, squared, *x).n_parameters == 1
    with pytest.raises(ValueError, match="nothing to train"):
        Problem(base, squared, *x)


def test_drawn_parameters_have_the_scale_of_torch(classes: Callable[..., Problem]) -> None:
    problem = classes(model=nn.Sequential(nn.Linear(6, 400), nn.LayerNorm(400), nn.Linear(400, 3)))
    parts = problem.named(problem.draw(0))
    assert parts["0.weight"].abs().max() <= 6**-0.5
    assert parts["0.weight"].std().item() == pytest.approx(6**-0.5 / 3**0.5, rel=0.05)
    assert parts["0.bias"].abs().max() > 0.9 * 6**-0.5
    assert torch.equal(parts["1.weight"], torch.ones(400))
    assert torch.equal(problem.draw(0), problem.draw(0))
    assert not torch.equal(problem.draw(0), problem.draw(1))


class _Noisy(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + torch.rand(1)


class _Mixing(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input - input.mean(0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)), "'1' is BatchNorm1d in training mode"),
        (nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)), r"'1' is Dropout\(p=0.5\) in training"),
        (_Noisy(6, 3), "two answers to one input"),
        (_Mixing(6, 3), "depends on the others in its batch"),
    ],
)
def test_modules_that_cannot_be_attributed_are_refused(
    classes: Callable[..., Problem], model: nn.Module, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classes(model=model)


def test_frozen_batch_norm_is_allowed(classes: Callable[..., Problem]) -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3).eval())
    assert classes(model=model).n_parameters == 21 + 6


def test_bad_data_is_named() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="training set: 20 inputs and 3 targets"):
        Problem(nn.Linear(3, 1).double(), squared, x, y[:3])
    with pytest.raises(ValueError, match="queries: 0 inputs"):
        Queries(inputs=x[:0], targets=y[:0], measure=squared)
    with pytest.raises(ValueError, match='pass reduction="none"'):
        Problem(nn.Linear(3, 1).double(), nn.functional.mse_loss, x, y[:, None])
    assert entropy(torch.zeros(2, 3), torch.zeros(2).long()).shape == (2,)
