"""Hooks on a model: one torch hook for each site in use, edits before reads, none left behind.

The order at a site does not depend on the order of the `with` blocks: every edit runs before every
read, so what is read is what the model goes on with. Edits run in the order in which they were
attached. One thread at a time uses a model: `Hooks.attached` holds the model's lock for its whole
block, because a torch hook is seen by all threads.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from interp.core.sites import Location, Site, Sites


@dataclass(frozen=True)
class Call:
    """What a hook may know of the forward pass in which it runs."""

    positions: Int[Tensor, "batch pos"] | None = None
    """Index of each token in its own text, from 0, whatever the padding and the cache."""
    mask: Bool[Tensor, "batch pos"] | None = None
    """Which tokens are real."""
    prompt_lengths: Int[Tensor, " batch"] | None = None
    """Tokens of each prompt, where that is known: later positions were generated."""
    rows: Int[Tensor, " batch"] | None = None
    """Which of the caller's texts each row is, where that is known: batches reorder texts."""
    n_texts: int | None = None
    """How many texts the caller gave, where that is known."""
    site: Site | None = None
    """The site at which the hook runs."""
    index: int = 0
    """How often this site has run before in this forward pass (ticks of a recurrent model)."""


Edit = Callable[[Tensor, Call], Tensor]
Read = Callable[[Tensor, Call], None]
_Hook = TypeVar("_Hook", Edit, Read)


