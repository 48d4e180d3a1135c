"""Loading: where models come from, and what comes out (the embedded model: integration tests)."""

import hashlib
from pathlib import Path

import pytest
import torch

from interp import ModelNotFoundError, extract, load_model
from interp.core import loading
from interp.core.loading import EmbeddedModel

TEXTS = ["a fire", "tea"]


def test_a_loaded_model_passes_through(make_model) -> None:
    model = make_model("llama")
    same = load_model(model.module, tokenizer=model.tokenizer)
    assert same.module is model.module
    assert same.tokenizer is model.tokenizer
    half = load_model(make_model("llama").module, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="has no tokenizer"):
        extract(half, TEXTS)


def test_a_saved_model_comes_back_the_same(tiny, tmp_path: Path) -> None:
    back = load_model(tiny.save(tmp_path / "model"))
    assert torch.equal(extract(back, TEXTS).values, extract(tiny, TEXTS).values)
    assert back.origin.fingerprint == tiny.origin.fingerprint
    assert back.origin.template == tiny.origin.template
    assert load_model(tmp_path / "model", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_missing_model_names_the_command_that_gets_it(monkeypatch, tmp_path: Path) -> None:
    absent = EmbeddedModel(
        packages=("no_such_package",), files=("x.gguf",), install="pip install it==1"
    )
    monkeypatch.setitem(loading.EMBEDDED, "tiny-embedded", absent)
    with pytest.raises(ModelNotFoundError, match="not installed; get it with: pip install it==1"):
        load_model("tiny-embedded")
    with pytest.raises(ModelNotFoundError, match="did you mean 'tiny-embedded'"):
        load_model("tiny-embeded")
    with pytest.raises(ModelNotFoundError, match="hf download some/model; embedded models are"):
        load_model("some/model")
    with pytest.raises(FileNotFoundError, match=r"no file '.*x\.gguf'"):
        load_model(tmp_path / "x.gguf")


def test_chunks_are_found_and_put_together(monkeypatch, tmp_path: Path) -> None:
    for part, content in (("chunks_a", b"one "), ("chunks_b", b"two")):
        (tmp_path / part / "data").mkdir(parents=True)
        (tmp_path / part / "__init__.py").touch()
        (tmp_path / part / "data" / "x.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    packages, files = ("chunks_a", "chunks_b"), ("data/x.gguf", "data/x.gguf")
    embedded = EmbeddedModel(packages=packages, files=files, install="")
    assert len(embedded.pieces()) == 2
    digest = hashlib.sha256(b"one two").hexdigest()
    joined = loading._joined(embedded.pieces(), tmp_path / "whole", digest)
    assert joined.read_bytes() == b"one two"
    with pytest.raises(ValueError, match="install their packages again"):
        loading._joined(embedded.pieces()[::-1], tmp_path / "whole", digest)
    (tmp_path / "chunks_b" / "data" / "x.gguf").unlink()
    assert embedded.pieces() == ()


def test_files_of_the_same_name_and_size_are_told_apart(tmp_path: Path) -> None:
    digests = set()
    for changed in (None, 0, 500_000, 999_999):
        content = bytearray(1_000_000)
        if changed is not None:
            content[changed] = 1
        (tmp_path / "m.gguf").write_bytes(content)
        digests.add(loading._sampled_digest(tmp_path / "m.gguf"))
    assert len(digests) == 4
    (tmp_path / "empty").write_bytes(b"")
    assert loading._sampled_digest(tmp_path / "empty")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOKSCOPE_CACHE", str(tmp_path / "a"))
    assert loading.cache_dir() == tmp_path / "a"
    monkeypatch.delenv("HOOKSCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert loading.cache_dir() == tmp_path / "b" / "hookscope"
