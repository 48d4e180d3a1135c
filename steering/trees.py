"""Token trees: many texts in one forward pass, their common beginnings computed once.

The two sides of a pair, the questions behind the same five examples, the answers to one question,
and the same text under several coefficients share most of their tokens. A tree holds each shared
beginning once; a token attends to its ancestors and has its depth as its position, so every
activation is what it would be in a text of its own (up to rounding).

Needs a model whose attention takes a mask of its own and whose positions are given: every decoder
of transformers with sdpa or eager attention. `check_trees` verifies it on the model at hand.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.core.model import HookedModel
from interp.core.sites import Site

TREE_TOKENS = 512
"""Tokens of a tree by default; attention costs the square of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTree:
    """Some sequences of tokens as one tree."""

    ids: Int[np.ndarray, " node"]
    """Token of each node; a parent comes before its children."""
    positions: Int[np.ndarray, " node"]
    """Depth of each node: the position of its token in its sequences."""
    parents: Int[np.ndarray, " node"]
    """The node before each node, -1 at the start of a sequence."""
    sequences: tuple[int, ...]
    """Which of the caller's sequences are in this tree."""
    paths: tuple[np.ndarray, ...]
    """For each of these sequences, the nodes of its tokens in order, shape (pos,)."""

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.ids)

    def ancestors(self) -> Bool[np.ndarray, "node node"]:
        """Which nodes each node attends to: those before it in its sequences, and itself."""
        mask = np.zeros((len(self), len(self)), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] = mask[parent]
            mask[node, node] = True
        return mask

    def inputs(self, model: HookedModel) -> dict[str, Tensor]:
        """The arguments of a forward pass over this tree, on the model's device.

        Raises:
            ValueError: If a text is longer than the sliding window of the model's attention.
        """
        _check_window(model, int(self.positions.max()) + 1)
        mask = torch.from_numpy(self.ancestors())[None, None]
        lowest = torch.finfo(model.dtype).min
        bias = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, lowest)
        inputs = {
            "input_ids": torch.from_numpy(self.ids)[None],
            "attention_mask": bias,
            "position_ids": torch.from_numpy(self.positions)[None],
        }
        return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def plant(
    sequences: Sequence[Sequence[int]],
    *,
    marks: Sequence[Sequence[Hashable]] | None = None,
    max_tokens: int = TREE_TOKENS,
) -> Iterator[TokenTree]:
    """Trees of all sequences, each of at most `max_tokens` unless one sequence is longer.

    Args:
        sequences: Token ids of each sequence.
        marks: For each token, what besides its id and its past must agree for two sequences to
            share it, such as the coefficient with which it is steered.
        max_tokens: Nodes of a tree.

    Raises:
        ValueError: If a sequence is empty, or its marks are not as many as its tokens.
    """
    keyed = []
    for number, ids in enumerate(sequences):
        mark = (None,) * len(ids) if marks is None else tuple(marks[number])
        if not len(ids) or len(mark) != len(ids):
            raise ValueError(f"sequence {number} has {len(ids)} tokens and {len(mark)} marks")
        keyed.append(tuple(zip(map(int, ids), mark, strict=True)))
    order = sorted(range(len(keyed)), key=lambda k: tuple((i, repr(m)) for i, m in keyed[k]))
    builder = _Builder()
    for number in order:
        if len(builder) and len(builder) + builder.new_nodes(keyed[number]) > max_tokens:
            yield builder.build()
            builder = _Builder()
        builder.insert(number, keyed[number])
    if len(builder):
        yield builder.build()


class _Builder:
    """A tree that grows by one sequence at a time."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, tuple[int, Hashable]], int] = {}
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._parents: list[int] = []
        self._paths: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def new_nodes(self, keys: Sequence[tuple[int, Hashable]]) -> int:
        """How many nodes a sequence would add."""
        node = -1
        for depth, key in enumerate(keys):
            if (node, key) not in self._children:
                return len(keys) - depth
            node = self._children[node, key]
        return 0

    def insert(self, number: int, keys: Sequence[tuple[int, Hashable]]) -> None:
        node, path = -1, []
        for depth, key in enumerate(keys):
            if (node, key) not in self._children:
                self._children[node, key] = len(self._ids)
                self._ids.append(key[0])
                self._positions.append(depth)
                self._parents.append(node)
            node = self._children[node, key]
            path.append(node)
        self._paths[number] = np.array(path)

    def build(self) -> TokenTree:
        return TokenTree(
            ids=np.array(self._ids),
            positions=np.array(self._positions),
            parents=np.array(self._parents),
            sequences=tuple(self._paths),
            paths=tuple(self._paths.values()),
        )


def _check_window(model: HookedModel, n_tokens: int) -> None:
    """Refuse texts of which a sliding window would hide the beginning: the tree shows all of it."""
    config: Any = model.module.config
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if window and getattr(text, "use_sliding_window", True) and n_tokens > window:
        raise ValueError(
            f"a text of {n_tokens} tokens is longer than the sliding window of {window}: read "
            "pairs with share_prefixes=False, or shorten the texts"
        )


def check_trees(model: HookedModel, *, layer: int, tolerance: float = 1e-3) -> None:
    """Verify on this model that a tree gives the activations of single texts.

    Args:
        model: The model.
        layer: Layer whose output is compared.
        tolerance: Largest difference, in norms of the activations.

    Raises:
        ValueError: If it does not: this architecture's attention cannot be used with trees.
    """
    config: Any = model.module.config
    n_vocab = config.get_text_config().vocab_size
    first = [(7 * k + 3) % n_vocab for k in range(6)]
    second = [*first[:4], (first[4] + 1) % n_vocab, (first[5] + 2) % n_vocab]
    (tree,) = plant([first, second])
    site = Site("resid_post", layer)
    with torch.no_grad(), model.capture([site]) as found:
        model.body(**tree.inputs(model), use_cache=False)
        model.body(input_ids=torch.tensor([first, second], device=model.device), use_cache=False)
    packed, single = found[site][0][0].float(), found[site][1].float()
    for number, path in zip(tree.sequences, tree.paths, strict=True):
        error = (packed[torch.from_numpy(path)] - single[number]).norm(dim=-1)
        limit = tolerance if model.dtype == torch.float32 else 100 * tolerance
        if not bool((error <= limit * single[number].norm(dim=-1)).all()):
            raise ValueError(
                f"{type(model.module).__name__} does not give the same activations in a tree of "
                "tokens: read pairs with share_prefixes=False; sweeps cannot run on it"
            )
