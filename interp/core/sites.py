"""Where a model can be read and edited: sites, their names, and the modules behind them.

A site has the name that transformer-lens gives it (`blocks.8.hook_resid_post`). Which torch module
carries it is found by arithmetic, not by a table of architectures: one short forward records what
goes in and out of every block's children, and a site is the place where the residual stream adds
up (`resid_pre + attn_out = resid_mid`, `resid_mid + mlp_out = resid_post`). A block in which
attention and MLP run in parallel (GPT-NeoX) has no `resid_mid`, and a site that no module carries
is simply absent: asking for it is an error.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interp.core.errors import HookNotFoundError, near_miss

LAYER_SITES = ("resid_pre", "z", "attn_out", "resid_mid", "mlp_post", "mlp_out", "resid_post")
"""Sites of a transformer block, in the order in which a forward pass reaches them."""

_FORMATS = {"mlp_post": "blocks.{}.mlp.hook_post", "z": "blocks.{}.attn.hook_z"}
_PARSED = re.compile(r"blocks\.(\d+)\.(?:hook_(\w+)|(mlp)\.hook_post|(attn)\.hook_z)")


@dataclass(frozen=True, order=True)
class Site:
    """One place in a model.

    Examples:
        >>> str(Site("resid_post", 8))
        'blocks.8.hook_resid_post'
        >>> Site.parse("blocks.8.attn.hook_z")
        Site(name='z', layer=8)
        >>> Site.parse("encoder")
        Site(name='encoder', layer=None)
    """

    name: str
    """What is there: one of `LAYER_SITES`, or the name of a module of a model of another kind."""
    layer: int | None = None
    """Index of the block, from 0; `None` outside the blocks."""

    def __str__(self) -> str:
        """The transformer-lens name of the hook."""
        if self.layer is None:
            return self.name
        return _FORMATS.get(self.name, "blocks.{}.hook_" + self.name).format(self.layer)

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site with this transformer-lens name."""
        match = _PARSED.fullmatch(text)
        if match is None:
            return cls(text)
        layer, name, mlp, _ = match.groups()
        return cls(name or ("mlp_post" if mlp else "z"), int(layer))


@dataclass(frozen=True)
class Location:
    """The module that carries a site, and which of its tensors it is."""

    path: str
    """Dotted path of the module inside the model; '' is the model itself."""
    io: Literal["in", "out"] = "out"
    """Whether the site is what goes into the module or what comes out."""
    item: int = 0
    """Which element, where the module takes or returns several tensors."""
    heads: int | None = None
    """Number of heads into which the last axis is split, `None` to leave it."""


