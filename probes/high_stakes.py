"""High-stakes interactions: the public sets of the probe study, without duplicates.

McKenzie et al. 2025 (arXiv 2506.10805) train probes on synthetic pairs, one situation in which much
is at stake and one alike in which little is, and test them on texts from elsewhere: chats
(`anthropic`), calls of tools (`toolace`), doctors' dialogues (`mts`) and reports (`mt`). The labels
are a language model's. The local layout, under `HOOKSCOPE_DATA/high_stakes`:

| folder | what | file |
|---|---|---|
| `training` | synthetic pairs, with `split` and `pair_id` | `*.jsonl` |
| `evals_dev` | for choices | `<name>_*.jsonl` or `.csv` |
| `evals_test` | for the result | the same |

On the hub the sets are `HUB_NAME`; rows from there, or from anywhere else with the same fields, go
through `stakes_records`. The sets contain harmful requests as texts.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from interp import Activations, HookedModel, Record, Records, Site, Tokens
from interp.core.records import normal_form
from interp.data import check_leakage, data_folder
from probes.pooling import Attention, Pooling
from probes.sequence import SequenceProbe
from probes.sequence_fitting import SequenceTraining

HUB_NAME = "Arrrlex/models-under-pressure"
"""The data set on the Hugging Face hub that holds the sets in their latest form."""
TEST_SETS = ("anthropic", "toolace", "mts", "mt")
"""Test sets that also have a development set."""
LABELS = {"high-stakes": 1, "low-stakes": 0}
"""Rows with another label (ambiguous) are left out."""

Part = Literal["dev", "test"]


@dataclass(frozen=True, kw_only=True)
class HighStakes:
    """The sets of the study; no text is in two of them or twice in one."""

    train: Records
    """Synthetic pairs: the only examples that a probe is fitted to."""
    synthetic: Records
    """Synthetic pairs of other situations, for testing."""
    dev: Mapping[str, Records]
    """Sets for choices, by name."""
    test: Mapping[str, Records]
    """Sets for the result, by name."""
    n_removed: Mapping[str, int]
    """How many duplicates were removed from each set, under names such as `"mt dev"`."""


def load_high_stakes(
    folder: str | Path | None = None, *, names: Iterable[str] = TEST_SETS
) -> HighStakes:
    """All sets, with duplicates removed within and across them.

    A text that is in several sets stays in the one named first here: the test sets, the synthetic
    test split, the development sets, the training split.

    Args:
        folder: The local layout; `HOOKSCOPE_DATA/high_stakes` by default.
        names: Which test sets; one that has no development set is tested only. The development
            sets of `TEST_SETS` are loaded in any case.

    Raises:
        FileNotFoundError: If the folder or one of the test sets is not there.
        LeakageError: If a pair is on both sides of the split.
    """
    root = data_folder("high_stakes") if folder is None else Path(folder)
    synthetic, train = load_training(root)
    tests = {name: load_evaluation(name, folder=root) for name in names}
    there = [n for n in dict.fromkeys((*tests, *TEST_SETS)) if _found(root, n, "dev")]
    devs = {name: load_evaluation(name, part="dev", folder=root) for name in there}
    order = {f"{name} test": records for name, records in tests.items()}
    order["synthetic"] = synthetic
    order |= {f"{name} dev": records for name, records in devs.items()}
    order["train"] = train
    seen: set[str] = set()
    kept = {name: _unseen(records, seen) for name, records in order.items()}
    check_leakage(kept["train"], kept["synthetic"])
    return HighStakes(
        train=kept["train"],
        synthetic=kept["synthetic"],
        dev={name: kept[f"{name} dev"] for name in devs},
        test={name: kept[f"{name} test"] for name in tests},
        n_removed={name: len(records) - len(kept[name]) for name, records in order.items()},
    )


def load_training(folder: str | Path | None = None) -> tuple[Records, Records]:
    """The synthetic pairs: test split and training split, divided by pair.

    Args:
        folder: The local layout; `HOOKSCOPE_DATA/high_stakes` by default.

    Raises:
        FileNotFoundError: If there is no `training/*.jsonl`.
    """
    root = data_folder("high_stakes") if folder is None else Path(folder)
    files = sorted((root / "training").glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"no training/*.jsonl in {str(root)!r}")
    records = stakes_records(row for file in files for row in _rows(file))
    is_test = np.array([record.meta.get("split") == "test" for record in records])
    return records[is_test], records[~is_test]


def load_evaluation(name: str, *, part: Part = "test", folder: str | Path | None = None) -> Records:
    """An evaluation set as it is, duplicates included.

    Args:
        name: How its file begins, such as `"anthropic"`, `"mental_health"` or `"aya"`.
        part: The development or the test set.
        folder: The local layout; `HOOKSCOPE_DATA/high_stakes` by default.

    Raises:
        FileNotFoundError: If there is no such set.
    """
    root = data_folder("high_stakes") if folder is None else Path(folder)
    files = _found(root, name, part)
    if not files:
        there = sorted(path.name for path in (root / f"evals_{part}").glob("*.*"))
        raise FileNotFoundError(f"no {part} set {name!r} in {str(root)!r}: there are {there}")
    return stakes_records(_rows(files[0]))


def stakes_records(rows: Iterable[Mapping[str, Any]]) -> Records:
    """Rows with `inputs` and `labels` as conversations with labels 1 (high stakes) and 0.

    `inputs` is a text, which becomes the message of a user, or a list of messages, also as JSON.
    Rows that are neither of high nor of low stakes are left out. `pair_id` becomes the group.

    Raises:
        ValueError: If no row is left.
    """
    return Records([_record(row) for row in rows if row["labels"] in LABELS])


def shortened(tokens: Tokens, limit: int = 384) -> Tokens:
    """The first quarter and the last three quarters of `limit` tokens of each longer example.

    What a conversation comes to stands at its end; its beginning keeps the first token, whose
    activations are unlike all others, where the model expects it.
    """
    lengths = np.repeat(tokens.lengths, tokens.lengths)
    index = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    head = limit // 4
    return tokens.take((index < head) | (index >= lengths - (limit - head)) | (lengths <= limit))


def published_probe(pooling: Pooling | None = None, *, random_state: int = 0) -> SequenceProbe:
    """The probe of the paper: AdamW at 5e-3, decay 1e-3, cosine, batches of 64, early stopping.

    It is fitted to token-level activations of `resid_pre` of one layer, about two fifths up the
    model, which is how the paper words it; its code reads the normalized input of the same layer,
    see `normalized_input`. What differs here is what was wrong there: the best weights are really
    kept, padding is never pooled, no partial batch is dropped.

    Args:
        pooling: `Attention()` by default; the paper also has Mean, Max, Last, Softmax(5) and
            RollingMean(40).
        random_state: Seed.
    """
    rule = Attention() if pooling is None else pooling
    rate = 5e-4 if rule.has_queries else 5e-3
    training = SequenceTraining(
        learning_rate=rate, weight_decay=1e-3, n_epochs=200, patience=50, batch_size=64, n_seeds=3
    )
    return SequenceProbe(rule, training=training, random_state=random_state)


def normalized_input(model: HookedModel, activations: Activations) -> Activations:
    """What attention reads at a layer: `resid_pre` behind the norm of that layer.

    Args:
        model: The model of the activations.
        activations: `resid_pre` of one layer, at token level.

    Raises:
        ValueError: If the activations are pooled, or of another site, or if the block has no norm
            in front of its attention.
    """
    if activations.tokens is None or activations.site != "resid_pre":
        raise ValueError(
            f"activations are {activations.site} pooled by {activations.pooling}: needed resid_pre "
            "of tokens, since the norm of a mean is not the mean of norms"
        )
    block = model.module.get_submodule(model.sites[Site("resid_pre", activations.layer)].path)
    norm = getattr(block, "input_layernorm", None) or getattr(block, "ln_1", None)
    if norm is None:
        raise ValueError(f"{type(block).__name__} has no input_layernorm and no ln_1")
    values = activations.values
    with torch.no_grad():
        normed = norm(values.to(model.device, model.dtype)).to("cpu", values.dtype)
    return replace(activations, tensors={"normalized_input": normed})


def _record(row: Mapping[str, Any]) -> Record:
    inputs = row["inputs"]
    if isinstance(inputs, str) and inputs.startswith('[{"role"'):
        inputs = json.loads(inputs)
    if isinstance(inputs, str):
        inputs = [{"role": "user", "content": inputs}]
    messages = tuple({"role": m["role"], "content": m["content"]} for m in inputs)
    pair = row.get("pair_id", row.get("index"))  # answers to one message of a user are a pair too
    kept = ("split", "language", "tone", "prompt_style", "length", "topic", "scale_labels", "ids")
    return Record(
        messages=messages,
        label=LABELS[row["labels"]],
        group=None if pair is None else str(pair),
        meta={name: row[name] for name in kept if row.get(name) is not None},
    )


def _found(root: Path, name: str, part: Part) -> list[Path]:
    """Files of a set: the balanced one first, where there are several."""
    files = [p for p in (root / f"evals_{part}").glob(f"{name}*") if p.suffix in (".jsonl", ".csv")]
    files = [p for p in files if p.stem == name or p.stem.startswith(f"{name}_")]
    return sorted(files, key=lambda path: ("balanced" not in path.stem, path.name))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            yield from csv.DictReader(lines)
        else:
            yield from (json.loads(line) for line in lines if line.strip())


def _unseen(records: Records, seen: set[str]) -> Records:
    """The records whose texts were not seen before; they are seen now."""
    forms = [normal_form(record.content) for record in records]
    first = {form: index for index, form in reversed(list(enumerate(forms)))}
    keep = np.array([first[f] == i and f not in seen for i, f in enumerate(forms)])
    seen.update(forms)
    return records[keep]
