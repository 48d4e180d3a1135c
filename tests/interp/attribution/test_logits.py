"""Parts of logits: they sum to the model's, whatever norm it ends with."""

import numpy as np
import pytest
import torch

from interp import HookedModel
from interp.attribution import decompose_logits, logit_lens, make_pairs

TEXTS = [f"the capital of land{k} is" for k in range(4)]


@pytest.mark.parametrize("name", ["gpt2", "llama", "head_model"])
def test_parts_sum_to_the_logits(name: str, request: pytest.FixtureRequest) -> None:
    model: HookedModel = request.getfixturevalue(name)
    ids = np.arange(15, 19), np.arange(16, 20)
    found = decompose_logits(model, [*TEXTS[:3], "the old capital of land3 is"], *ids)
    np.testing.assert_allclose(found.values.sum(1), found.totals, atol=1e-4)
    batch = model.tokenize(TEXTS).batch(range(3))
    with torch.no_grad():
        logits = model.module(**batch).logits[:, -1].numpy()
    rows = np.arange(3)
    np.testing.assert_allclose(
        found.totals[:3], logits[rows, ids[0][:3]] - logits[rows, ids[1][:3]], atol=1e-4
    )
    assert len(found.to_frame()) == len(found.components) == 2 + 2 * 3
    assert len(found.plot(n=4).data[0].x) == 4


def test_the_planted_head_writes_the_answer(head_model: HookedModel) -> None:
    pairs = make_pairs(
        head_model, TEXTS, TEXTS, answers=[f"city{k}" for k in range(4)],
        wrong_answers=[f"city{k + 1}" for k in range(4)],
    )  # fmt: skip
    found = decompose_logits(head_model, pairs.clean, pairs.answers, pairs.wrong_answers)
    frame = found.to_frame().sort_values("mean", key=abs, ascending=False)
    assert frame["component"].iloc[0] == "attention 1"
    assert frame["mean"].iloc[0] > 20 * abs(frame["mean"].iloc[1])
    lens = logit_lens(head_model, pairs.clean, pairs.answers)
    assert (lens[:, 0] < np.log(0.2)).all()  # before the head
    assert (lens[:, 1:] > np.log(0.5)).all()


def test_the_last_layer_of_the_lens_is_the_model(llama: HookedModel) -> None:
    ids = np.arange(15, 19)
    with torch.no_grad():
        logits = llama.module(**llama.tokenize(TEXTS).batch(range(4))).logits[:, -1]
    expected = logits.log_softmax(-1)[torch.arange(4), torch.from_numpy(ids)]
    np.testing.assert_allclose(logit_lens(llama, TEXTS, ids)[:, -1], expected, atol=1e-5)


def test_capped_logits_have_no_parts(llama: HookedModel) -> None:
    cap = llama.module.get_output_embeddings().register_forward_hook(
        lambda module, args, output: 3 * torch.tanh(output / 3)
    )
    with pytest.raises(ValueError, match="they have no parts"):
        decompose_logits(llama, TEXTS, np.arange(15, 19), np.arange(16, 20))
    cap.remove()
