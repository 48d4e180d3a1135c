"""Neurons of MLPs: what they write, how active they are, and where they point.

A neuron is one entry of `mlp_post`, the input of the map with which an MLP writes its output. In a
plain MLP (GPT-2) its activation is the nonlinearity of one input; in a gated one (Llama, Gemma) the
nonlinearity of its gate times its linear part, so that it may take either sign. Its value vector is
what the map writes when this neuron alone is 1, without the map's bias. Activation times value
vector, summed over neurons, is the MLP's output without that bias.

Gemma normalizes the output before it is added to the residual stream. The gain of that norm belongs
to the value vectors here; its division by the token's own length does not, so that there the sum is
the output before this division.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.attribution.logits import final_norm, norm_gain, output_head
from interp.core.activations import Activations
from interp.core.directions import Direction
from interp.core.extraction import BATCH_TOKENS, extract
from interp.core.interventions import SiteEdit, edit
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.sites import Site
from interp.core.tokens import Selection, Tokens


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How every neuron's value vector lies to a direction."""

    layers: tuple[int, ...]
    """Layers of the rows."""
    projection: Float[np.ndarray, "layer neuron"]
    """Length of the value vector along the direction: what one unit of activation adds."""
    cosine: Float[np.ndarray, "layer neuron"]
    """Cosine of value vector and direction."""


def value_vectors(model: HookedModel, layer: int) -> Float[Tensor, "neuron d_model"]:
    """What each neuron of a layer writes when it alone is 1, float32.

    Args:
        model: A language model.
        layer: Layer, from 0.

    Raises:
        HookNotFoundError: If the model has no MLP there.
    """
    into = model.module.get_submodule(model.sites[Site("mlp_post", layer)].path)
    out = model.module.get_submodule(model.sites[Site("mlp_out", layer)].path)
    n_neurons = _n_neurons(model, layer)
    with torch.no_grad():
        ones = torch.eye(n_neurons, device=model.device, dtype=model.dtype)
        vectors = (into(ones) - into(torch.zeros_like(ones[:1]))).float()
        if into is not out and "norm" in type(out).__name__.lower():
            vectors = vectors * norm_gain(out, vectors.shape[1])
    return vectors


def align(
    model: HookedModel,
    direction: Direction | Float[Tensor, " d_model"],
    *,
    layers: Sequence[int] | None = None,
) -> Alignment:
    """Projection and cosine of all value vectors.

    Args:
        model: A language model.
        direction: Of the residual stream; its length does not matter.
        layers: Which layers; all by default.

    Raises:
        ValueError: If the direction has another width than the residual stream.
    """
    chosen = tuple(range(model.n_layers) if layers is None else layers)
    return align_vectors([value_vectors(model, layer) for layer in chosen], direction, chosen)


def align_vectors(
    vectors: Sequence[Float[Tensor, "neuron d_model"]],
    direction: Direction | Float[Tensor, " feature"],
    layers: Sequence[int] | None = None,
) -> Alignment:
    """The same for value vectors that are known, as when many directions are compared.

    Args:
        vectors: What `value_vectors` gives, for each layer.
        direction: Of the residual stream; its length does not matter.
        layers: Which layers these are; from 0 on by default.

    Raises:
        ValueError: If the direction has another width than the residual stream.
    """
    vector = direction.vector if isinstance(direction, Direction) else direction
    width = vectors[0].shape[1]
    if vector.shape != (width,):
        raise ValueError(
            f"direction has shape {tuple(vector.shape)}, but the residual stream has width {width}"
        )
    unit = (vector / vector.norm()).to(vectors[0])
    along = [side @ unit for side in vectors]
    cosines = [
        a / side.norm(dim=1).clamp(min=1e-12) for a, side in zip(along, vectors, strict=True)
    ]
    return Alignment(
        layers=tuple(range(len(vectors)) if layers is None else layers),
        projection=torch.stack(along).cpu().numpy(),
        cosine=torch.stack(cosines).cpu().numpy(),
    )


