"""The store under violence: killed processes, two processes, and a disk that is full."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from interp import ActivationStore, HookedModel, StoreError, extract, extract_to_disk

# Forked children have all imports already; the parent computes on one thread, so it may fork.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
TEXTS = [f"text {n} " * (n + 1) for n in range(8)]


def start(
    model: HookedModel, folder: Path, *, pause: float = 0.0, limit: int | None = None
) -> BaseProcess:
    """Extract in another process, which may be slow, or may write only small files."""

    def write() -> None:
        model.body.register_forward_pre_hook(lambda *_: time.sleep(pause))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            extract_to_disk(model, TEXTS, folder, batch_tokens=64)
        except StoreError as error:
            os.write(errors[1], str(error).encode())
            sys.exit(3)

    errors = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.errors = os.fdopen(errors[0], "rb")  # what the child says before it exits with 3
    os.close(errors[1])
    return process


def ended(process: BaseProcess) -> tuple[int | None, str]:
    """Exit code and error message."""
    process.join(60)
    with process.errors as pipe:
        return process.exitcode, pipe.read().decode()


def assert_complete(model: HookedModel, folder: Path) -> None:
    store = ActivationStore(folder, origin=model.origin)
    assert store.complete
    expected = extract(model, TEXTS, batch_tokens=64)
    assert torch.equal(store.read([0, 1, 2]).values, expected.values)


def test_a_killed_extraction_goes_on_where_it_stopped(tiny, tmp_path: Path) -> None:
    process = start(tiny, tmp_path, pause=0.1)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("shard-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process)[0] == -signal.SIGKILL
    store = ActivationStore(tmp_path)
    assert 2 <= store.n_shards - len(store.missing) < store.n_shards
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert ended(start(tiny, tmp_path)) == (0, "")
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert_complete(tiny, tmp_path)


def test_two_processes_write_one_store(tiny, tmp_path: Path) -> None:
    writers = [start(tiny, tmp_path, pause=0.01) for _ in range(2)]
    assert [ended(writer) for writer in writers] == [(0, ""), (0, "")]
    assert_complete(tiny, tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_a_clear_error_and_the_store_goes_on_later(tiny, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "full"
    extract_to_disk(tiny, TEXTS, whole, batch_tokens=64)
    largest = max(path.stat().st_size for path in whole.glob("shard-*"))
    others = max(path.stat().st_size for path in whole.glob("[it]*"))
    assert others < largest - 1  # else the index would not fit either
    code, message = ended(start(tiny, folder, limit=largest - 1))
    assert code == 3
    assert message.startswith(f"cannot write to {str(folder)!r} (File too large)")
    assert "run the same call again" in message
    assert ActivationStore(folder).missing
    assert not list(folder.glob(".*.part"))
    assert ended(start(tiny, folder)) == (0, "")
    assert_complete(tiny, folder)
