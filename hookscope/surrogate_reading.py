"""What the study of surrogate goals reads from a model, kept on disk domain by domain."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp import Activations, HookedModel, Records, extract
from interp.agents.scenarios import VARIANTS, Scenario, Variant
from interp.agents.surrogate_goals import decision_prompt

REWORDED = "normal, other wording"
"""Name of the normal threats told in another wording."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Activations of every variant of some scenarios, each in one wording."""

    mean: Float[Tensor, "text layer d_model"]
    """Mean over the prompt without its first token."""
    last: Float[Tensor, "text layer d_model"]
    """At the last token of the prompt, where the answer begins."""
    variants: tuple[str, ...]
    """Variant of each text; `REWORDED` for normal threats in another wording."""
    domains: tuple[str, ...]
    """Domain of each text."""
    texts: tuple[str, ...]
    """The texts."""

    def rows(self, *variants: str, domains: Sequence[str]) -> np.ndarray:
        """Places of the texts of these variants and domains; without variants, of all of them."""
        wanted = variants or VARIANTS
        pairs = enumerate(zip(self.variants, self.domains, strict=True))
        return np.array([k for k, (v, d) in pairs if v in wanted and d in domains])


def read_scenarios(
    model: HookedModel, scenarios: Sequence[Scenario], folder: Path, *, progress: bool = False
) -> Reading:
    """Read what is missing, one domain after the other, and all that there is.

    Args:
        model: A language model with a chat template.
        scenarios: Scenarios; number i is told in wording i modulo 4.
        folder: Where activations are kept.
        progress: Show progress bars.
    """
    parts, variants, domains, texts = [], [], [], []
    told_as: list[tuple[str, Variant, int]] = [(variant, variant, 0) for variant in VARIANTS]
    told_as.append((REWORDED, "normal", 1))
    for domain in dict.fromkeys(one.domain.name for one in scenarios):
        told = [
            (name, domain, one.text(variant, wording=(k + shift) % 4))
            for k, one in enumerate(scenarios)
            if one.domain.name == domain
            for name, variant, shift in told_as
        ]
        path = folder / "activations" / f"{domain}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            read_prompts(model, [text for _, _, text in told], progress=progress).save(path)
        parts.append(Activations.load(path))
        for column, values in zip((variants, domains, texts), zip(*told, strict=True), strict=True):
            column.extend(values)
    values = torch.cat([part.values for part in parts])
    return Reading(
        mean=values[:, :, 0],
        last=values[:, :, 1],
        variants=tuple(variants),
        domains=tuple(domains),
        texts=tuple(texts),
    )


def read_prompts(
    model: HookedModel, texts: Sequence[str], *, progress: bool = False
) -> Activations:
    """Mean and last activations of decision prompts at all layers, shape (text, layer, 2, d)."""
    records = Records([{"messages": list(decision_prompt(text))} for text in texts])
    tokens = model.tokenize(records, add_generation_prompt=True)
    return extract(model, tokens, positions="all", pooling=mean_and_last, progress=progress)


def mean_and_last(values: Float[Tensor, "pos d_model"]) -> Float[Tensor, "two d_model"]:
    """Mean of all tokens but the first, and the last token."""
    return torch.stack([values[1:].float().mean(0), values[-1].float()])
