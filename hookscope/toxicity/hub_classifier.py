"""A published classifier as a second judge, such as the models behind detoxify.

It needs a model in the local cache or a network, which is why the study has a classifier of its own
and takes this one only when it is named. Published classifiers were trained on the comments that
studies of toxicity draw from, so that a score on those says little about other text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from interp.core.errors import ModelNotFoundError, near_miss

DETOXIFY = "unitary/toxic-bert"
"""The model behind detoxify's "original"."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HubClassifier:
    """Texts into the probability of one label."""

    name: str
    """The model's name, or its folder."""
    label: str
    """The label whose probability is given."""
    module: Any
    """The classifier."""
    tokenizer: Any
    """Its tokenizer."""
    index: int
    """Which of its outputs the label is."""
    exclusive: bool
    """Whether its labels exclude each other (softmax), or each is right or wrong (sigmoid)."""
    batch_size: int = 16
    """Texts that run together."""

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """Probability of each text; texts beyond its context are cut."""
        parts = [np.zeros(0)]
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self.module.device)
            with torch.no_grad():
                logits = self.module(**batch).logits.float()
            probabilities = logits.softmax(-1) if self.exclusive else logits.sigmoid()
            parts.append(probabilities[:, self.index].double().cpu().numpy())
        return np.concatenate(parts)


def load_hub_classifier(
    name: str = DETOXIFY, *, label: str | int = "toxic", exclusive: bool | None = None
) -> HubClassifier:
    """Load a sequence classifier by its name on the hub, or from a folder.

    Args:
        name: Name or folder.
        label: The label that means toxic: its name, whatever its case, or its index.
        exclusive: Whether labels exclude each other; by default what the model's config says.

    Raises:
        ModelNotFoundError: If it is neither a folder nor cached, and there is no network.
        ValueError: If it has no such label.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        module = AutoModelForSequenceClassification.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"no classifier {name!r}: not a folder with a sequence classifier, and not a Hugging "
            f"Face model that is cached or can be downloaded ({str(error).splitlines()[0]}); with "
            f"a network, get it with: hf download {name}"
        ) from error
    names = [str(module.config.id2label[k]) for k in range(module.config.num_labels)]
    index = _index(label, names, name)
    several = module.config.problem_type == "multi_label_classification" or len(names) == 1
    return HubClassifier(
        name=name,
        label=names[index],
        module=module,
        tokenizer=tokenizer,
        index=index,
        exclusive=not several if exclusive is None else exclusive,
    )


def _index(label: str | int, names: list[str], model: str) -> int:
    if isinstance(label, int):
        if not 0 <= label < len(names):
            raise ValueError(f"label is {label}, but {model!r} has {len(names)} labels: {names}")
        return label
    lower = [name.lower() for name in names]
    if label.lower() not in lower:
        raise ValueError(
            f"{model!r} has no label {label!r}: its labels are {names}"
            f"{near_miss(label.lower(), lower)}"
        )
    return lower.index(label.lower())
