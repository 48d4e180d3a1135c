"""Activations: what was read from a model, with its place and its labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.core.errors import near_miss
from interp.core.files import load_tensors, save_tensors
from interp.core.origin import Origin
from interp.core.tokens import Selection, Tokens, join_tokens, token_tensors, tokens_from_tensors

Pooling = Literal["mean", "last", "max"] | Callable[[Tensor], Tensor]
"""How the tokens of an example become one vector; a function gets (pos, *feature)."""

_SCHEMA = "hookscope.activations/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Values at some sites and layers, one row for each example or for each token."""

    tensors: Mapping[str, Float[Tensor, "row layer *feature"]]
    """Values by name of the site. Rows are examples when pooled, else tokens."""
    layers: tuple[int, ...]
    """Labels of the layer axis."""
    labels: np.ndarray | None = None
    """Label of each example."""
    groups: np.ndarray | None = None
    """Group of each example."""
    tokens: Tokens | None = None
    """The tokens behind the rows; `None` when pooled: then each row is an example."""
    pooling: str | None = None
    """How tokens were pooled, `None` if they were not."""
    origin: Origin | None = None
    """The model from which the values come."""

    def __post_init__(self) -> None:
        """Check that the axes fit together."""
        if not self.tensors:
            raise ValueError("activations of no site: needed at least one tensor")
        for name, tensor in self.tensors.items():
            rows = self._n_rows if self.tokens is None else len(self.tokens.ids)
            if tensor.shape[:2] != (rows, len(self.layers)):
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}: needed {rows} rows and "
                    f"{len(self.layers)} layers"
                )
        for name in ("labels", "groups"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(f"{name} has {len(column)} entries, but there are {len(self)}")

    def __len__(self) -> int:
        """Number of examples."""
        return self._n_rows if self.tokens is None else len(self.tokens)

    @property
    def _n_rows(self) -> int:
        return len(next(iter(self.tensors.values())))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(self.tensors)

    @property
    def site(self) -> str:
        """Name of the only site."""
        if len(self.tensors) != 1:
            raise ValueError(f"there are {len(self.tensors)} sites {self.sites}: choose with at()")
        return self.sites[0]

    @property
    def layer(self) -> int:
        """The only layer."""
        if len(self.layers) != 1:
            raise ValueError(f"there are {len(self.layers)} layers: choose one with at(layer)")
        return self.layers[0]

    @property
    def values(self) -> Float[Tensor, "row layer *feature"]:
        """The tensor of the only site."""
        return self.tensors[self.site]

    @property
    def matrix(self) -> Float[Tensor, "row ..."]:
        """The rows of the only layer of the only site, shape (row, *feature): for probes."""
        return self.values[:, self.layers.index(self.layer)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `matrix`, where estimators look for the number of features."""
        if len(self.sites) != 1 or len(self.layers) != 1:
            raise AttributeError("activations of several layers or sites are no matrix: use at()")
        return tuple(self.matrix.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """`matrix` as a numpy array, so that estimators take pooled activations as they are."""
        if self.tokens is not None:
            raise TypeError("token-level activations are no matrix: pool() them first")
        return np.asarray(self.matrix.numpy(), dtype=dtype)

    def at(self, layers: int | Sequence[int], *, site: str | None = None) -> "Activations":
        """The values of one site at one or several layers.

        Args:
            layers: Layers, as they were extracted.
            site: Name of the site; may be left out if there is only one.

        Raises:
            ValueError: If a layer or the site was not extracted.
        """
        wanted = (layers,) if isinstance(layers, int) else tuple(layers)
        site = self.site if site is None else site
        if site not in self.tensors:
            raise ValueError(
                f"site {site!r} was not extracted (there are {', '.join(self.sites)})"
                + near_miss(site, self.sites)
            )
        missing = [layer for layer in wanted if layer not in self.layers]
        if missing:
            raise ValueError(f"layers {missing} were not extracted: there are {self.layers}")
        columns = [self.layers.index(layer) for layer in wanted]
        view = slice(columns[0], columns[0] + 1) if len(columns) == 1 else columns
        return self._with(tensors={site: self.tensors[site][:, view]}, layers=wanted)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "Activations":
        """The examples at an index, a slice, a list of indices or a boolean mask."""
        examples = np.atleast_1d(np.arange(len(self))[index])
        rows, tokens = examples, self.tokens
        if tokens is not None:
            rows, tokens = tokens.rows_of(examples), tokens.rows(examples)
        picked = torch.from_numpy(rows)
        return self._with(
            tensors={name: tensor[picked] for name, tensor in self.tensors.items()},
            labels=None if self.labels is None else self.labels[examples],
            groups=None if self.groups is None else self.groups[examples],
            tokens=tokens,
        )

    def padded(
        self, *, layer: int | None = None, site: str | None = None
    ) -> tuple[Float[Tensor, "example pos *feature"], Bool[Tensor, "example pos"]]:
        """Token-level values as one padded tensor, and which of its entries are real.

        Tokens of an example stand at the left in their order, whatever tokens were left out.

        Args:
            layer: Layer; may be left out if there is only one.
            site: Site; may be left out if there is only one.
        """
        lengths = torch.from_numpy(self._token_table().lengths)
        chosen = self.at(self.layer if layer is None else layer, site=site).matrix
        mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
        values = chosen.new_zeros(*mask.shape, *chosen.shape[1:])
        values[mask] = chosen
        return values, mask

    def pool(self, pooling: Pooling, *, positions: Selection = "content") -> "Activations":
        """One vector for each example.

        Args:
            pooling: How to pool.
            positions: Which tokens to pool; by default neither the chat template nor the first
                token, whose activations are a hundred times longer than those of others.
        """
        tokens = self._token_table()
        keep = tokens.mask(positions)
        lengths = np.bincount(tokens.examples[keep], minlength=len(tokens))
        index = torch.from_numpy(keep)
        return self._with(
            tensors={
                name: torch.stack([_pool_layers(part, pooling) for part in parts])
                for name, parts in (
                    (name, tensor[index].split(lengths.tolist()))
                    for name, tensor in self.tensors.items()
                )
            },
            tokens=None,
            pooling=pooling_name(pooling),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row for each row, site and layer, with the norm of the activation there."""
        index: dict[str, Any] = {"example": np.arange(len(self))}
        if self.tokens is not None:
            index = {"example": self.tokens.examples, "position": self.tokens.positions}
            index["token"] = list(self.tokens.strings)
        for name in ("labels", "groups"):
            column = getattr(self, name)
            if column is not None:
                index[name.removesuffix("s")] = column[index["example"]]
        frames = [
            pd.DataFrame(
                {
                    **index,
                    "site": name,
                    "layer": layer,
                    "norm": tensor[:, k].flatten(1).float().norm(dim=-1).numpy(),
                }
            )
            for name, tensor in self.tensors.items()
            for k, layer in enumerate(self.layers)
        ]
        return pd.concat(frames, ignore_index=True)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a JSON header; returns its path."""
        header: dict[str, Any] = {
            "schema": _SCHEMA,
            "sites": self.sites,
            "layers": self.layers,
            "labels": None if self.labels is None else self.labels.tolist(),
            "groups": None if self.groups is None else self.groups.tolist(),
            "pooling": self.pooling,
            "origin": None if self.origin is None else asdict(self.origin),
        }
        tensors = {f"site.{name}": tensor for name, tensor in self.tensors.items()}
        if self.tokens is not None:
            table = token_tensors(self.tokens)
            tensors |= {f"tokens.{name}": tensor for name, tensor in table.items()}
        return save_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: str | Path) -> "Activations":
        """Read a file that `save` wrote.

        Raises:
            ValueError: If the file holds something else.
        """
        tensors, header = load_tensors(path, schema=_SCHEMA)
        table = {
            name.removeprefix("tokens."): tensor
            for name, tensor in tensors.items()
            if name.startswith("tokens.")
        }
        return cls(
            tensors={name: tensors[f"site.{name}"] for name in header["sites"]},
            layers=tuple(header["layers"]),
            labels=None if header["labels"] is None else np.array(header["labels"]),
            groups=None if header["groups"] is None else np.array(header["groups"]),
            tokens=tokens_from_tensors(table) if table else None,
            pooling=header["pooling"],
            origin=None if header["origin"] is None else Origin(**header["origin"]),
        )

    def _token_table(self) -> Tokens:
        if self.tokens is None:
            raise ValueError(f"these activations are pooled ({self.pooling}): needed token level")
        return self.tokens

    def _with(self, **changes: Any) -> "Activations":
        return Activations(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)


def concatenate(parts: Sequence[Activations]) -> Activations:
    """The examples of several activations of the same sites, layers, pooling and model.

    Raises:
        ValueError: If they differ in any of these.
    """
    if not parts:
        raise ValueError("nothing to concatenate: needed at least one Activations")
    first = parts[0]
    for name in ("sites", "layers", "pooling", "origin"):
        found = {getattr(part, name) for part in parts}
        if len(found) > 1:
            raise ValueError(f"activations differ in {name}: {sorted(map(str, found))}")
    tables = [part.tokens for part in parts if part.tokens is not None]
    if tables and len(tables) < len(parts):
        raise ValueError("some activations are of tokens and some of examples: pool() them first")
    return Activations(
        tensors={name: torch.cat([p.tensors[name] for p in parts]) for name in first.sites},
        layers=first.layers,
        labels=_joined([part.labels for part in parts]),
        groups=_joined([part.groups for part in parts]),
        tokens=join_tokens(tables) if tables else None,
        pooling=first.pooling,
        origin=first.origin,
    )


def _joined(columns: list[np.ndarray | None]) -> np.ndarray | None:
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if len(present) == len(columns) else None


def pooling_name(pooling: Pooling | None) -> str | None:
    """What results call a pooling: its name, or the qualified name of the function."""
    if pooling is None or isinstance(pooling, str):
        return pooling
    return getattr(pooling, "__qualname__", type(pooling).__qualname__)


def _pool_layers(
    values: Float[Tensor, "pos layer *feature"], pooling: Pooling
) -> Float[Tensor, "layer ..."]:
    """One vector for each layer, from those of an example's tokens."""
    return torch.stack([pool_rows(layer, pooling) for layer in values.unbind(1)])


def pool_rows(values: Float[Tensor, " pos *feature"], pooling: Pooling) -> Float[Tensor, "..."]:
    """One vector from those of an example's tokens."""
    if callable(pooling):
        return pooling(values)
    if pooling == "mean":
        return values.float().mean(dim=0)
    if pooling == "max":
        return values.amax(dim=0)
    if pooling == "last":
        return values[-1]
    raise ValueError(f"pooling={pooling!r}: needed 'mean', 'last', 'max' or a function")
