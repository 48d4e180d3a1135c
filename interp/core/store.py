"""A store of activations on disk: whole shards or none, resumed where it stopped, read by mapping.

A store is a folder with `index.json`, which says what is stored (model, tokens, sites, dtype) and
which examples each shard holds, and one safetensors file for each shard. The plan of the shards is
the same for everybody who extracts the same thing, so that an interrupted extraction goes on with
the shards that are missing, and two processes that write the same store write the same files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from interp.core.activations import Activations, Pooling, token_columns, tokens_from_columns
from interp.core.errors import ModelMismatchError, StoreError
from interp.core.extraction import BATCH_TOKENS, Reader
from interp.core.files import write_atomically
from interp.core.model import HookedModel
from interp.core.origin import Origin
from interp.core.records import Records
from interp.core.sites import Site
from interp.core.tokens import Selection, Tokens

_SCHEMA = "hookscope.store/1"


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
        except (OSError, json.JSONDecodeError) as error:
            raise StoreError(f"no store of activations in {str(folder)!r}: {error}") from error
        key = self._index["key"]
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
        return len(self._index["plan"])

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that are not written yet."""
        return tuple(k for k in range(self.n_shards) if not self._shard(k).exists())

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
        site = self.sites[0] if site is None else site
        if site not in self.sites or not set(wanted) <= set(self.layers):
            raise ValueError(
                f"site {site!r} at layers {wanted} is not in this store: it has {self.sites} at "
                f"layers {self.layers}"
            )
        values: torch.Tensor | None = None
        for rows, tensors in self._shards([Site(site, layer) for layer in wanted]):
            stacked = torch.stack(tensors, dim=1)
            if values is None:
                values = stacked.new_empty((self._index["n_rows"], *stacked.shape[1:]))
            values[rows] = stacked
        assert values is not None, "a store has at least one shard"
        header = self._index
        return Activations(
            tensors={site: values},
            layers=wanted,
            labels=None if header["labels"] is None else np.array(header["labels"]),
            groups=None if header["groups"] is None else np.array(header["groups"]),
            tokens=self._tokens,
            pooling=header["key"]["pooling"],
            origin=self.origin,
        )

    def _shards(self, sites: list[Site]) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Rows and values of each shard, read through a memory map."""
        for number in range(self.n_shards):
            with safe_open(self._shard(number), framework="pt") as file:
                tensors = [file.get_tensor(str(site)) for site in sites]
                yield file.get_tensor("rows"), tensors

    @cached_property
    def _tokens(self) -> Tokens | None:
        if not (self.folder / "tokens.safetensors").exists():
            return None
        with safe_open(self.folder / "tokens.safetensors", framework="pt") as file:
            columns = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            return tokens_from_columns(columns, json.loads(file.metadata()["hookscope"]))

    def _shard(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.safetensors"


def extract_to_disk(
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

    Interrupted at any moment, it goes on where it stopped when it is called again.

    Args:
        model: A language model.
        records: Examples; tokens if they are already tokenized.
        folder: Where to write; a store of something else that is there is never overwritten.
        layers: One layer or several, negative ones from the end; `None` for all.
        sites: One site or several.
        positions: Which tokens to read, as in `extract`.
        pooling: How the tokens of an example become one vector; `None` keeps each token.
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
    plan, folder = reader.plan(batch_tokens), Path(folder)
    index = _index(model, records, tokens, reader, plan, positions, dtype)
    try:
        _begin(folder, index, reader)
        store = ActivationStore(folder)
        numbers = store.missing
        batches = reader.read([plan[number] for number in numbers], progress)
        for number, (examples, values) in zip(numbers, batches, strict=True):
            tensors = {str(site): value.contiguous() for site, value in values.items()}
            tensors["rows"] = torch.from_numpy(reader.rows(examples))
            write_atomically(store._shard(number), save(tensors))  # noqa: SLF001
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
    plan: list[np.ndarray],
    positions: Selection | None,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """What the folder holds; `key` is what must agree for an extraction to go on."""
    labels = records.labels.tolist() if isinstance(records, Records) else None
    return {
        "schema": _SCHEMA,
        "key": {
            "origin": asdict(model.origin),
            "sites": list(reader.names),
            "layers": list(reader.layers),
            "dtype": str(dtype),
            "tokens": tokens.digest(),
            "positions": repr(positions),
            "pooling": None if reader.pooling is None else str(reader.pooling),
        },
        "n_examples": len(tokens),
        "n_rows": reader.n_rows,
        "labels": labels if labels is None or any(x is not None for x in labels) else None,
        "groups": records.groups.tolist() if isinstance(records, Records) else None,
        "plan": [batch.tolist() for batch in plan],
    }


def _begin(folder: Path, index: Mapping[str, Any], reader: Reader) -> None:
    """Write the index, or check that the one that is there is the same."""
    path = folder / "index.json"
    if path.exists():
        there = ActivationStore(folder)._index  # noqa: SLF001
        differs = [k for k, v in index["key"].items() if there["key"].get(k) != v]
        differs += ["plan"] if there["plan"] != index["plan"] else []
        if differs:
            raise ModelMismatchError(
                f"{str(folder)!r} holds a store that differs in {', '.join(differs)}: choose "
                "another folder, or delete that one"
            )
        return
    if reader.kept is not None:
        columns = {k: torch.from_numpy(v) for k, v in token_columns(reader.kept).items()}
        header = {"texts": reader.kept.texts, "roles": reader.kept.roles}
        content = save(columns, metadata={"hookscope": json.dumps(header)})
        write_atomically(folder / "tokens.safetensors", content)
    write_atomically(path, json.dumps(index).encode())
