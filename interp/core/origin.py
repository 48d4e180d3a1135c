"""Which model a value came from, so that it is not used on another one by mistake."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from interp.core.errors import ModelMismatchError


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model behind activations, a direction or a probe."""

    model: str
    """Name under which the model was loaded."""
    fingerprint: str
    """Hash of a sample of its weights: changes with fine-tuning, not with the dtype."""
    d_model: int | None = None
    """Width of the residual stream; `None` for a model without one."""
    template: str | None = None
    """Hash of the chat template, `None` without one."""

    def check(self, other: "Origin", what: str) -> None:
        """Refuse a value made with another model.

        Args:
            other: The model with which the value is to be used.
            what: The value, for the message.

        Raises:
            ModelMismatchError: If weights, width or template differ; the message says which.
        """
        mine, its = asdict(self), asdict(other)
        wrong = [k for k in ("d_model", "fingerprint", "template") if mine[k] != its[k]]
        if wrong:
            listed = ", ".join(f"{k} {mine[k]!r} against {its[k]!r}" for k in wrong)
            raise ModelMismatchError(
                f"{what} was made with {self.model!r}, and this model is {other.model!r}: {listed}"
            )


def fingerprint(module: nn.Module) -> str:
    """A hash of the shapes and of sixteen values of every parameter, in bfloat16."""
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 16)][:16].to("cpu", torch.bfloat16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def template_hash(tokenizer: Any) -> str | None:
    """A hash of the tokenizer's chat template, `None` without one."""
    template = getattr(tokenizer, "chat_template", None)
    return None if template is None else hashlib.sha256(str(template).encode()).hexdigest()[:16]
