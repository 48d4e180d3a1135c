"""Files that are whole or not there, and seeds that do not disturb each other."""

import errno
import os
from pathlib import Path

import pytest
import torch

from interp.core.files import write_atomically
from interp.core.seeds import derive, generator


def test_a_file_that_cannot_be_written_leaves_the_old_one(monkeypatch, tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "deep" / "file", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_derived_seeds_are_stable_and_distinct() -> None:
    seeds = [derive(seed, name, k) for seed in (0, 1) for name in ("a", "b") for k in range(50)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert torch.equal(
        torch.rand(3, generator=generator(0, "a")), torch.rand(3, generator=generator(0, "a"))
    )
    state = torch.get_rng_state()
    generator(0, "a")
    assert torch.equal(torch.get_rng_state(), state)
