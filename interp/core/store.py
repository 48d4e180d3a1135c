"""A store of activations on disk: whole shards or none, resumed where it stopped, read by mapping.

A store is a folder with `index.json`, which says what is stored (model, tokens, sites, dtype) and
which examples each shard holds, and one safetensors file for each shard. The plan of the shards is
the same for everybody who extracts the same thing, so that an interrupted extraction goes on with
the shards that are missing, and two processes that write the same store write the same files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.core.activations import Activations, Pooling, pooling_name
from interp.core.errors import ModelMismatchError, StoreError
from interp.core.extraction import BATCH_TOKENS, Reader, labels_of
from interp.core.files import load_tensors, save_tensors, write_atomically
from interp.core.model import HookedModel
from interp.core.origin import Origin
from interp.core.records import Records
from interp.core.sites import Site
from interp.core.tokens import Selection, Tokens, token_tensors, tokens_from_tensors

_SCHEMA = "hookscope.store/1"
_TOKENS = "tokens.safetensors"


class ActivationStore:
    """Activations in a folder."""

    def __init__(self, folder: str | Path, *, origin: Origin | None = None) -> None:
        """Open a store.

        Args:
            folder: The folder of the store.
            origin: `model.origin` of the model with which the activations are to be used.

        Raises:
            StoreError: If there is no store there.
            ModelMismatchError: If it holds activations of another model than `origin`.
        """
        self.folder = Path(folder)
        try:
            self._index: dict[str, Any] = json.loads((self.folder / "index.json").read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"no store of activations in {str(folder)!r}: {error}") from error
        if self._index.get("schema") != _SCHEMA:
            raise StoreError(
                f"{str(folder)!r} has schema {self._index.get('schema')!r}: needed {_SCHEMA!r}"
            )
        key = self.key = self._index["key"]
        self.origin = Origin(**key["origin"])
        self.sites: tuple[str, ...] = tuple(key["sites"])
        self.layers: tuple[int, ...] = tuple(key["layers"])
        if origin is not None:
            self.origin.check(origin, f"the store {str(folder)!r}")

    def __len__(self) -> int:
        """Number of examples when complete."""
        return self._index["n_examples"]

    @property
    def n_shards(self) -> int:
        """Number of shards when complete."""
        return len(self.plan)

    @property
    def plan(self) -> tuple[tuple[int, ...], ...]:
        """Examples of each shard."""
        return tuple(map(tuple, self._index["plan"]))

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that are not written yet."""
        return tuple(k for k in range(self.n_shards) if not self.shard(k).exists())

    @property
    def complete(self) -> bool:
        """Whether all shards are there."""
        return not self.missing

    def read(self, layers: int | Sequence[int], *, site: str | None = None) -> Activations:
        """The activations of all examples at one site and some layers, in the caller's order.

        Only the layers asked for are read from the disk.

        Args:
            layers: Layers, as they were stored.
            site: Name of the site; may be left out if there is only one.

        Raises:
            StoreError: If shards are missing.
            ValueError: If a layer or the site was not stored.
        """
        if self.missing:
            raise StoreError(
                f"{len(self.missing)} of {self.n_shards} shards are missing in "
                f"{str(self.folder)!r}: run the extraction again, it goes on where it stopped"
            )
        wanted = (layers,) if isinstance(layers, int) else tuple(layers)
        if site is None and len(self.sites) > 1:
            raise ValueError(f"the store has several sites {self.sites}: choose one with site=")
        site = next(iter(self.sites)) if site is None else site
        if site not in self.sites or not set(wanted) <= set(self.layers):
            raise ValueError(
                f"site {site!r} at layers {wanted} is not in this store: it has {self.sites} at "
                f"layers {self.layers}"
            )
        values = torch.empty(0)
        for number in range(self.n_shards):
            rows, stacked = self._read_shard(number, [Site(site, layer) for layer in wanted])
            if number == 0:
                values = stacked.new_empty((self._index["n_rows"], *stacked.shape[1:]))
            values[rows] = stacked
        header = self._index
        return Activations(
            tensors={site: values},
            layers=wanted,
            labels=None if header["labels"] is None else np.array(header["labels"]),
            groups=None if header["groups"] is None else np.array(header["groups"]),
            tokens=self.tokens,
            pooling=header["key"]["pooling"],
            origin=self.origin,
        )

    def shard(self, number: int) -> Path:
        """The file of a shard, which is there when the whole shard is."""
        return self.folder / f"shard-{number:05d}.safetensors"

    def _read_shard(self, number: int, sites: list[Site]) -> tuple[Tensor, Tensor]:
        """Rows of a shard and their values, shape (row, site, *feature), through a memory map."""
        try:
            with safe_open(self.shard(number), framework="pt") as file:
                stacked = torch.stack([file.get_tensor(str(site)) for site in sites], dim=1)
                return file.get_tensor("rows"), stacked
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"shard {self.shard(number).name} is damaged ({error}): delete it and run the "
                "extraction again, which writes only what is missing"
            ) from error

    @cached_property
    def tokens(self) -> Tokens | None:
        """The tokens of the rows, `None` if the store holds one row for each example.

        Raises:
            StoreError: If their file is lost.
        """
        if self._index["key"]["pooling"] is not None:
            return None
        try:
            tensors, _ = load_tensors(self.folder / _TOKENS, schema=_SCHEMA)
        except (OSError, ValueError) as error:
            raise StoreError(f"the tokens of {str(self.folder)!r} are lost: {error}") from error
        return tokens_from_tensors(tensors)