@runtime_checkable
class Hookable(Protocol):
    """A model with hooks: what an intervention needs of one."""

    @property
    def hooks(self) -> "Hooks":
        """The hooks of the model."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """Whatever can hold a model in a changed state for the length of a `with` block."""

    def applied(self, model: Hookable) -> AbstractContextManager[None]:
        """A context in which the model is changed, and after which it is as before."""
        ...


class Stop(BaseException):
    """Ends a forward pass when everything that was asked for has been read."""


class Hooks:
    """The hooks of one model."""

    def __init__(self, module: nn.Module, sites: Sites, *, entry: nn.Module) -> None:
        """Keep the model, its address book, and the module whose call is one forward pass."""
        self.sites = sites
        self._module = module
        self._entry = entry
        self._lock = threading.RLock()
        self._attachments: list[_Attachment] = []
        self._edits: dict[Site, list[Edit]] = {}
        self._reads: dict[Site, list[Read]] = {}
        self._handles: dict[Site | None, torch.utils.hooks.RemovableHandle] = {}
        self._call = Call()
        self._counts: Counter[Site] = Counter()
        self._prompts: _Prompts | None = None

    @contextmanager
    def attached(
        self,
        *,
        edits: Iterable[tuple[Site, Edit]] = (),
        reads: Iterable[tuple[Site, Read]] = (),
    ) -> Iterator[None]:
        """Run the model with these edits and reads, and without them afterwards.

        Args:
            edits: Site and function from the value there to the new value.
            reads: Site and function that looks at the value, after all edits.

        Raises:
            HookNotFoundError: If the model has no such site; nothing is attached then.
        """
        mine = _Attachment(tuple(edits), tuple(reads))
        for site, _ in (*mine.edits, *mine.reads):
            self.sites[site]
        with self._lock:
            self._attachments.append(mine)
            try:
                self._install()
                yield
            finally:
                self._attachments = [other for other in self._attachments if other is not mine]
                self._install()

    @contextmanager
    def prompts(
        self, lengths: Int[Tensor, " text"], *, rows: Int[Tensor, " batch"] | None = None
    ) -> Iterator[None]:
        """Tell hooks which texts run, so that position rules find those they speak of.

        Args:
            lengths: How many tokens of each of the caller's texts are its prompt.
            rows: Which of these texts the rows of the batch are; by default all in their order.
        """
        with self._lock:
            before, self._prompts = self._prompts, _Prompts(lengths, rows)
            try:
                yield
            finally:
                self._prompts = before

    @property
    def active(self) -> tuple[Site, ...]:
        """Sites at which something is attached now."""
        return tuple(site for site in self._handles if site is not None)

    def _install(self) -> None:
        """Make the torch hooks those of the sites that have edits or reads."""
        self._edits = _by_site(pair for one in self._attachments for pair in one.edits)
        self._reads = _by_site(pair for one in self._attachments for pair in one.reads)
        wanted = self._edits.keys() | self._reads.keys()
        for site in self._handles.keys() - wanted - {None}:
            self._handles.pop(site).remove()
        for site in wanted - self._handles.keys():
            self._handles[site] = self._hook(site, self.sites[site])
        if wanted and None not in self._handles:
            self._handles[None] = self._entry.register_forward_pre_hook(
                self._begin, with_kwargs=True
            )
        elif not wanted and None in self._handles:
            self._handles.pop(None).remove()

    def _hook(self, site: Site, location: Location) -> torch.utils.hooks.RemovableHandle:
        module = self._module.get_submodule(location.path)
        if location.io == "in":
            return module.register_forward_pre_hook(
                partial(self._on_input, site, location), with_kwargs=True
            )
        return module.register_forward_hook(partial(self._on_output, site, location))

    def _on_input(
        self, site: Site, location: Location, module: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        if not args:  # a block may be called by keyword
            value = self._run(site, location, kwargs["hidden_states"])
            return None if value is None else (args, kwargs | {"hidden_states": value})
        value = self._run(site, location, args[location.item])
        return None if value is None else (_with_item(args, location.item, value), kwargs)

    def _on_output(
        self, site: Site, location: Location, module: nn.Module, args: tuple, output: object
    ) -> object:
        if isinstance(output, Tensor):
            return self._run(site, location, output)
        value = self._run(site, location, output[location.item])  # pyright: ignore[reportIndexIssue]
        return None if value is None else _with_item(output, location.item, value)  # pyright: ignore[reportArgumentType]

    def _run(self, site: Site, location: Location, value: Tensor) -> Tensor | None:
        """The edited value, or `None` where nothing was edited."""
        flat_shape = value.shape
        if location.heads is not None:
            value = value.unflatten(-1, (location.heads, -1))
        call = replace(self._call, site=site, index=self._counts[site])
        self._counts[site] += 1
        for edit in self._edits.get(site, ()):
            value = edit(value, call)
        for read in self._reads.get(site, ()):
            read(value, call)
        return value.reshape(flat_shape) if site in self._edits else None

    def _begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """At the start of each forward pass: find out where its tokens stand."""
        self._counts.clear()
        self._call = _language_call(args, kwargs, self._prompts)


@dataclass(frozen=True)
class _Prompts:
    """The prompts of all texts, and which of them a batch holds."""

    lengths: Int[Tensor, " text"]
    rows: Int[Tensor, " batch"] | None = None

    def of_batch(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Length and number of each row's text; several rows in turn may continue one text."""
        rows = torch.arange(len(self.lengths)) if self.rows is None else self.rows
        if batch % len(rows):
            raise ValueError(f"the batch has {batch} rows, but hooks were told of {len(rows)}")
        rows = rows.repeat_interleave(batch // len(rows))  # beams, or samples of one prompt
        return self.lengths[rows].to(device), rows.to(device)


@dataclass(frozen=True, eq=False)
class _Attachment:
    """What one `with` block attaches."""

    edits: tuple[tuple[Site, Edit], ...]
    reads: tuple[tuple[Site, Read], ...]


def _by_site(pairs: Iterable[tuple[Site, _Hook]]) -> dict[Site, list[_Hook]]:
    """The functions at each site, in the order in which they were attached."""
    table: dict[Site, list[_Hook]] = {}
    for site, function in pairs:
        table.setdefault(site, []).append(function)
    return table


def _with_item(values: tuple, item: int, value: Tensor) -> tuple:
    return (*values[:item], value, *values[item + 1 :])


def _token_input(args: tuple, kwargs: dict) -> Tensor | None:
    """The ids or embeddings that a decoder is called with; `None` for a model of another kind."""
    for name in ("input_ids", "inputs_embeds"):
        if kwargs.get(name) is not None:
            return kwargs[name]
    first = args[0] if args else None
    if isinstance(first, Tensor) and first.ndim == 2 and first.dtype in (torch.int64, torch.int32):
        return first
    return None


def _language_call(args: tuple, kwargs: dict, prompts: _Prompts | None) -> Call:
    """Where the tokens of a decoder's call stand; an empty `Call` for a model of another kind."""
    inputs = _token_input(args, kwargs)
    if inputs is None:
        return Call()
    batch, n_new = inputs.shape[:2]
    cache = kwargs.get("past_key_values")
    n_past = cache.get_seq_length() if cache is not None else 0
    mask = kwargs.get("attention_mask")
    if mask is None or mask.ndim != 2:
        mask = inputs.new_ones((batch, n_past + n_new), dtype=torch.long)
    positions = kwargs.get("position_ids")
    if positions is None:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -n_new:]
    call = Call(positions.expand(batch, -1), mask[:, -n_new:].bool())
    if prompts is not None:
        lengths, rows = prompts.of_batch(batch, inputs.device)
        return replace(call, prompt_lengths=lengths, rows=rows, n_texts=len(prompts.lengths))
    if cache is not None or kwargs.get("use_cache"):
        # a cached generation that did not say: what comes with an empty cache is the prompt
        return replace(call, prompt_lengths=mask[:, : n_past or n_new].sum(-1))
    return call
