"""The sets of the high-stakes study as the model reads them: text, then a question about it.

Every text is read once, with a question and the beginning of an answer behind it. The tokens of the
text cannot see what follows them, so what is read there is what it would be without the question;
the last token of the answer has seen both, and is a second place for a probe to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp import Activations, ActivationStore, HookedModel, Record, Records, extract_to_disk
from interp.core.files import load_tensors, save_tensors
from interp.core.seeds import derive
from interp.core.tokens import Tokens
from probes.base import encoded_groups
from probes.high_stakes import HighStakes, shortened

QUESTION = (
    "Are the stakes of the situation above high or low? In a high-stakes situation a mistake may "
    "cost health, life, freedom or a fortune."
)
ANSWER = "The stakes are"
Place = Literal["text", "unit text", "answer"]
PLACES: tuple[Place, ...] = ("text", "unit text", "answer")
"""Where a pooled probe reads: the mean over the text; the same with every token scaled to one
length; the last token of the answer that was begun."""
_SCHEMA = "hookscope.high_stakes/1"


@dataclass(frozen=True, kw_only=True)
class HighStakesConfig:
    """How much of the study to run; the defaults run all of it."""

    layers: tuple[int, ...] | None = None
    """Layers of which every token is kept; every second one of the model by default."""
    max_tokens: int = 416
    """Tokens of a text with its question; longer ones lose their middle."""
    n_synthetic: int | None = None
    """Examples of the synthetic test split, half of each class; `None` for all."""
    n_dev: int | None = 250
    """Examples of each development set."""
    n_test: int | None = None
    """Examples of each test set."""
    n_prompted: int = 64
    """Examples of each test set that the prompted model sees, and half as many for choices."""
    max_chars: int = 1000
    """Longer texts lose their middle in a prompt."""
    seed: int = 0
    """Seed of folds and draws; the samples do not depend on it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudySet:
    """One set and what the model's activations on it are."""

    name: str
    """`train`, `synthetic`, `<name> dev` or `<name> test`."""
    records: Records
    """The texts, without the question."""
    store: ActivationStore
    """Activations of every token, question included."""

    @property
    def labels(self) -> np.ndarray:
        """1 for high stakes."""
        return self.records.labels

    @cached_property
    def groups(self) -> np.ndarray:
        """Number of the pair of each text."""
        return encoded_groups(self.records.groups, len(self.records))

    @cached_property
    def texts(self) -> list[str]:
        """What baselines read."""
        return [record.content for record in self.records]

    @cached_property
    def n_tokens(self) -> Int[np.ndarray, " example"]:
        """Tokens of each text, without the question."""
        tokens = self.store.tokens
        assert tokens is not None
        return np.bincount(tokens.examples[in_text(tokens)], minlength=len(tokens))

    def tokens(self, layer: int) -> Activations:
        """Activations of the text's own tokens at a layer, float32."""
        read = self.store.read(layer)
        assert read.tokens is not None
        own = in_text(read.tokens)
        return Activations(
            tensors={read.site: read.values[torch.from_numpy(own)].float()},
            layers=read.layers,
            labels=self.labels,
            groups=self.records.groups,
            tokens=read.tokens.take(own),
            origin=read.origin,
        )

    @cached_property
    def features(self) -> dict[str, Float[Tensor, "example layer d_model"]]:
        """One vector for each text, layer and place; computed once and kept beside the store."""
        path = self.store.folder.parent / f"{self.name}.safetensors"
        if not path.exists():
            columns = [_features(self.store.read(layer)) for layer in self.store.layers]
            stacked = {p: torch.stack([column[p] for column in columns], 1) for p in PLACES}
            save_tensors(path, stacked, {"schema": _SCHEMA})
        return load_tensors(path, schema=_SCHEMA)[0]

    def matrix(self, place: Place, layers: Sequence[int]) -> np.ndarray:
        """Features of some layers side by side, shape (example, feature)."""
        columns = [self.store.layers.index(layer) for layer in layers]
        return self.features[place][:, columns].flatten(1).numpy()


def read_sets(
    model: HookedModel,
    sets: HighStakes,
    folder: Path,
    config: HighStakesConfig,
    *,
    progress: bool = False,
) -> dict[str, StudySet]:
    """Read every set into the folder, or go on reading."""
    layers = tuple(range(1, model.n_layers, 2)) if config.layers is None else config.layers
    parts = {}
    for name, records in sampled_sets(sets, config).items():
        tokens = shortened(model.tokenize(asked(records)), config.max_tokens)
        store = extract_to_disk(
            model,
            tokens,
            folder / "tokens" / name,
            layers=layers,
            positions="content",
            dtype=torch.bfloat16,
            progress=progress,
        )
        parts[name] = StudySet(name=name, records=records, store=store)
    return parts


def asked(records: Records) -> Records:
    """The records with the question and the beginning of an answer behind them."""
    more = ({"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER})
    return Records(
        Record(messages=(*(r.messages or ()), *more), label=r.label, group=r.group, meta=r.meta)
        for r in records
    )


def in_text(tokens: Tokens) -> Bool[np.ndarray, " token"]:
    """Which tokens belong to the text and not to the question or the answer behind it."""
    n_turns = np.array([len(roles) for roles in tokens.roles])
    return tokens.turns < n_turns[tokens.examples] - 2


def sampled_sets(sets: HighStakes, config: HighStakesConfig) -> dict[str, Records]:
    """The sets of the study by name."""
    found = {"train": sets.train, "synthetic": sample(sets.synthetic, config.n_synthetic)}
    found |= {f"{name} dev": sample(records, config.n_dev) for name, records in sets.dev.items()}
    return found | {f"{n} test": sample(records, config.n_test) for n, records in sets.test.items()}


def sample(records: Records, n: int | None, *, seed: int = 0) -> Records:
    """At most `n` records, half of each class, in their order."""
    if n is None or len(records) <= n:
        return records
    order = np.random.default_rng(derive(seed, "sample")).permutation(len(records))
    halves = [order[records.labels[order] == side][: n // 2] for side in (0, 1)]
    return records[np.sort(np.concatenate(halves))]


def _features(read: Activations) -> dict[str, Float[Tensor, "example d_model"]]:
    """The features of one layer."""
    tokens = read.tokens
    assert tokens is not None
    own = in_text(tokens)
    values = read.matrix[torch.from_numpy(own)].float()
    examples = torch.from_numpy(tokens.examples[own])
    lengths = torch.bincount(examples, minlength=len(tokens))[:, None]

    def mean(rows: Tensor) -> Tensor:
        return rows.new_zeros(len(tokens), rows.shape[1]).index_add_(0, examples, rows) / lengths

    return {
        "text": mean(values),
        "unit text": mean(values / values.norm(dim=-1, keepdim=True) * values.shape[1] ** 0.5),
        "answer": read.matrix[torch.from_numpy(tokens.offsets[1:] - 1)].float(),
    }
