"""Iterators: each sees the store of one moment, streams in constant memory, and lets go when it is dropped."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, ClosedError
from support.waiting import wait_until

OpenDB = Callable[..., DB]
WAYS: dict[str, Callable[[DB], Iterator[object]]] = {
    "store": iter,
    "keys": lambda db: iter(db.keys()),
    "values": lambda db: iter(db.values()),
    "items": lambda db: iter(db.items()),
}


def filled(open_db: OpenDB, count: int = 1000, **options: object) -> DB:
    db = open_db(**options)
    db.put_many((b"%06d" % number, b"%d" % number) for number in range(count))
    return db


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell RssAnon")


def test_iterator_sees_the_moment_it_began(open_db: OpenDB) -> None:
    db = filled(open_db)
    expected = dict(db.items())
    iterator = iter(db.items())
    seen = dict([next(iterator)])
    for number in range(0, 1000, 4):
        if number % 3 == 0:
            del db[b"%06d" % number]
        else:
            db[b"%06d" % number] = b"overwritten"
        db[b"new %d" % number] = b""
    seen.update(iterator)
    assert seen == expected
    assert len(db) == 1166


def test_iterator_begins_when_it_is_made_not_when_it_is_read(open_db: OpenDB) -> None:
    db = filled(open_db, 10)
    iterator = iter(db)
    db.clear()
    assert len(list(iterator)) == 10
    assert list(db) == []


def test_deleting_everything_while_iterating_meets_every_key_once(open_db: OpenDB) -> None:
    db = filled(open_db)
    seen = []
    for key in db:
        del db[key]
        seen.append(key)
    assert sorted(seen) == [b"%06d" % number for number in range(1000)]
    assert len(db) == 0


def test_compaction_in_the_middle_of_a_scan_changes_nothing(open_db: OpenDB) -> None:
    db = filled(open_db, 5000, segment_bytes_max=65536, reserve_bytes=0, compaction="off")
    expected = dict(db.items())
    iterator = iter(db.items())
    seen = dict(next(iterator) for _ in range(1000))
    db.put_many((key, b"new") for key in list(expected)[::2])
    db.delete_many(list(expected)[1::2])
    db.compact()
    db.compact()
    seen.update(iterator)
    assert seen == expected


@pytest.mark.parametrize("way", WAYS)
def test_dropped_iterator_lets_go_of_its_moment(open_db: OpenDB, way: str) -> None:
    db = filled(open_db)
    iterator = WAYS[way](db)
    next(iterator)
    assert db.stats().snapshots == 1
    del iterator
    assert db.stats().snapshots == 0


@pytest.mark.parametrize("way", WAYS)
def test_exhausted_iterator_lets_go_at_once_and_stays_at_its_end(open_db: OpenDB, way: str) -> None:
    db = filled(open_db, 300)
    iterator = WAYS[way](db)
    assert len(list(iterator)) == 300
    assert db.stats().snapshots == 0
    assert next(iterator, None) is None
    db[b"later"] = b""
    assert next(iterator, None) is None


def test_iterator_in_a_reference_cycle_lets_go_when_collected(open_db: OpenDB) -> None:
    db = filled(open_db)
    cycle: list[object] = [iter(db)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert db.stats().snapshots == 0


def test_store_and_what_reads_it_may_be_collected_together(tmp_path: Path, index: str, io: str) -> None:
    class Holder:
        pass

    db = flash_kv.open(tmp_path / "db", index=index, io=io)  # type: ignore[arg-type]
    db.put_many((b"%d" % number, b"") for number in range(300))
    holder: Any = Holder()
    holder.parts = [db, iter(db), db.snapshot(), iter(db.snapshot().items()), db.batch(), db.items()]
    holder.itself = holder
    next(holder.parts[1])
    segments = db._segments
    with pytest.warns(ResourceWarning, match="was not closed"):
        del db, holder
        # The background thread holds the store for moments.
        wait_until(lambda: gc.collect() >= 0 and segments._is_let_go)


def test_iterator_outlives_the_name_of_its_store(open_db: OpenDB) -> None:
    db = filled(open_db, 10)
    iterator = iter(db.items())
    next(iterator)
    db.close()
    del db
    with pytest.raises(ClosedError):
        next(iterator)


@pytest.mark.skipif(
    "FLASH_KV_TEST_SANITIZER" in os.environ, reason="a sanitizer keeps memory that was given back"
)
def test_memory_does_not_grow_with_the_range(open_db: OpenDB) -> None:
    db = filled(open_db, 60_000)
    for _ in db:
        pass
    tracemalloc.start()
    before = anonymous_bytes()
    try:
        most = 0
        for number, _ in enumerate(db.items()):
            if number % 5000 == 0:
                most = max(most, anonymous_bytes() - before)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert most < 2_000_000


def test_clear_and_delete_range_of_many_keys_are_one_commit(open_db: OpenDB) -> None:
    db = filled(open_db, 3000)
    lsn = db.stats().lsn
    with db.snapshot() as before:
        db.clear()
        with db.snapshot() as after:
            assert after.sequence == lsn + 3000
            assert (len(before), len(after)) == (3000, 0)
    db.close()
    assert len(open_db()) == 0


@pytest.mark.parametrize("way", ["keys", "values", "items"])
def test_len_of_a_view_needs_no_iteration_of_the_values(open_db: OpenDB, way: str) -> None:
    db = filled(open_db, 100)
    assert len(getattr(db, way)()) == 100


@pytest.mark.parametrize("index", ["hash"])
def test_unordered_scan_meets_every_key_once_whatever_the_size(open_db: OpenDB) -> None:
    db = open_db()
    for count in (1, 2, 7, 8, 9, 100, 127, 128, 129, 5000):
        db.clear()
        db.put_many((b"%d" % number, b"") for number in range(count))
        found = list(db)
        assert len(found) == count
        assert set(found) == {b"%d" % number for number in range(count)}


@pytest.mark.parametrize("index", ["hash"])
def test_unordered_scan_goes_on_through_growth_and_shrinking(open_db: OpenDB) -> None:
    db = filled(open_db, 2000)
    expected = set(db)
    for change in (
        lambda: db.put_many((b"more %d" % number, b"") for number in range(20_000)),
        lambda: db.delete_many([b"more %d" % number for number in range(20_000)]),
    ):
        iterator = iter(db)
        at_first = {next(iterator) for _ in range(500)}
        change()
        found = list(iterator)
        assert len(found) + len(at_first) == len(set(found) | at_first)
        assert expected <= set(found) | at_first
