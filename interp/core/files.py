"""Files that are either whole or not there, and safetensors files with a JSON header."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_HEADER = "hookscope"


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write a file so that nobody ever sees half of it under its name.

    The bytes go to a neighbor with another name, are flushed to the disk, and only then take the
    name. Two writers of one name do not mix: one of the two files wins. When the disk is full, the
    neighbor is removed and the old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbor = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with neighbor.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        neighbor.replace(path)
    finally:
        neighbor.unlink(missing_ok=True)
    return path


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None
) -> Path:
    """Write tensors, and a header of anything that JSON holds, as one safetensors file."""
    metadata = None if header is None else {_HEADER: json.dumps(header)}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return write_atomically(path, save(whole, metadata=metadata))


def load_tensors(path: str | Path, *, schema: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that `save_tensors` wrote.

    Raises:
        ValueError: If the file holds something else than the schema says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            if header.get("schema") != schema:
                raise ValueError(f"{path} has schema {header.get('schema')!r}: needed {schema!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, header
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}): needed {schema!r}"
        ) from error