def extract_to_disk(  # noqa: PLR0913  the options of extract, and a folder
    model: HookedModel,
    records: Records | Sequence[str] | Tokens,
    folder: str | Path,
    *,
    layers: int | Sequence[int] | None = None,
    sites: str | Sequence[str] = "resid_post",
    positions: Selection | None = None,
    pooling: Pooling | None = None,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int = BATCH_TOKENS,
    truncate: bool = False,
    progress: bool = False,
) -> ActivationStore:
    """Like `extract`, but into a folder, one shard for each batch.

    Interrupted at any moment, it goes on where it stopped when it is called again. Labels and
    groups are those of the last call: they are not part of what makes two stores differ.

    Args:
        model: A language model.
        records: Examples; tokens if they are already tokenized.
        folder: Where to write; a store of something else that is there is never overwritten.
        layers: One layer or several, negative ones from the end; `None` for all.
        sites: One site or several.
        positions: Which tokens to read, as in `extract`.
        pooling: How the tokens of an example become one vector; `None` keeps each token. The store
            knows a function by its name only.
        dtype: Type on disk; float16 halves the size, and values that overflow it are an error.
        batch_tokens: Tokens of a batch, padding included.
        truncate: Cut texts that are longer than the context instead of refusing them.
        progress: Show a progress bar.

    Returns:
        The complete store.

    Raises:
        ModelMismatchError: If the folder holds a store of something else; the message says what
            differs.
        StoreError: If the disk is full or cannot be written; the store keeps what it has.
    """
    tokens = records if isinstance(records, Tokens) else model.tokenize(records, truncate=truncate)
    reader = Reader(model, tokens, layers, sites, positions, pooling, dtype)
    index = _index(model, records, tokens, reader, positions, dtype)
    index["plan"] = [batch.tolist() for batch in reader.plan(batch_tokens)]
    try:
        store = _begin(Path(folder), index, reader)
        numbers = store.missing
        batches = reader.read([np.array(store.plan[number]) for number in numbers], progress)
        for number, (examples, values) in zip(numbers, batches, strict=True):
            rows = {"rows": torch.from_numpy(reader.rows(examples))}
            save_tensors(store.shard(number), {str(s): v for s, v in values.items()} | rows)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot write to {str(folder)!r} ({error.strerror or error}): the shards written so "
            "far are whole; make room and run the same call again to go on"
        ) from error
    return store


def _index(
    model: HookedModel,
    records: Records | Sequence[str] | Tokens,
    tokens: Tokens,
    reader: Reader,
    positions: Selection | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """What the folder holds; `key` is what must agree for an extraction to go on."""
    labels = labels_of(records)
    return {
        "schema": _SCHEMA,
        "key": {
            "origin": asdict(model.origin),
            "sites": list(reader.names),
            "layers": list(reader.layers),
            "dtype": str(dtype),
            "tokens": tokens.digest(),
            "positions": repr(positions),
            "pooling": pooling_name(reader.pooling),
        },
        "n_examples": len(tokens),
        "n_rows": reader.n_rows,
        "labels": None if labels is None else labels.tolist(),
        "groups": records.groups.tolist() if isinstance(records, Records) else None,
    }


def _begin(folder: Path, index: Mapping[str, Any], reader: Reader) -> ActivationStore:
    """Write the index, or go on with the plan of the one that is there if it is of the same."""
    path = folder / "index.json"
    if path.exists():
        store = ActivationStore(folder, origin=Origin(**index["key"]["origin"]))
        there = store.key
        differs = [k for k, v in index["key"].items() if k != "origin" and there.get(k) != v]
        if differs:
            raise ModelMismatchError(
                f"{str(folder)!r} holds a store that differs in {', '.join(differs)}: choose "
                "another folder, or delete that one"
            )
        index = {**index, "plan": store.plan}
    elif reader.kept is not None:
        save_tensors(folder / _TOKENS, token_tensors(reader.kept), {"schema": _SCHEMA})
    write_atomically(path, json.dumps(index).encode())
    return ActivationStore(folder)
