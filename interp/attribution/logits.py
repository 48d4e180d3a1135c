"""What each layer writes toward an answer: the logit as a sum, and the logit lens.

The residual stream at the last token is the sum of the embedding and of what every attention and
MLP added to it. With the final norm's scale held fixed, the unembedding of that sum is the sum of
the unembedded parts. This is what components write *directly*; what they do by way of later ones
does not show (patching shows it), and parts that cancel can be larger than the logit itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp import viz
from interp.attribution.lenses import TunedLens
from interp.attribution.resuming import left_padded, observe
from interp.core.model import HookedModel
from interp.core.records import Records
from interp.core.sites import Site
from interp.core.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class LogitParts:
    """The parts of a logit difference at the last token of each text."""

    components: tuple[str, ...]
    """"embedding", "attention 0", "MLP 0" and so on, and "bias"."""
    values: Float[np.ndarray, "text component"]
    """What each of them adds."""
    totals: Float[np.ndarray, " text"]
    """The logit difference that the model gives: the sum of the parts."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each component, in the order of the forward pass: mean and extremes."""
        return pd.DataFrame(
            {
                "component": self.components,
                "mean": self.values.mean(axis=0),
                "min": self.values.min(axis=0),
                "max": self.values.max(axis=0),
            }
        )

    def plot(self, *, n: int = 12, **layout: Any) -> viz.Figure:
        """The components that add most, regardless of sign, with their range over texts."""
        frame = self.to_frame()
        frame = frame.iloc[np.argsort(-np.abs(self.values.mean(axis=0)), kind="stable")[:n]]
        return viz.bars(
            frame["mean"].to_numpy(),
            frame["min"].to_numpy(),
            frame["max"].to_numpy(),
            labels=frame["component"].tolist(),
            title="What each component writes toward the answer (range over texts)",
            x_title="part of the logit difference",
            **layout,
        )


def decompose_logits(
    model: HookedModel,
    texts: Records | Sequence[str] | Tokens,
    answers: Int[np.ndarray, " text"],
    wrong_answers: Int[np.ndarray, " text"],
) -> LogitParts:
    """The logit difference of two answers as a sum over components (direct logit attribution).

    Args:
        model: A language model whose attention and MLPs add to one residual stream.
        texts: Texts, all of which run in one batch.
        answers: Token id for each text, such as `pairs.answers`.
        wrong_answers: Token id whose logit is subtracted.

    Raises:
        HookNotFoundError: If the model lacks a site.
        ValueError: If the parts do not sum to the logits, as in models that cap them.
    """
    tokens = texts if isinstance(texts, Tokens) else model.tokenize(texts)
    layers = range(model.n_layers)
    writes = [Site(name, layer) for layer in layers for name in ("attn_out", "mlp_out")]
    end = Site("resid_post", model.n_layers - 1)
    batch = left_padded(model, tokens, range(len(tokens)))
    logits, found = observe(model, batch, [Site("resid_pre", 0), *writes, end], 1)
    parts = torch.stack([found[s][:, -1].float() for s in (Site("resid_pre", 0), *writes)], dim=1)
    norm, head = final_norm(model), output_head(model)
    pair = torch.from_numpy(np.stack([answers, wrong_answers])).to(logits.device)
    toward = head.weight[pair[0]].float() - head.weight[pair[1]].float()
    with torch.no_grad():
        scaled, bias = _normalized(norm, parts, found[end][:, -1].float())
        constant = (bias * toward).sum(-1)
        if getattr(head, "bias", None) is not None:
            constant = constant + head.bias[pair[0]] - head.bias[pair[1]]
        values = torch.cat([torch.einsum("tcd,td->tc", scaled, toward), constant[:, None]], dim=1)
    rows = torch.arange(len(tokens), device=logits.device)
    totals = logits[rows, -1, pair[0]] - logits[rows, -1, pair[1]]
    error = float((values.sum(1) - totals).abs().max())
    if error > 1e-3 * max(1.0, float(values.abs().max())):
        raise ValueError(
            f"the parts differ from the logit difference by {error:.3g}: these logits are not "
            "linear in what the final norm gives, so that they have no parts"
        )
    names = [f"{kind} {layer}" for layer in layers for kind in ("attention", "MLP")]
    return LogitParts(
        components=("embedding", *names, "bias"),
        values=values.detach().cpu().numpy(),
        totals=totals.cpu().numpy(),
    )


def logit_lens(
    model: HookedModel,
    texts: Records | Sequence[str] | Tokens,
    answers: Int[np.ndarray, " text"],
    *,
    lens: TunedLens | None = None,
) -> Float[np.ndarray, "text layer"]:
    """Log-probability, in nats, of an answer read from each layer by the final norm and head.

    Early layers need not write in the basis of the last one: a low value does not show that they
    do not know. A tuned lens brings them to that basis first.

    Args:
        model: A language model.
        texts: Texts, all of which run in one batch.
        answers: Token id for each text.
        lens: A tuned lens, such as `TunedLens.load(folder)`; without one the plain logit lens.

    Raises:
        ValueError: If the lens is for a model of another shape.
    """
    if lens is not None:
        lens.check(model)
    tokens = texts if isinstance(texts, Tokens) else model.tokenize(texts)
    sites = [Site("resid_post", layer) for layer in range(model.n_layers)]
    batch = left_padded(model, tokens, range(len(tokens)))
    _, found = observe(model, batch, sites, 1)
    norm, head = final_norm(model), output_head(model)
    ids = torch.from_numpy(np.asarray(answers)).to(model.device)[:, None]
    last = [found[site][:, -1] for site in sites]
    if lens is not None:
        last = [lens.translate(value, layer) for layer, value in enumerate(last)]
    with torch.no_grad():
        logprobs = [head(norm(value)).float().log_softmax(-1) for value in last]
    return torch.cat([x.gather(1, ids) for x in logprobs], dim=1).cpu().numpy()


def final_norm(model: HookedModel) -> Any:
    """The norm between the last block and the unembedding."""
    children = [c for c in model.body.children() if "norm" in type(c).__name__.lower()]
    if not children:
        raise ValueError(f"{model.name!r} has no final norm that can be told by its name")
    return children[-1]


def norm_gain(norm: Any, width: int) -> Float[Tensor, " d_model"]:
    """The factor of each dimension, float32; some norms add 1 to their weight."""
    if isinstance(norm, nn.LayerNorm):
        return norm.weight.detach().float()
    with torch.no_grad():  # a norm of root mean square leaves ones as they are, but for its gain
        return norm(torch.ones(width, device=norm.weight.device, dtype=norm.weight.dtype)).float()


def output_head(model: HookedModel) -> Any:
    """The unembedding."""
    module: Any = model.module
    return module.get_output_embeddings()


def _normalized(
    norm: Any, parts: Float[Tensor, "text part d_model"], whole: Float[Tensor, "text d_model"]
) -> tuple[Float[Tensor, "text part d_model"], Float[Tensor, " d_model"]]:
    """What the norm makes of each part, with the scale that the whole has there; and its bias."""
    gain = norm_gain(norm, whole.shape[-1])
    bias = torch.zeros_like(gain)
    if isinstance(norm, nn.LayerNorm):
        bias = norm.bias.detach().float()
        parts = parts - parts.mean(-1, keepdim=True)
        whole = whole - whole.mean(-1, keepdim=True)
        result = norm(whole).float() - bias  # centering twice changes nothing
    else:
        result = norm(whole).float()
    raw = whole * gain
    scale = (result * raw).sum(-1) / (raw * raw).sum(-1)
    return parts * gain * scale[:, None, None], bias
