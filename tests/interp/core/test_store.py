"""The store: whole shards or none, one model, one plan, and what is read equals `extract`."""

import json
import threading
from pathlib import Path

import pytest
import torch

from interp import (
    Activations,
    ActivationStore,
    ModelMismatchError,
    Records,
    StoreError,
    extract,
    extract_to_disk,
)

TEXTS = ["a fire in the house", "tea", "the old bridge", "two 🙂", "no one knows"]
RECORDS = Records.from_texts(TEXTS, labels=[1, 0, 1, 0, 1], groups=list("aabbc"))


def equal(store: ActivationStore, expected: Activations) -> bool:
    for site in expected.sites:
        read = store.read(expected.layers, site=site)
        if not torch.equal(read.values, expected.tensors[site]):
            return False
        assert (read.tokens is None) == (expected.tokens is None)
        if read.tokens is not None and expected.tokens is not None:
            assert read.tokens.strings == expected.tokens.strings
        assert read.pooling == expected.pooling
        assert read.origin == expected.origin
    return True


@pytest.mark.parametrize("pooling", [None, "mean", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reading_equals_extracting(tiny, tmp_path: Path, pooling, dtype) -> None:
    options = {"sites": ["resid_post", "z"], "pooling": pooling, "dtype": dtype, "batch_tokens": 40}
    store = extract_to_disk(tiny, RECORDS, tmp_path, **options)
    assert store.n_shards > 1
    assert store.complete
    assert len(store) == 5
    expected = extract(tiny, RECORDS, **options)
    assert equal(ActivationStore(tmp_path, origin=tiny.origin), expected)
    one = store.read(1, site="z")
    assert torch.equal(one.values, expected.at(1, site="z").values)
    assert one.labels is not None
    assert one.labels.tolist() == [1, 0, 1, 0, 1]
    assert one.groups is not None
    assert one.groups.tolist() == list("aabbc")


def test_only_missing_shards_are_computed(tiny, tmp_path: Path) -> None:
    store = extract_to_disk(tiny, TEXTS, tmp_path, batch_tokens=20, pooling="mean")
    expected = store.read([0, 1, 2]).values
    untouched = store.shard(0).stat().st_mtime_ns
    store.shard(1).unlink()
    assert store.missing == (1,)
    assert not store.complete
    with pytest.raises(
        StoreError, match=r"1 of \d shards are missing .* it goes on where it stopped"
    ):
        store.read(0)
    passes = []
    handle = tiny.body.register_forward_pre_hook(lambda *_: passes.append(1))
    # another size of batch does not matter: the store goes on with the plan that it has
    again = extract_to_disk(tiny, TEXTS, tmp_path, batch_tokens=33, pooling="mean")
    handle.remove()
    assert len(passes) == 1
    assert torch.equal(again.read([0, 1, 2]).values, expected)
    assert store.shard(0).stat().st_mtime_ns == untouched


def test_an_interrupted_extraction_goes_on(tiny, tmp_path: Path) -> None:
    passes = []

    def interrupt(*_: object) -> None:
        passes.append(1)
        if len(passes) == 3:
            raise KeyboardInterrupt

    handle = tiny.body.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract_to_disk(tiny, TEXTS, tmp_path, batch_tokens=20)
    assert len(ActivationStore(tmp_path).missing) == ActivationStore(tmp_path).n_shards - 2
    store = extract_to_disk(tiny, TEXTS, tmp_path, batch_tokens=20)
    handle.remove()
    assert len(passes) == 1 + store.n_shards
    assert equal(store, extract(tiny, TEXTS, batch_tokens=20))


def test_half_a_shard_is_never_counted(tiny, tmp_path: Path) -> None:
    store = extract_to_disk(tiny, TEXTS, tmp_path, batch_tokens=20)
    whole = store.shard(1).read_bytes()
    store.shard(1).unlink()
    (tmp_path / f".{store.shard(1).name}.0.part").write_bytes(whole[: len(whole) // 2])
    assert store.missing == (1,)
    store.shard(1).write_bytes(whole[: len(whole) // 2])  # what a broken disk might do
    with pytest.raises(StoreError, match=r"shard shard-00001.safetensors is damaged .* delete it"):
        store.read(0)


def test_new_labels_of_the_same_texts_are_taken(tiny, tmp_path: Path) -> None:
    extract_to_disk(tiny, RECORDS, tmp_path, pooling="mean")
    relabelled = Records.from_texts(TEXTS, labels=[0, 0, 0, 0, 1])
    store = extract_to_disk(tiny, relabelled, tmp_path, pooling="mean")
    labels = store.read(0).labels
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": [0]}, "layers"),
        ({"sites": "z"}, "sites"),
        ({"pooling": "max"}, "pooling"),
        ({"dtype": torch.float16}, "dtype"),
        ({"positions": "all"}, "positions"),
        ({"records": TEXTS[::-1]}, "tokens"),
    ],
)
def test_a_store_of_something_else_is_never_overwritten(
    tiny, tmp_path: Path, change: dict, named: str
) -> None:
    options = {"records": TEXTS, "folder": tmp_path, "pooling": "mean"}
    store = extract_to_disk(tiny, **options)
    before = store.shard(0).read_bytes()
    with pytest.raises(ModelMismatchError, match=f"differs in {named}: choose another folder"):
        extract_to_disk(tiny, **(options | change))
    assert store.shard(0).read_bytes() == before


def test_a_store_of_another_model_is_refused(tiny, make_model, tmp_path: Path) -> None:
    extract_to_disk(tiny, TEXTS, tmp_path, pooling="mean")
    other = make_model("qwen3")
    with pytest.raises(ModelMismatchError, match="made with 'random-llama', and this model is"):
        extract_to_disk(other, TEXTS, tmp_path, pooling="mean")
    with pytest.raises(ModelMismatchError, match="fingerprint"):
        ActivationStore(tmp_path, origin=other.origin)
    renamed = make_model("llama")
    renamed.name = "the same weights under another name"
    assert extract_to_disk(renamed, TEXTS, tmp_path, pooling="mean").complete


def test_two_writers_make_one_store(tiny, make_model, tmp_path: Path) -> None:
    models = [make_model("llama"), make_model("llama")]
    failures: list[BaseException] = []

    def write(model) -> None:
        try:
            extract_to_disk(model, TEXTS, tmp_path, batch_tokens=5)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert equal(ActivationStore(tmp_path), extract(tiny, TEXTS, batch_tokens=5))
    assert not list(tmp_path.glob(".*.part"))


def test_folders_that_are_no_store_are_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store of activations in"):
        ActivationStore(tmp_path / "absent")
    index = tmp_path / "index.json"
    index.write_text("{broken")
    with pytest.raises(StoreError, match="no store of activations in"):
        ActivationStore(tmp_path)
    index.write_text(json.dumps({"schema": "other/1"}))
    with pytest.raises(StoreError, match="has schema 'other/1': needed"):
        ActivationStore(tmp_path)


def test_what_was_not_stored_is_refused(tiny, tmp_path: Path) -> None:
    store = extract_to_disk(tiny, TEXTS, tmp_path, layers=[0, 1], sites=["resid_post", "z"])
    with pytest.raises(ValueError, match=r"several sites \('resid_post', 'z'\): choose one"):
        store.read(0)
    with pytest.raises(ValueError, match=r"site 'z' at layers \(2,\) is not in this store"):
        store.read(2, site="z")


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write to .* run the same call again"):
        extract_to_disk(tiny, TEXTS, tmp_path / "file" / "store")
