"""Hooks on a model: one torch hook for each site in use, edits before reads, none left behind.

The order at a site does not depend on the order of the `with` blocks: every edit runs before every
read, so what is read is what the model goes on with. Edits run in the order in which they were
attached. One thread at a time uses a model: `Hooks.attached` holds the model's lock for its whole
block, because a torch hook is seen by all threads.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

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
    site: Site | None = None
    """The site at which the hook runs."""
    index: int = 0
    """How often this site has run before in this forward pass (ticks of a recurrent model)."""


Edit = Callable[[Tensor, Call], Tensor]
Read = Callable[[Tensor, Call], None]


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


class Stop(BaseException):  # noqa: N818
    """Ends a forward pass when everything that was asked for has been read."""


class Hooks:
    """The hooks of one model."""

    def __init__(self, module: nn.Module, sites: Sites, *, entry: nn.Module) -> None:
        """Keep the model, its address book, and the module whose call is one forward pass."""
        self.sites = sites
        self._module = module
        self._entry = entry
        self._lock = threading.RLock()
        self._edits: dict[Site, list[Edit]] = defaultdict(list)
        self._reads: dict[Site, list[Read]] = defaultdict(list)
        self._handles: dict[Site | None, torch.utils.hooks.RemovableHandle] = {}
        self._call = Call()
        self._counts: Counter[Site] = Counter()
        self._prompt_lengths: Int[Tensor, " batch"] | None = None

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
        pairs = [(self._edits, site, edit) for site, edit in edits]
        pairs += [(self._reads, site, read) for site, read in reads]
        for _, site, _ in pairs:
            self.sites[site]
        with self._lock:
            for table, site, function in pairs:
                table[site].append(function)
            try:
                self._install()
                yield
            finally:
                for table, site, function in pairs:
                    table[site].remove(function)
                self._install()

    @contextmanager
    def prompts(self, lengths: Int[Tensor, " batch"]) -> Iterator[None]:
        """Tell hooks how many tokens of each text are its prompt."""
        with self._lock:
            before, self._prompt_lengths = self._prompt_lengths, lengths
            try:
                yield
            finally:
                self._prompt_lengths = before

    @property
    def active(self) -> tuple[Site, ...]:
        """Sites at which something is attached now."""
        return tuple(site for site in self._handles if site is not None)

    def _install(self) -> None:
        """Make the torch hooks those of the sites that have edits or reads."""
        wanted = {site for site in self.sites if self._edits.get(site) or self._reads.get(site)}
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
        return value.reshape(flat_shape) if self._edits.get(site) else None

    def _begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """At the start of each forward pass: find out where its tokens stand."""
        self._counts.clear()
        self._call = _language_call(args, kwargs, self._prompt_lengths)


def _with_item(values: tuple, item: int, value: Tensor) -> tuple:
    return (*values[:item], value, *values[item + 1 :])


def _language_call(args: tuple, kwargs: dict, prompt_lengths: Tensor | None) -> Call:
    """Positions and mask of a decoder's call; an empty `Call` for a model of another kind."""
    inputs = kwargs.get("input_ids")
    if inputs is None:
        inputs = kwargs.get("inputs_embeds")
    if inputs is None and args and not args[0].is_floating_point():
        inputs = args[0]
    if inputs is None:
        return Call()
    batch, n_new = inputs.shape[:2]
    cache = kwargs.get("past_key_values")
    n_past = cache.get_seq_length() if cache is not None else 0
    mask = kwargs.get("attention_mask")
    if mask is None or mask.ndim != 2:  # noqa: PLR2004
        mask = inputs.new_ones((batch, n_past + n_new), dtype=torch.long)
    positions = kwargs.get("position_ids")
    if positions is None:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -n_new:]
    if prompt_lengths is None and (cache is not None or kwargs.get("use_cache")):
        # a cached generation that did not say: what comes with an empty cache is the prompt
        prompt_lengths = mask.sum(-1) if n_past == 0 else mask[:, :n_past].sum(-1)
    elif prompt_lengths is not None and len(prompt_lengths) != batch:  # beams, repeated samples
        prompt_lengths = prompt_lengths.repeat_interleave(batch // len(prompt_lengths))
    return Call(positions.expand(batch, -1), mask[:, -n_new:].bool(), prompt_lengths)
