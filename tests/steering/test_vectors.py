"""Steering vectors: arithmetic, scale, files, and refusal of what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp import Direction, HookedModel, HookNotFoundError, ModelMismatchError
from steering import SteeringVector


def vector(seed: int = 0, **changes: object) -> SteeringVector:
    generator = torch.Generator().manual_seed(seed)
    values = {layer: torch.randn(32, generator=generator) for layer in (1, 3)}
    return SteeringVector(**{"values": values, "norms": {1: 10.0, 3: 20.0}, **changes})  # type: ignore[arg-type]


def test_arithmetic_is_that_of_the_values() -> None:
    a, b = vector(0), vector(1)
    torch.testing.assert_close((a + b).values[1], a.values[1] + b.values[1])
    torch.testing.assert_close((a - b).values[3], a.values[3] - b.values[3])
    torch.testing.assert_close((2 * a / 4).values[1], a.values[1] / 2)
    torch.testing.assert_close((-a).values[1], -a.values[1])


def test_a_sum_has_the_layers_of_both() -> None:
    a, b = vector(0).at(1), vector(1).at(3)
    assert (a + b).layers == (1, 3)
    assert (a + b).norms == {1: 10.0, 3: 20.0}
    torch.testing.assert_close((a - b).values[3], -b.values[3])


def test_projecting_off_leaves_nothing_along_the_other() -> None:
    a, b = vector(0), vector(1)
    assert a.without(b).cosine(b) == pytest.approx({1: 0, 3: 0}, abs=1e-6)
    kept = a.without(b)
    for layer in a.layers:  # Pythagoras
        part = a.cosine(b)[layer] * a.values[layer].norm()
        total = kept.values[layer].norm() ** 2 + part**2
        torch.testing.assert_close(total, a.values[layer].norm() ** 2)


def test_strength_is_measured_in_norms_of_the_activations() -> None:
    scaled = vector().scaled_to(0.5, unit="residual")
    assert scaled.strengths == pytest.approx({1: 0.5, 3: 0.5})
    torch.testing.assert_close(scaled.values[3].norm(), torch.tensor(10.0))
    assert scaled.cosine(vector()) == pytest.approx({1: 1, 3: 1})


def test_save_and_load_is_identity(tmp_path: Path, llama: HookedModel) -> None:
    before = vector(origin=llama.origin, provenance={"method": "mean difference", "n": 3})
    after = SteeringVector.load(before.save(tmp_path / "v.safetensors"), origin=llama.origin)
    assert after.provenance == before.provenance
    assert (after.layers, after.site, after.norms) == (before.layers, before.site, before.norms)
    assert all(torch.equal(after.values[k], before.values[k]) for k in before.layers)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = Direction(vector=torch.ones(3), layer=1).save(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"schema 'hookscope.direction/1': needed"):
        SteeringVector.load(path)


def test_a_vector_of_another_model_is_refused(
    tmp_path: Path, llama: HookedModel, gpt2: HookedModel
) -> None:
    foreign = vector(origin=gpt2.origin)
    path = foreign.save(tmp_path / "v.safetensors")
    with pytest.raises(ModelMismatchError, match="'tiny-gpt2'"):
        SteeringVector.load(path, origin=llama.origin)
    with (
        pytest.raises(ModelMismatchError, match="the steering vector was made with"),
        foreign.applied(llama),
    ):
        pass
    with replace(foreign, origin=None).applied(llama):
        pass


def test_a_vector_of_another_width_or_layer_is_refused(llama: HookedModel) -> None:
    wide = SteeringVector(values={1: torch.ones(33)})
    with pytest.raises(ModelMismatchError, match="width 33"), wide.applied(llama):
        pass
    high = SteeringVector(values={9: torch.ones(32)})
    with pytest.raises(HookNotFoundError, match="no layer 9"), high.applied(llama):
        pass


def test_from_direction_and_back() -> None:
    direction = Direction(vector=torch.tensor([3.0, 4.0]), layer=2, site="resid_pre")
    made = SteeringVector.from_direction(direction, norm=10.0)
    torch.testing.assert_close(made.values[2], torch.tensor([6.0, 8.0]))
    assert made.site == "resid_pre"
    torch.testing.assert_close(made.direction().vector, direction.vector)
    moved = SteeringVector.from_direction(direction, layer=5, site="resid_post")
    assert (moved.layers, moved.site) == ((5,), "resid_post")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no layer"),
        ({1: torch.ones(2), 2: torch.ones(3)}, "all layers need the same one"),
        ({1: torch.tensor([1.0, float("nan")])}, r"layers \[1\] are not finite"),
    ],
)
def test_broken_values_are_refused(values: dict[int, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SteeringVector(values=values)


def test_errors_of_arithmetic_name_the_reason() -> None:
    with pytest.raises(ValueError, match="do not add"):
        vector() + vector(site="resid_pre")
    with pytest.raises(ValueError, match=r"no layers \[3\]"):
        vector().without(vector().at(1))
    with pytest.raises(ValueError, match="zero at layers"):
        vector().without(0 * vector())
    with pytest.raises(ValueError, match="norms of the activations are not known"):
        vector(norms=None).scaled_to(1.0, unit="residual")
    with pytest.raises(ValueError, match="they have no direction"):
        (0 * vector()).scaled_to(1.0)
    with pytest.raises(ValueError, match=r"no vector at layers \[2\]"):
        vector().at(2)


def test_to_frame_has_a_row_for_each_layer() -> None:
    assert vector().to_frame()["layer"].tolist() == [1, 3]
