"""The adapters: each states what it survives, keeps it when it is killed, and does what the workloads ask of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from flash_kv.bench import processes
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.kill_check import check_survives_kill
from flash_kv.bench.stores import DEFAULT_STORES, STORES, BenchmarkError, select
from flash_kv.options import IndexKind

KEYS = 1_000


@pytest.fixture(params=list(STORES))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    if not STORES[found].is_installed():
        pytest.skip(f"{found} is not installed")
    return found


def test_every_kind_of_index_is_measured_with_each_durability() -> None:
    for kind in get_args(IndexKind):
        assert STORES[f"flash_kv-{kind}"].promise == "process"
        assert STORES[f"flash_kv-{kind}-always"].promise == "power"


def test_every_store_says_what_it_is() -> None:
    for store in STORES.values():
        assert store.settings, store.name
        assert store.survives, store.name
        assert store.read_check, store.name


def test_what_is_not_installed_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stores, missing = select(DEFAULT_STORES)
    assert [store.name for store in stores] == ["dict"]
    assert set(missing) == set(DEFAULT_STORES) - {"dict"}


def test_an_unknown_store_is_told_with_the_known_ones() -> None:
    with pytest.raises(BenchmarkError, match="no such store: nothing; known are flash_kv-hash"):
        select(["nothing"])


def test_a_store_does_what_the_workloads_ask_of_it(name: str, tmp_path: Path) -> None:
    data, store = Dataset(KEYS, 16, 100, 1), STORES[name]
    pairs = data.pairs(list(range(KEYS)), 0)
    handle = store.open(tmp_path)
    try:
        handle.put_many(pairs[: KEYS // 2])
        handle.batch(pairs[KEYS // 2 :])
        assert sorted(handle.items()) == pairs
        assert list(handle.get_many([key for key, _ in pairs])) == [value for _, value in pairs]
        if store.is_ordered:
            assert list(handle.items()) == pairs
        if handle.reverse is not None:
            assert list(handle.reverse()) == pairs[::-1]
        if handle.scan_from is not None:
            assert list(handle.scan_from(data.missing_keys([100])[0], 5)) == pairs[101:106]
            assert list(handle.scan_from(data.missing_keys([KEYS])[0], 5)) == []
        if handle.prefix is not None:
            assert list(handle.prefix(pairs[100][0][:-2])) == pairs[100:150]
            assert list(handle.prefix(b"1")) == []
        assert handle.get_missing(data.missing_keys([1])[0]) is None
        handle.put(pairs[0][0], b"new")
        assert handle.get(pairs[0][0]) == b"new"
        handle.delete(pairs[0][0])
        assert handle.get_missing(pairs[0][0]) is None
    finally:
        handle.close()


def test_a_store_that_several_may_open_is_read_by_another_process(name: str, tmp_path: Path) -> None:
    data, store = Dataset(KEYS, 16, 100, 1), STORES[name]
    if store.open_reader is None:
        assert store.sharing == "one process at a time"
        return
    handle = store.open(tmp_path)
    try:
        handle.put_many(data.pairs(list(range(KEYS)), 0))
        if not store.has_readers_beside_writer:
            handle.close()
        # The other process checks what it reads.
        us, _, done = processes._read(store, tmp_path, data, 1, 0.001)
    finally:
        if store.has_readers_beside_writer:
            handle.close()
    assert us > 0
    assert done >= KEYS


def test_what_is_opened_for_reading_refuses_writes(tmp_path: Path) -> None:
    store = STORES["flash_kv-btree"]
    store.open(tmp_path).close()
    assert store.open_reader is not None
    reader = store.open_reader(tmp_path)
    try:
        with pytest.raises(BenchmarkError, match="for reading"):
            reader.put(b"key", b"value")
    finally:
        reader.close()


def test_a_thread_has_its_own_get_where_the_store_is_opened_for_each(tmp_path: Path) -> None:
    handle = STORES["sqlite3"].open(tmp_path)
    try:
        assert handle.get_of_thread is not None
        gets = [handle.get_of_thread(number) for number in (0, 1, 0)]
        handle.put(b"key", b"value")
        assert [get(b"key") for get in gets] == [b"value"] * 3
    finally:
        handle.close()


@pytest.mark.parametrize("index", get_args(IndexKind))
def test_a_kill_takes_nothing(index: str, tmp_path: Path) -> None:
    check_survives_kill(STORES[f"flash_kv-{index}"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_loses_writes_in_a_kill_is_found(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"lost .* when its process was killed"):
        check_survives_kill(replace(STORES["dict"], promise="process"), tmp_path)