class Sites(Mapping[Site, Location]):
    """The address book of a model: from a site (or its name) to its location."""

    def __init__(self, locations: Mapping[Site, Location]) -> None:
        """Keep the given locations."""
        self._locations = dict(locations)

    def __getitem__(self, site: Site | str) -> Location:
        """The location of a site.

        Raises:
            HookNotFoundError: If the model has no such site; the message names the closest one.
        """
        site = Site.parse(site) if isinstance(site, str) else site
        if site not in self._locations:
            names = [str(known) for known in self._locations]
            raise HookNotFoundError(
                f"no hook {str(site)!r} on this model ({len(names)} hooks)"
                + near_miss(str(site), names)
            )
        return self._locations[site]

    def __iter__(self) -> Iterator[Site]:
        """Sites in the order in which they were found."""
        return iter(self._locations)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self._locations)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the kinds of site, each once."""
        return tuple(dict.fromkeys(site.name for site in self))

    def at(self, name: str, layers: int | tuple[int, ...] | None) -> tuple[Site, ...]:
        """The sites of one kind at the given layers.

        Args:
            name: Name of the sites.
            layers: Negative ones count from the end; `None` for a site outside the blocks.

        Raises:
            HookNotFoundError: If the name, or the name at one of the layers, is not on the model.
        """
        if name not in self.names:
            raise HookNotFoundError(
                f"no site {name!r} on this model (it has {', '.join(self.names)})"
                + near_miss(name, self.names)
            )
        if layers is None or Site(name) in self:
            self[Site(name)]
            return (Site(name),)
        n_layers = 1 + max((site.layer for site in self if site.layer is not None), default=-1)
        wanted = (layers,) if isinstance(layers, int) else layers
        sites = tuple(Site(name, i + n_layers if i < 0 else i) for i in wanted)
        for site, layer in zip(sites, wanted, strict=True):
            if not 0 <= (site.layer or 0) < n_layers:
                raise HookNotFoundError(
                    f"no layer {layer} on this model: layers go from 0 to {n_layers - 1}"
                )
            self[site]
        return sites


def find_sites(body: nn.Module, input_ids: Tensor, *, prefix: str, n_heads: int) -> Sites:
    """Find and verify the sites of a Hugging Face decoder.

    Args:
        body: The decoder without its unembedding, in eval mode.
        input_ids: A short text, shape (1, pos).
        prefix: Path of the body inside the model, '' or ending in a dot.
        n_heads: Number of attention heads, by which `z` is split.

    Returns:
        The sites of all blocks, each checked on this forward pass.

    Raises:
        HookNotFoundError: If the blocks cannot be told, or if one block's output is not the next
            one's input and the last one's not that of the final norm.
    """
    blocks = _find_blocks(body)
    with torch.no_grad(), _Trace(body) as trace:
        output = body(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None],
            use_cache=False,
        )
    posts = [trace.output(block) for block in blocks]
    nexts = [trace.input(block) for block in blocks[1:]]
    closing = [child for child in trace.children(body) if _same(trace.input(child), posts[-1])]
    ends = [trace.output(child) for child in closing]
    if not (
        all(map(_same, posts[:-1], nexts))
        and any(_same(end, output.last_hidden_state) for end in ends)
    ):
        raise HookNotFoundError(
            f"the blocks of this {type(body).__name__} do not hand one residual stream on to the "
            "final norm, so hooks on them would not read it; pass sites= to HookedModel instead"
        )
    paths = {module: path for path, module in body.named_modules()}
    return Sites(
        {
            Site(name, layer): Location(prefix + paths[module], io, heads=heads)
            for layer, block in enumerate(blocks)
            for name, (module, io, heads) in _block_sites(block, trace, n_heads).items()
        }
    )


def _find_blocks(body: Any) -> nn.ModuleList:
    n_layers = body.config.get_text_config().num_hidden_layers
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise HookNotFoundError(
        f"no list of {n_layers} blocks in a {type(body).__name__}; "
        "pass sites= to HookedModel instead"
    )


class _Trace:
    """What went in and out of every module during one forward pass, in order of completion."""

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._values: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> "_Trace":
        self._handles = [
            module.register_forward_hook(self._keep, with_kwargs=True)
            for module in self._root.modules()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        value = args[0] if args else kwargs.get("hidden_states")
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(value, Tensor) and isinstance(first, Tensor):
            self._values[module] = value, first

    def input(self, module: nn.Module) -> Tensor:
        return self._values[module][0]

    def output(self, module: nn.Module) -> Tensor:
        return self._values[module][1]

    def children(self, module: nn.Module) -> list[nn.Module]:
        """The direct children that ran, last one first."""
        children = set(module.children())
        return [child for child in reversed(self._values) if child in children]


def _block_sites(
    block: nn.Module, trace: _Trace, n_heads: int
) -> dict[str, tuple[nn.Module, Literal["in", "out"], int | None]]:
    """Module, direction and heads of each site of one block."""
    pre, post = trace.input(block), trace.output(block)
    children = [child for child in trace.children(block) if trace.output(child).shape == pre.shape]
    nested = [child for child in children if any(child.children())]
    attention = _first(nested, lambda child: "attention" in type(child).__name__.lower())
    mlp = _first(nested, lambda child: child is not attention)
    writes = {child: pre + trace.output(child) for child in children}
    second_norm = _first(
        children, lambda child: any(_same(trace.input(child), total) for total in writes.values())
    )
    if second_norm is not None:
        mid = trace.input(second_norm)
        attn_out = _first(children, lambda child: _same(writes[child], mid))
        mlp_out = _first(children, lambda child: _same(mid + trace.output(child), post))
    else:  # attention and MLP in parallel
        attn_out = attention
        mlp_out = _first(
            children,
            lambda child: (
                attention is not None and _close(writes[child] + trace.output(attention), post)
            ),
        )
    sites = {
        "resid_pre": (block, "in", None),
        "z": (_projection(attention, trace), "in", n_heads),
        "attn_out": (attn_out if mlp_out is not None else None, "out", None),
        "resid_mid": (second_norm, "in", None),
        "mlp_post": (_projection(mlp, trace), "in", None),
        "mlp_out": (mlp_out, "out", None),
        "resid_post": (block, "out", None),
    }
    return {name: site for name, site in sites.items() if site[0] is not None}


def _projection(parent: nn.Module | None, trace: _Trace) -> nn.Module | None:
    """The map with which attention or an MLP writes its output."""
    if parent is None:
        return None
    return _first(
        trace.children(parent),
        lambda child: (
            _same(trace.output(child), trace.output(parent))
            and any(True for _ in child.parameters())
        ),
    )


def _first(modules: list[nn.Module], test: Callable[[nn.Module], bool]) -> nn.Module | None:
    return next((module for module in modules if test(module)), None)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether two sums of three terms agree up to the order of summation, token by token."""
    error = (a.float() - b.float()).norm(dim=-1) / b.float().norm(dim=-1)
    return bool(error.max() <= 2 * torch.finfo(b.dtype).eps)
