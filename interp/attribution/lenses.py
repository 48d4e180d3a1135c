"""Tuned lenses: what each layer would say once its basis is that of the last one.

A tuned lens (Belrose et al. 2023, arXiv 2303.08112) puts an affine map between each layer's
residual stream and the final norm, so that a layer is not called ignorant because it writes in
another basis. Lens files are those of the package tuned-lens. What a lens reads was learned to
predict the last layer; it does not show that the model itself uses it.
"""

import json
import pickle
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.core.files import write_atomically
from interp.core.model import HookedModel

_KIND = "linear_tuned_lens"


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedLens:
    """An affine map for what enters each block, added to it before the final norm."""

    weights: Float[Tensor, "layer d_model d_model"]
    """Maps from what enters each block, for columns: `weights[layer] @ value`."""
    biases: Float[Tensor, "layer d_model"]
    """What is added to that."""
    base_model: str = ""
    """Name of the model for which it was made."""

    @classmethod
    def identity(cls, model: HookedModel) -> "TunedLens":
        """The lens that changes nothing: with it a tuned lens is the logit lens."""
        n_layers, width = model.n_layers, model.d_model
        assert width is not None  # every language model has one
        return cls(
            weights=torch.zeros(n_layers, width, width),
            biases=torch.zeros(n_layers, width),
            base_model=model.name,
        )

    @classmethod
    def load(cls, folder: str | Path) -> "TunedLens":
        """Read `config.json` and `params.pt` as the package tuned-lens writes them.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the files hold something else, or do not fit each other.
        """
        config = _config(Path(folder) / "config.json")
        state = _state(Path(folder) / "params.pt")
        n_layers, width = config["num_hidden_layers"], config["d_model"]
        has_bias = config.get("bias", True)
        wanted = {f"{k}.weight": (width, width) for k in range(n_layers)}
        wanted |= {f"{k}.bias": (width,) for k in range(n_layers)} if has_bias else {}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if found != wanted:
            name = next(n for n in [*wanted, *found] if wanted.get(n) != found.get(n))
            raise ValueError(
                f"{folder}: {name!r} has shape {found.get(name)}, but the config says "
                f"{wanted.get(name)} ({n_layers} layers of width {width}): needed a lens whose "
                "two files belong together"
            )
        biases = [state[f"{k}.bias"] if has_bias else torch.zeros(width) for k in range(n_layers)]
        return cls(
            weights=torch.stack([state[f"{k}.weight"].float() for k in range(n_layers)]),
            biases=torch.stack([bias.float() for bias in biases]),
            base_model=config.get("base_model_name_or_path", ""),
        )

    def save(self, folder: str | Path) -> Path:
        """Write a folder that `load` and the package tuned-lens read; returns it."""
        n_layers, width = self.biases.shape
        state = {f"{k}.weight": self.weights[k].clone() for k in range(n_layers)}
        state |= {f"{k}.bias": self.biases[k].clone() for k in range(n_layers)}
        config = {
            "base_model_name_or_path": self.base_model,
            "d_model": width,
            "num_hidden_layers": n_layers,
            "bias": True,
            "lens_type": _KIND,
        }
        content = BytesIO()
        torch.save(state, content)
        write_atomically(Path(folder) / "params.pt", content.getvalue())
        write_atomically(Path(folder) / "config.json", json.dumps(config).encode())
        return Path(folder)

    def check(self, model: HookedModel) -> None:
        """Refuse a model of another shape; warn if the lens was made for one of another name.

        Raises:
            ValueError: If layers or width differ.
        """
        n_layers, width = self.biases.shape
        if (n_layers, width) != (model.n_layers, model.d_model):
            raise ValueError(
                f"the lens is for {n_layers} layers of width {width}, but {model.name!r} has "
                f"{model.n_layers} of width {model.d_model}: needed the lens of this model"
            )
        names = [name.rsplit("/", 1)[-1].lower() for name in (self.base_model, model.name)]
        if self.base_model and names[0] != names[1]:
            warnings.warn(
                f"the lens was made for {self.base_model!r}, and is used on {model.name!r}",
                stacklevel=3,
            )

    def translate(
        self, value: Float[Tensor, "... d_model"], layer: int
    ) -> Float[Tensor, "... d_model"]:
        """What a layer's residual stream is in the basis of the last one.

        Args:
            value: The stream behind a block (`resid_post`).
            layer: Which block; behind the last one nothing is changed.
        """
        if layer == len(self.biases) - 1:
            return value
        weight, bias = self.weights[layer + 1].to(value), self.biases[layer + 1].to(value)
        return value + value @ weight.T + bias


def _config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"no {path}: a lens is a folder with config.json and params.pt")
    config = json.loads(path.read_text(encoding="utf-8"))
    kind = config.get("lens_type", _KIND)
    missing = [name for name in ("d_model", "num_hidden_layers") if name not in config]
    if kind != _KIND or missing:
        raise ValueError(
            f"{path} describes lens_type={kind!r} without {missing}: needed {_KIND!r} with "
            "'d_model' and 'num_hidden_layers'"
        )
    return config


def _state(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise FileNotFoundError(f"no {path}: a lens is a folder with config.json and params.pt")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} holds no tensors that torch can load safely: {error}") from error
