"""A classifier from a folder gives what transformers gives; what is not there is said clearly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from hookscope.toxicity.hub_classifier import load_hub_classifier
from interp.core.errors import ModelNotFoundError
from tests.tiny_models import byte_tokenizer, save_classifier

SEVERAL = "multi_label_classification"
TEXTS = ["a kind word", "what a mess this is, and it goes on", "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier"))


def logits_of(folder: Path) -> torch.Tensor:
    """Logits of each text alone."""
    module = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return torch.cat(
            [module(**byte_tokenizer()(text, return_tensors="pt")).logits for text in TEXTS]
        )


def test_probabilities_are_those_of_the_model(folder: Path) -> None:
    judge = load_hub_classifier(str(folder))
    assert (judge.label, judge.index, judge.exclusive) == ("Toxic", 1, True)
    expected = logits_of(folder).softmax(-1)[:, 1]
    np.testing.assert_allclose(judge(TEXTS), expected, atol=1e-5)  # padding does not matter
    assert len({round(p, 4) for p in expected.tolist()}) == 3
    assert len(judge([])) == 0
    assert len(judge(["long " * 100])) == 1
    by_index = load_hub_classifier(str(folder), label=1)
    np.testing.assert_array_equal(by_index(TEXTS), judge(TEXTS))


def test_labels_that_do_not_exclude_each_other_get_a_sigmoid(tmp_path: Path, folder: Path) -> None:
    judge = load_hub_classifier(str(save_classifier(tmp_path, problem_type=SEVERAL)))
    assert not judge.exclusive
    expected = logits_of(tmp_path).sigmoid()[:, 1]
    np.testing.assert_allclose(judge(TEXTS), expected, atol=1e-5)
    other = load_hub_classifier(str(folder), exclusive=False)
    np.testing.assert_allclose(other(TEXTS), judge(TEXTS), atol=1e-6)


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no classifier 'nobody/nothing'.*hf download"):
        load_hub_classifier("nobody/nothing")
    with pytest.raises(ModelNotFoundError, match="not a folder with a sequence classifier"):
        load_hub_classifier(str(tmp_path))
    with pytest.raises(ValueError, match=r"no label 'toxicity': its labels are .*'Toxic'"):
        load_hub_classifier(str(folder), label="toxicity")
    with pytest.raises(ValueError, match=r"label is 3, but .* has 3 labels"):
        load_hub_classifier(str(folder), label=3)
