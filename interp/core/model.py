"""A model with an address book: where it can be read and edited, and the hooks that do it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interp.core.hooks import Hooks, Intervention
from interp.core.origin import Origin, fingerprint, template_hash
from interp.core.records import Records
from interp.core.sites import Location, Site, Sites, find_sites
from interp.core.tokenizing import tokenize
from interp.core.tokens import Tokens

if TYPE_CHECKING:
    from interp.core.bridge import TransformerBridge

Keep = Callable[[Tensor], Tensor]
"""What is kept of a value that is captured."""


class HookedModel:
    """Any torch module with named sites, read and edited by plain forward hooks.

    The module is neither wrapped nor changed: outside a `with` block it is as it came. Language
    models come from `load_model`; any other module is given its sites by hand.

    Examples:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> model = HookedModel(net, sites={"hidden": "1"})
        >>> seen = []
        >>> with model.hooks.attached(reads=[(Site("hidden"), lambda v, call: seen.append(v))]):
        ...     _ = net(torch.zeros(3, 4))
        >>> seen[0].shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        sites: Mapping[str, str | Location] | None = None,
        tokenizer: Any = None,
        name: str | None = None,
    ) -> None:
        """Find or take the sites of a module.

        Args:
            module: A Hugging Face causal language model, or any module if `sites` is given.
            sites: Module paths or locations by name, for a model that is not a decoder.
            tokenizer: The tokenizer of a language model.
            name: Under which results name the model.

        Raises:
            HookNotFoundError: If the residual stream of a language model cannot be found.
        """
        self.module = module
        self.tokenizer = tokenizer
        self.name = name or getattr(module, "name_or_path", "") or type(module).__name__
        if sites is None:
            self.body, self.sites = _language_sites(module)
        else:
            self.body, self.sites = module, _given_sites(module, sites)
        self.hooks = Hooks(module, self.sites, entry=self.body)

    def __repr__(self) -> str:
        """Name, size and sites."""
        size = sum(p.numel() for p in self.module.parameters()) / 1e6
        shape = f", {self.n_layers} layers of width {self.d_model}" if self.n_layers else ""
        return f"HookedModel({self.name!r}, {size:.1f}M parameters{shape}, {len(self.sites)} hooks)"

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first parameter."""
        return next(self.module.parameters()).dtype

    @property
    def n_layers(self) -> int:
        """Number of blocks, 0 for a model without them."""
        return 1 + max((site.layer for site in self.sites if site.layer is not None), default=-1)

    @property
    def d_model(self) -> int | None:
        """Width of the residual stream, `None` for a model without one."""
        return self._config("hidden_size")

    @property
    def n_ctx(self) -> int | None:
        """Longest text in tokens, `None` if there is no limit."""
        return self._config("max_position_embeddings")

    @property
    def origin(self) -> Origin:
        """What identifies this model, computed from its weights as they are now."""
        return Origin(
            model=self.name,
            fingerprint=fingerprint(self.module),
            d_model=self.d_model,
            template=template_hash(self.tokenizer),
        )

    def tokenize(
        self,
        records: Records | Sequence[str],
        *,
        truncate: bool = False,
        add_generation_prompt: bool = False,
        allow_control_tokens: bool = False,
    ) -> Tokens:
        """Tokenize texts as they are and conversations through the chat template.

        Args:
            records: Records or plain texts.
            truncate: Cut texts that are longer than the context, with a warning, instead of
                refusing them.
            add_generation_prompt: End conversations with the header of the assistant's next turn.
            allow_control_tokens: Accept messages that contain control tokens.

        Raises:
            ValueError: If a text is longer than the context.
        """
        if self.tokenizer is None:
            raise ValueError(f"{self.name!r} has no tokenizer: give one to HookedModel")
        tokens = tokenize(
            self.tokenizer,
            records,
            add_generation_prompt=add_generation_prompt,
            allow_control_tokens=allow_control_tokens,
        )
        n_ctx, longest = self.n_ctx, int(tokens.lengths.max())
        if n_ctx is None or longest <= n_ctx:
            return tokens
        n_long = int((tokens.lengths > n_ctx).sum())
        message = (
            f"{n_long} of {len(tokens)} texts are longer than the context of {n_ctx} tokens; the "
            f"longest, record {int(tokens.lengths.argmax())}, has {longest}"
        )
        if not truncate:
            raise ValueError(f"{message}; shorten them or pass truncate=True")
        warnings.warn(f"{message}: they were cut", stacklevel=2)
        return tokens.take(tokens.positions < n_ctx)

    @contextmanager
    def intervene(self, *interventions: Intervention) -> Iterator["HookedModel"]:
        """Run the model with interventions for the length of the block.

        Args:
            *interventions: Any number; at one site they act in the order given.
        """
        with ExitStack() as stack:
            for intervention in interventions:
                stack.enter_context(intervention.applied(self))
            yield self

    @contextmanager
    def capture(
        self, sites: Site | str | Iterable[Site | str], *, keep: Keep | None = None
    ) -> Iterator[dict[Site, list[Tensor]]]:
        """Collect the values at sites, one list entry for each time a site runs.

        Args:
            sites: One or several sites, or their transformer-lens names.
            keep: Function from a value to what is kept of it; by default a detached copy.

        Yields:
            A dictionary that fills while the model runs: prefill first, then every decoded token;
            or the ticks of a recurrent model.
        """
        kept = _copied if keep is None else keep
        sites = (sites,) if isinstance(sites, (Site, str)) else sites
        wanted = [Site.parse(site) if isinstance(site, str) else site for site in sites]
        found: dict[Site, list[Tensor]] = {site: [] for site in wanted}
        reads = [(s, lambda value, call, s=s: found[s].append(kept(value))) for s in wanted]
        with self.hooks.attached(reads=reads):
            yield found

    def bridge(self) -> "TransformerBridge":
        """A transformer-lens `TransformerBridge` on a copy of this model, with the same sites.

        Attention patterns, queries, keys and direct logit attribution are read there. The copy
        doubles the memory, and is needed because booting a bridge edits the model in place.
        """
        from interp.core.bridge import boot  # noqa: PLC0415  transformer-lens is slow to import

        return boot(self.module, self.tokenizer)

    def save(self, folder: str | Path) -> Path:
        """Write model and tokenizer so that `load_model(folder)` reads them back."""
        module: Any = self.module
        module.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        return Path(folder)

    def _config(self, name: str) -> int | None:
        config: Any = getattr(self.module, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return getattr(text, name, None)


def _copied(value: Tensor) -> Tensor:
    return value.detach().clone()


def _language_sites(module: nn.Module) -> tuple[nn.Module, Sites]:
    """The decoder body of a Hugging Face model and the sites of its blocks."""
    if not hasattr(module, "config") or not hasattr(module, "base_model"):
        raise ValueError(
            f"{type(module).__name__} is not a Hugging Face model: pass sites={{name: module path}}"
        )
    body: Any = module.base_model
    prefix = next(
        (f"{path}." for path, child in module.named_modules() if child is body and path), ""
    )
    config = body.config.get_text_config()
    ids = (torch.arange(3, 11) % config.vocab_size)[None].to(next(body.parameters()).device)
    training = module.training
    try:
        found = find_sites(body.eval(), ids, prefix=prefix, n_heads=config.num_attention_heads)
    finally:
        module.train(training)
    return body, found


def _given_sites(module: nn.Module, sites: Mapping[str, str | Location]) -> Sites:
    modules = dict(module.named_modules())
    located = {}
    for name, where in sites.items():
        location = where if isinstance(where, Location) else Location(where)
        if location.path not in modules:
            raise ValueError(
                f"site {name!r}: no module {location.path!r} in {type(module).__name__}"
            )
        located[Site.parse(name)] = location
    return Sites(located)
