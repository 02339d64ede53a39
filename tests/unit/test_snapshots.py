"""Snapshots: a read-only mapping of one moment that no later write, compaction or close of another can change."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, MutableMapping

import pytest

from flash_kv import DB, ClosedError, Snapshot
from support.stores import index_file_bytes

OpenDB = Callable[..., DB]
SMALL = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


@pytest.fixture
def db(open_db: OpenDB) -> DB:
    store = open_db(**SMALL)
    store.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    return store


def test_is_a_mapping_without_writes(db: DB) -> None:
    with db.snapshot() as snapshot:
        assert isinstance(snapshot, Mapping)
        assert not isinstance(snapshot, MutableMapping)
        assert snapshot[b"a"] == b"1"
        assert snapshot.get("b") == b"2"
        assert snapshot.get(b"x", b"none") == b"none"
        assert b"c" in snapshot
        assert b"x" not in snapshot
        assert len(snapshot) == 3
        assert sorted(snapshot) == [b"a", b"b", b"c"]
        assert snapshot == {b"a": b"1", b"b": b"2", b"c": b"3"}
        with pytest.raises(KeyError):
            snapshot[b"x"]


def test_sees_nothing_of_later_writes(db: DB) -> None:
    with db.snapshot() as snapshot:
        db[b"a"] = b"x"
        db[b"d"] = b"4"
        del db[b"b"]
        with db.batch() as batch:
            batch.delete(b"c")
            batch.put(b"e", b"5")
        expected = {b"a": b"1", b"b": b"2", b"c": b"3"}
        assert dict(snapshot.items()) == expected
        assert {key: snapshot.get(key) for key in (b"a", b"b", b"c", b"d", b"e")} == {
            **expected,
            b"d": None,
            b"e": None,
        }
        assert len(snapshot) == 3
        assert dict(db.items()) == {b"a": b"x", b"d": b"4", b"e": b"5"}


def test_sees_nothing_of_clear_and_delete_many(db: DB) -> None:
    with db.snapshot() as first:
        db.clear()
        with db.snapshot() as second:
            db.put_many({b"a": b"new"})
            assert len(first) == 3
            assert len(second) == 0
            assert list(second.items()) == []
            assert second.get(b"a") is None


def test_snapshot_of_an_empty_store_stays_empty(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    with db.snapshot() as snapshot:
        db.update({b"a": b"1"})
        db.compact()
        assert len(snapshot) == 0
        assert list(snapshot.items()) == []
        assert b"a" not in snapshot


@pytest.mark.parametrize("index", ["btree", "skiplist", "bptree"])
def test_views_take_bounds(db: DB) -> None:
    with db.snapshot() as snapshot:
        db.clear()
        assert list(snapshot.keys(start=b"b")) == [b"b", b"c"]
        assert list(snapshot.values(stop=b"b")) == [b"1"]
        assert list(snapshot.items(prefix=b"c")) == [(b"c", b"3")]
        assert list(snapshot.keys(reverse=True)) == [b"c", b"b", b"a"]
        assert snapshot.keys() == {b"a", b"b", b"c"}
        assert len(snapshot.keys(start=b"b")) == 2
        assert (b"a", b"1") in snapshot.items()
        assert (b"a", b"1") not in db.items()


def test_compaction_takes_nothing_from_a_snapshot(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    first = {b"%04d" % number: b"first" * 40 for number in range(1000)}
    db.put_many(first)
    with db.snapshot() as snapshot:
        for turn in range(3):
            db.put_many((key, b"turn %d" % turn) for key in first)
            db.delete_many(list(first)[::3])
            db.compact()
            assert dict(snapshot.items()) == first
            assert [snapshot[key] for key in first] == list(first.values())
        assert len(db) == 666
    assert dict(db.items()) == {key: b"turn 2" for number, key in enumerate(first) if number % 3}


def test_tombstone_that_was_compacted_away_still_hides_its_key(open_db: OpenDB) -> None:
    # The snapshot reads a tombstone in the middle of a version chain, whose first place compaction has given up.
    db = open_db(**SMALL)
    db[b"k"] = b"first"
    older = db.snapshot()
    del db[b"k"]
    db.compact()
    db[b"other"] = b""
    with db.snapshot() as snapshot:
        db[b"k"] = b"second"
        older.close()
        db.compact()
        assert snapshot.get(b"k") is None
        assert list(snapshot) == [b"other"]
    assert db[b"k"] == b"second"


def test_each_of_many_snapshots_keeps_its_own_moment(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    content: dict[bytes, bytes] = {}
    held: list[tuple[Snapshot, dict[bytes, bytes]]] = []
    for turn in range(60):
        for _ in range(20):
            key = b"%d" % rng.randrange(50)
            if rng.random() < 0.4:
                db.delete(key)
                content.pop(key, None)
            else:
                db[key] = content[key] = b"%d" % turn * rng.randrange(60)
        held.append((db.snapshot(), dict(content)))
        if turn % 7 == 0:
            db.compact()
        if len(held) > 12:
            held.pop(rng.randrange(len(held)))[0].close()
        for snapshot, moment in held:
            assert dict(snapshot.items()) == moment
            assert all(snapshot.get(b"%d" % key) == moment.get(b"%d" % key) for key in range(50))
    for snapshot, _ in held:
        snapshot.close()
    assert dict(db.items()) == content


def test_closing_lets_go_of_disk_space(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%04d" % number for number in range(2000)]
    db.put_many((name, b"v" * 400) for name in names)
    before = db.stats().disk_bytes - index_file_bytes(db)
    snapshot = db.snapshot()
    for name in names:
        del db[name]
    db.compact()
    assert db.stats().snapshots == 1
    snapshot.close()
    db.compact()
    after = db.stats()
    assert after.snapshots == 0
    assert after.disk_bytes - index_file_bytes(db) < before / 4
    assert len(db) == 0
    assert list(db) == []


def test_closed_snapshot_refuses_every_read(db: DB) -> None:
    snapshot = db.snapshot()
    iterator = iter(snapshot.items())
    next(iterator)
    assert not snapshot.closed
    snapshot.close()
    snapshot.close()
    assert snapshot.closed
    uses: list[Callable[[], object]] = [
        lambda: snapshot[b"a"],
        lambda: snapshot.get(b"a"),
        lambda: b"a" in snapshot,
        lambda: len(snapshot),
        lambda: list(snapshot),
        lambda: list(snapshot.items()),
        lambda: next(iterator),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="snapshot"):
            use()


def test_closing_the_store_ends_its_snapshots(db: DB) -> None:
    snapshot = db.snapshot()
    db.close()
    with pytest.raises(ClosedError):
        snapshot.get(b"a")
    with pytest.raises(ClosedError):
        list(snapshot)
    snapshot.close()
    with pytest.raises(ClosedError):
        db.snapshot()


def test_dropped_snapshot_is_let_go(db: DB) -> None:
    snapshot = db.snapshot()
    assert db.stats().snapshots == 1
    del snapshot
    assert db.stats().snapshots == 0


def test_sequence_and_store_are_told(db: DB) -> None:
    with db.snapshot() as snapshot:
        assert snapshot.sequence == db.stats().lsn
        assert snapshot.db is db
        assert str(db.path) in repr(snapshot)
        assert str(snapshot.sequence) in repr(snapshot)
    assert "closed" in repr(snapshot)


def test_open_is_no_slower_in_a_large_store(open_db: OpenDB) -> None:
    small, large = open_db("small"), open_db("large")
    small[b"k"] = b""
    large.put_many((b"%d" % number, b"") for number in range(50_000))

    def best_of(store: DB) -> float:
        times = []
        for _ in range(50):
            started = time.perf_counter()
            store.snapshot().close()
            times.append(time.perf_counter() - started)
        return min(times)

    assert best_of(large) < 20 * best_of(small) + 1e-4


def test_values_of_a_snapshot_survive_its_end(db: DB) -> None:
    db[b"large"] = b"v" * 200_000
    with db.snapshot() as snapshot:
        value = snapshot[b"large"]
        db[b"large"] = b""
        db.compact()
    db.close()
    assert value == b"v" * 200_000
