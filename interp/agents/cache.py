"""A cache of replies in a JSON-lines file, keyed by back end, prompt and seed.

With a back end behind it, what is asked a second time is not computed again, and an interrupted
study goes on where it stopped. Without one it replays: nothing is computed at all.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.agents.backends import Backend, BackendError, Reply, digest
from interp.core.records import Message


class Replay:
    """A back end that answers from a file, and asks another one for what is not there."""

    def __init__(
        self, path: str | Path, backend: Backend | None = None, *, name: str | None = None
    ) -> None:
        """Open a cache; the file appears with the first entry.

        Args:
            path: The file; several back ends may share it.
            backend: What answers otherwise; nothing by default.
            name: Name of the back end whose entries are read; needed without one.

        Raises:
            ValueError: If there is neither back end nor name, or a line of the file is broken
                (a last line that was cut off is left out and written again).
        """
        if backend is None and name is None:
            raise ValueError("a cache without a back end needs the name of the one it replays")
        self.path, self.backend = Path(path), backend
        self.name = name or (backend.name if backend is not None else "")
        self._entries = _read(self.path)

    def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Reply:
        """See `Backend.generate`; from the file, or new and written there."""
        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        options |= {"seed": seed, "stop": list(stop)}
        key = digest(self.name, "generate", list(map(dict, messages)), options)
        if key not in self._entries:
            self._add(key, asdict(self._behind().generate(messages, **options)))
        return Reply(**self._entries[key])

    def choice(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> Float[np.ndarray, " option"]:
        """See `Backend.choice`; from the file, or new and written there."""
        key = digest(self.name, "choice", list(map(dict, messages)), list(options))
        if key not in self._entries:
            found = self._behind().choice(messages, options)
            self._add(key, {"probabilities": found.tolist()})
        return np.array(self._entries[key]["probabilities"])

    def _behind(self) -> Backend:
        if self.backend is None:
            raise BackendError(f"{self.path} has no such entry of {self.name!r}, and no back end")
        return self.backend

    def _add(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry, on the disk before it is used."""
        self._entries[key] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "entry": entry}, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a file by key; a last line that was cut off is removed from the file."""
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    found = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            found[row["key"]] = row["entry"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no entry of a cache ({error})") from error
    return found
