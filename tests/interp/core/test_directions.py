"""Directions and origins: unit vectors that know where they come from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp import Direction, ModelMismatchError

VECTOR = torch.arange(1.0, 17.0)


def test_a_file_gives_back_the_direction_and_knows_its_model(tiny, make_model, tmp_path) -> None:
    direction = Direction(
        vector=VECTOR, layer=1, site="mlp_out", origin=tiny.origin, provenance={"auroc": 0.9}
    )
    path = direction.save(tmp_path / "d.safetensors")
    back = Direction.load(path, origin=tiny.origin)
    assert torch.equal(back.vector, direction.vector)
    assert (back.layer, back.site, back.provenance) == (1, "mlp_out", {"auroc": 0.9})
    other = make_model("qwen3")
    with pytest.raises(
        ModelMismatchError, match=r"d.safetensors was made with 'random-llama', and"
    ):
        Direction.load(path, origin=other.origin)
    assert Direction.load(path).origin == tiny.origin


def test_origins_tell_trained_weights_and_templates_apart(make_model) -> None:
    model = make_model("llama")
    before = model.origin
    model.origin.check(before, "it")
    replace(before, model="another name").check(before, "it")
    with torch.no_grad():
        model.module.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    with pytest.raises(ModelMismatchError, match="fingerprint"):
        before.check(model.origin, "it")
    model = make_model("llama")
    model.module.to(torch.bfloat16)
    assert model.origin.fingerprint == before.fingerprint
    model.tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(ModelMismatchError, match="template"):
        before.check(model.origin, "it")


def test_directions_are_unit_vectors() -> None:
    direction = Direction(vector=VECTOR.double(), layer=0)
    assert direction.vector.dtype == torch.float32
    assert direction.vector.norm().item() == pytest.approx(1.0)
    assert direction.cosine(direction) == pytest.approx(1.0)
    assert (-direction).cosine(direction) == pytest.approx(-1.0)
    assert direction.cosine(VECTOR.flip(0)) == pytest.approx(
        float(VECTOR @ VECTOR.flip(0) / VECTOR.norm() ** 2)
    )


@pytest.mark.parametrize("vector", [torch.zeros(3), torch.tensor([1.0, torch.nan])])
def test_vectors_without_a_direction_are_refused(vector: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needed one finite, non-zero axis"):
        Direction(vector=vector, layer=0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        Direction.load(tmp_path / "x")
