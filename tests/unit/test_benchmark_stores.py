"""The adapters that the benchmarks measure: each does what its workloads ask, and survives what it says.

Peers that are not installed are skipped; `make bench` installs them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from benchmarks.kill_check import check_survives_kill
from benchmarks.stores import STORES, BenchmarkError, Store, names_of, select

PAIRS = [(b"%05d" % number, bytes([number % 256]) * 100) for number in range(500)]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    found = STORES[request.param]
    if not found.is_installed():
        pytest.skip(f"{found.name} is not installed")
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_adapter_does_what_the_workloads_ask(store: Store, tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(PAIRS, len(PAIRS))
    handle = store.open(tmp_path)
    try:
        for key, value in shuffled[:100]:
            handle.put(key, value)
        handle.put_many(shuffled[100:300])
        handle.batch(shuffled[300:])
        handle.settle()
        assert list(handle.get_many([key for key, _ in PAIRS])) == [value for _, value in PAIRS]
        found = list(handle.items())
        assert (found if store.is_ordered else sorted(found)) == PAIRS
        key = PAIRS[7][0]
        handle.put(key, b"another")
        assert handle.get(key) == b"another"
        handle.delete(key)
        assert handle.get_missing(key) is None
        if handle.compact is not None:
            handle.compact()
            assert handle.get(PAIRS[8][0]) == PAIRS[8][1]
    finally:
        handle.close()


@pytest.mark.parametrize("name", ["flash_kv-btree", "flash_kv-hash-always", "sqlite3"])
def test_a_store_that_promises_so_survives_a_kill(name: str, tmp_path: Path) -> None:
    check_survives_kill(STORES[name], tmp_path)


def test_only_stores_of_one_promise_are_compared() -> None:
    with pytest.raises(BenchmarkError, match=r"flash_kv-hash and sqlite3-full do not promise the same"):
        select(["flash_kv-hash", "sqlite3-full", "dict"])
    for promise in ("process", "power"):
        installed, missing = select(names_of("all", promise))
        assert {store.promise for store in installed} == {promise, "nothing"}
        assert all(not STORES[name].is_installed() for name in missing)


def test_an_unknown_store_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(BenchmarkError, match=r"no such store: mongo; known are flash_kv-hash, "):
        select(["mongo"])
