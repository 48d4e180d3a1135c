"""Files that are either whole or not there."""

import os
import uuid
from pathlib import Path


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
