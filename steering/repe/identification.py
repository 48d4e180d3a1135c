"""Identification: how a concept is looked for in a model.

An identification takes the model and contrast pairs and gives a `Reading`: activations of both
sides (input reading), or vectors that were optimized on the output or found without labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from interp.core.activations import Activations
from interp.core.extraction import extract
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.tokens import Selection
from steering.affine import AffineMap
from steering.contrast import Pairs
from steering.discovery import discover_vectors
from steering.optimizing import (
    Loss,
    OptimizationConfig,
    bipo,
    optimize_low_rank,
    optimize_rank_one,
    optimize_vector,
)
from steering.propensity import Contests
from steering.reading import PairActivations, extract_pairs
from steering.vectors import SteeringVector


@dataclass(frozen=True, kw_only=True, eq=False)
class NeutralReading:
    """Activations of pairs and of the model's own texts between them."""

    pairs: PairActivations
    """Both sides."""
    neutral: Activations
    """One row for each pair, at the same layers."""


Reading = PairActivations | NeutralReading | SteeringVector | AffineMap | Tensor
"""Activations of pairs, or what was found directly."""
Identification = Callable[[HookedModel, Pairs], Reading]
"""From a model and pairs to a reading."""


def reading_inputs(
    *,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    read: Selection = "last",
) -> Identification:
    """Activations of both sides of the pairs.

    Args:
        layers: One layer or several; all by default.
        site: Name of the site, such as `"z"` for heads.
        read: Which tokens.
    """

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        return extract_pairs(model, pairs, layers=layers, site=site, read=read)

    return identify


def reading_with_neutral(
    neutral: Records | Sequence[str],
    *,
    layers: int | Sequence[int] | None = None,
    site: str = "resid_post",
    read: Selection = "last",
) -> Identification:
    """Activations of both sides of the pairs, and of a neutral text for each pair.

    Args:
        neutral: What the model itself says, one text for each pair.
        layers: One layer or several; all by default.
        site: Name of the site.
        read: Which tokens; where they are several, their mean.
    """
    records = neutral if isinstance(neutral, Records) else Records.from_texts(neutral)

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        if len(pairs) != len(records):
            raise ValueError(f"{len(records)} neutral texts, but {len(pairs)} pairs: one for each")
        options = {"layers": layers, "site": site, "read": read}
        between = extract_pairs(model, Pairs(records, pairs.negative), **options)
        return NeutralReading(
            pairs=extract_pairs(model, pairs, **options), neutral=between.positive
        )

    return identify


def reading_positions(*, layer: int, site: str = "resid_post") -> Identification:
    """The difference of one pair at every position, as activation addition uses it.

    The shorter text is padded on the right with spaces, token by token.
    """

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        if len(pairs) != 1:
            raise ValueError(f"{len(pairs)} pairs: activation addition takes one")
        space = model.tokenizer(" ", add_special_tokens=False)["input_ids"]
        rows = [model.tokenize(side).ids.tolist() for side in (pairs.positive, pairs.negative)]
        width = max(map(len, rows))
        texts = [model.tokenizer.decode(row + space * (width - len(row))) for row in rows]
        acts = extract(model, texts, layers=layer, sites=site)
        lengths = acts.tokens.lengths.tolist() if acts.tokens is not None else []
        positive, negative = acts.matrix.split(lengths)
        shared = min(len(positive), len(negative))
        return positive[:shared] - negative[:shared]

    return identify


def optimizing_outputs(
    *, layer: int, loss: Loss = bipo, config: OptimizationConfig | None = None
) -> Identification:
    """A vector optimized on texts whose last letters differ: see `contests_of`."""

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        return optimize_vector(model, contests_of(pairs), layer=layer, loss=loss, config=config)

    return identify


def optimizing_rank_one(
    *, layer: int, top_k: int = 8, config: OptimizationConfig | None = None
) -> Identification:
    """A vector that detects and steers, optimized on the positive side of the pairs."""

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        return optimize_rank_one(model, contests_of(pairs), layer=layer, top_k=top_k, config=config)

    return identify


def optimizing_low_rank(
    *, layer: int, rank: int = 4, config: OptimizationConfig | None = None
) -> Identification:
    """A low-rank edit optimized on the positive side of the pairs."""

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        return optimize_low_rank(model, contests_of(pairs), layer=layer, rank=rank, config=config)

    return identify


def discovering(
    *, layer: int, target_layer: int, number: int = 0, n_steps: int = 40, seed: int = 0
) -> Identification:
    """One of the vectors found without labels on the positive texts."""

    def identify(model: HookedModel, pairs: Pairs) -> Reading:
        found = discover_vectors(
            model,
            pairs.positive,
            layer=layer,
            target_layer=target_layer,
            n_vectors=number + 1,
            n_steps=n_steps,
            seed=seed,
        )
        return found[number]

    return identify


def contests_of(pairs: Pairs) -> Contests:
    """Pairs of texts as prompts (what both sides begin with) and two continuations.

    Raises:
        ValueError: If the sides of a pair share no beginning, or one ends where the other goes on.
    """
    columns: list[tuple[str, str, str]] = []
    for number, (a, b) in enumerate(zip(pairs.positive, pairs.negative, strict=True)):
        if a.text is None or b.text is None:
            raise ValueError("conversations have no continuation: give the pairs as texts")
        n = next(
            (k for k, (x, y) in enumerate(zip(a.text, b.text, strict=False)) if x != y),
            min(len(a.text), len(b.text)),
        )
        cut = max(a.text.rfind(" ", 0, n + 1), 0)  # before the word in which they part
        if cut == 0 or cut in (len(a.text), len(b.text)):
            raise ValueError(f"the sides of pair {number} share no beginning of whole words")
        columns.append((a.text[:cut], a.text[cut:], b.text[cut:]))
    prompts, positive, negative = zip(*columns, strict=True)
    return Contests(prompts=prompts, positive=positive, negative=negative)