def mean_activations(
    model: HookedModel,
    prompts: Records | Sequence[str] | Tokens,
    *,
    layers: Sequence[int] | None = None,
    positions: Selection | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool = False,
) -> Activations:
    """Mean activation of every neuron over the tokens of each prompt.

    Args:
        model: A language model.
        prompts: Texts or conversations.
        layers: Which layers; all by default.
        positions: Over which tokens; by default the content without the first token.
        batch_tokens: Tokens of a batch, padding included.
        progress: Show a progress bar.
    """
    return extract(
        model,
        prompts,
        layers=layers,
        sites="mlp_post",
        positions=positions,
        pooling="mean",
        batch_tokens=batch_tokens,
        progress=progress,
    )


def vocabulary_scores(
    model: HookedModel, ids: Int[np.ndarray, " word"], *, layers: Sequence[int] | None = None
) -> Float[np.ndarray, "layer neuron"]:
    """How far each value vector raises the logits of some tokens, beyond its spread over all.

    The mean logit that the value vector adds to these tokens minus that over the vocabulary, in
    standard deviations over the vocabulary. Unlike a cosine it is not drawn to directions in which
    all logits vary. Negative scores are found by neurons that suppress the tokens, or, in a gated
    MLP, raise them when their activation is negative.

    Args:
        model: A language model.
        ids: Token ids, such as those of toxic words.
        layers: Which layers; all by default.
    """
    unembedding = _unembedding(model)
    unembedding -= unembedding.mean(0)
    words = unembedding[torch.as_tensor(ids, device=unembedding.device)].mean(0)
    # the spread of a vector's logits, without these logits: there may be a quarter of a million
    covariance = unembedding.T @ unembedding / (len(unembedding) - 1)
    chosen = range(model.n_layers) if layers is None else layers
    scores = []
    for layer in chosen:
        vectors = value_vectors(model, layer)
        variance = ((vectors @ covariance) * vectors).sum(1)
        scores.append((vectors @ words / variance.clamp(min=1e-20).sqrt()).cpu().numpy())
    return np.stack(scores)


def value_tokens(
    model: HookedModel, layer: int, neuron: int, *, n: int = 10, negative: bool = False
) -> tuple[str, ...]:
    """The tokens whose logits a neuron's value vector raises most.

    Args:
        model: A language model.
        layer: Layer, from 0.
        neuron: Which neuron.
        n: How many tokens.
        negative: Those that it lowers most, which a negative activation raises.
    """
    logits = _unembedding(model) @ value_vectors(model, layer)[neuron]
    best = (-logits if negative else logits).topk(n).indices
    return tuple(model.tokenizer.decode([token]) for token in best.tolist())


def ablate_neurons(
    neurons: Bool[np.ndarray, "layer neuron"],
    *,
    layers: Sequence[int] | None = None,
    values: Float[np.ndarray, "layer neuron"] | None = None,
) -> tuple[SiteEdit, ...]:
    """Interventions that hold neurons at a constant, at every token.

    Args:
        neurons: Which neurons.
        layers: Layers of the rows; from 0 on by default.
        values: The constants; zero by default.

    Returns:
        One intervention for each layer, for `model.intervene(*ablate_neurons(...))`.
    """
    chosen = range(len(neurons)) if layers is None else layers
    constants = np.zeros(neurons.shape, np.float32) if values is None else values

    def held(row: int, layer: int) -> SiteEdit:
        mask = torch.from_numpy(neurons[row])
        constant = torch.from_numpy(constants[row].astype(np.float32))
        return edit(
            lambda value, call: torch.where(
                mask.to(value.device), constant.to(value.device, value.dtype), value
            ),
            layers=layer,
            site="mlp_post",
        )

    rows = enumerate(chosen)
    return tuple(held(row, layer) for row, layer in rows if neurons[row].any())


def _n_neurons(model: HookedModel, layer: int) -> int:
    """Width of the MLP of a layer, from a forward pass of one token."""
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.no_grad(), model.capture(Site("mlp_post", layer)) as found:
        model.body(input_ids=ids, use_cache=False)
    return found[Site("mlp_post", layer)][0].shape[-1]


def _unembedding(model: HookedModel) -> Float[Tensor, "d_vocab d_model"]:
    """The unembedding with the gain of the final norm, float32."""
    weight = output_head(model).weight.detach().float()
    return weight * norm_gain(final_norm(model), weight.shape[1])
