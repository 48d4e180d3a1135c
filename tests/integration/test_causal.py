import numpy as np
import pytest
import torch

from interp import Direction, Records
from probes.causal import check_steering

pytestmark = pytest.mark.model
RECORDS = Records.from_texts(["The weather is", "My dog is", "This soup is"])


def test_direction_of_an_answer_raises_it_and_a_random_one_does_not(smollm2) -> None:
    ids = [smollm2.tokenizer(a)["input_ids"][0] for a in (" good", " bad")]
    unembedding = smollm2.module.get_output_embeddings().weight
    direction = Direction(
        vector=(unembedding[ids[0]] - unembedding[ids[1]]).detach(), layer=smollm2.n_layers - 1
    )
    found = check_steering(
        smollm2, direction, RECORDS, (" good", " bad"), coefficients=(-20.0, 0.0, 20.0)
    )
    assert found.log_odds.shape == (3, 3)
    assert found.slope > 5 * abs(found.control_slope)
    np.testing.assert_allclose(found.log_odds[1], found.control[1])
    plain = smollm2.module(
        **smollm2.tokenizer("The weather is", return_tensors="pt")
    ).logits.detach()[0, -1]
    assert found.log_odds[1, 0] == pytest.approx(float(plain[ids[0]] - plain[ids[1]]), abs=1e-3)
    assert len(found.to_frame()) == 18
    assert len(found.plot().data) >= 2
    assert not smollm2.hooks.active


def test_answers_that_begin_alike_are_refused(smollm2) -> None:
    direction = Direction(vector=torch.ones(smollm2.d_model), layer=3)
    with pytest.raises(ValueError, match="begin with the same token"):
        check_steering(smollm2, direction, RECORDS, (" good", " good one"))
