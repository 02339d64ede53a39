"""`stats()`: always what a recount gives, and gathered without one."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from flash_kv import DB, ClosedError, FlashKVError, Options, Stats
from flash_kv.io.system import System

OpenDB = Callable[..., DB]
SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}
SEGMENT_HEADER_BYTES = 64


def record_bytes(key: bytes, value: bytes = b"") -> int:
    return (24 + len(key) + len(value) + 7) // 8 * 8


def recounted_live_bytes(db: DB) -> int:
    return sum(record_bytes(key, value) for key, value in db.items())


def test_new_store_is_empty(open_db: OpenDB, index: str) -> None:
    db = open_db(**SMALL)
    stats = db.stats()
    assert isinstance(stats, Stats)
    assert stats.path == db.path
    assert stats.index == index
    assert (stats.keys, stats.segments, stats.live_bytes, stats.dead_bytes, stats.dead_ratio) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert (stats.lsn, stats.synced_lsn, stats.syncs, stats.snapshots) == (0, 0, 0, 0)
    assert stats.last_compaction is None
    assert stats.recovery.was_clean
    assert not stats.is_poisoned


def test_each_kind_of_write_is_accounted_for(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db[b"a"] = b"1" * 100
    one = record_bytes(b"a", b"1" * 100)
    assert (db.stats().live_bytes, db.stats().dead_bytes) == (one, 0)
    db[b"a"] = b"2" * 50
    two = record_bytes(b"a", b"2" * 50)
    assert (db.stats().live_bytes, db.stats().dead_bytes) == (two, one)
    db[b"b"] = b""
    assert db.stats().live_bytes == two + record_bytes(b"b")
    del db[b"a"]
    stats = db.stats()
    assert stats.live_bytes == record_bytes(b"b")
    assert stats.dead_bytes >= one + two
    assert stats.keys == 1
    assert stats.lsn == 4
    assert stats.dead_ratio == pytest.approx(stats.dead_bytes / (stats.dead_bytes + stats.live_bytes))


@pytest.mark.parametrize("with_snapshots", [False, True])
def test_live_bytes_equal_a_recount_after_anything(
    open_db: OpenDB, rng: random.Random, with_snapshots: bool
) -> None:
    db = open_db(**SMALL)
    held = []
    for turn in range(40):
        for _ in range(60):
            key = b"%d" % rng.randrange(200)
            rng.choice(
                [
                    lambda db, key: db.put(key, bytes(rng.randrange(600))),
                    lambda db, key: db.delete(key),
                    lambda db, key: db.setdefault(key, b"default"),
                    lambda db, key: db.put_many([(key, b"1"), (key, b"2"), (b"other", key)]),
                    lambda db, key: db.delete_many([key, key, b"other"]),
                ]
            )(db, key)
        if with_snapshots:
            held.append(db.snapshot())
            if len(held) > 3:
                held.pop(rng.randrange(3)).close()
        if turn % 9 == 8:
            db.compact()
        if turn % 13 == 12 and not with_snapshots:
            db.close()
            db = open_db(**SMALL)
        stats = db.stats()
        assert stats.live_bytes == recounted_live_bytes(db)
        assert stats.keys == len(db) == len(list(db))
        assert sum(one.bytes for one in stats.segment_stats) >= stats.live_bytes + stats.dead_bytes
        assert sum(one.dead_bytes for one in stats.segment_stats) == stats.dead_bytes
        assert min((one.dead_bytes for one in stats.segment_stats), default=0) >= 0
    for snapshot in held:
        snapshot.close()
    db.compact()
    db.compact()
    stats = db.stats()
    assert stats.live_bytes == recounted_live_bytes(db)
    assert stats.dead_bytes == 0


def test_counts_are_the_same_after_a_reopen(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(3000):
        db[b"%d" % (number % 700)] = bytes(number % 300)
        if number % 5 == 0:
            db.delete(b"%d" % (number % 311))
    before = db.stats()
    db.close()
    after = open_db(**SMALL).stats()
    assert (after.keys, after.live_bytes, after.dead_bytes, after.lsn) == (
        before.keys,
        before.live_bytes,
        before.dead_bytes,
        before.lsn,
    )
    assert after.recovery.was_clean
    assert after.recovery.segments_scanned == 0
    assert after.recovery.segments_from_hints + after.recovery.segments_from_index == after.segments


def test_disk_bytes_are_what_the_directory_takes(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(2000):
        db[b"%d" % number] = bytes(100)
    db.close()
    db = open_db(**SMALL)
    assert db.stats().disk_bytes == sum(path.stat().st_blocks * 512 for path in db.path.iterdir())


def test_segments_are_listed_each(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(1500):
        db[b"%d" % (number % 500)] = bytes(200)
    db.close()
    db = open_db(**SMALL)
    stats = db.stats()
    assert stats.segments == len(stats.segment_stats) == len(list(db.path.glob("*.seg")))
    for one in stats.segment_stats:
        assert one.is_sealed
        assert one.bytes + SEGMENT_HEADER_BYTES == (db.path / f"{one.segment_id:010d}.seg").stat().st_size
        assert one.dead_ratio == pytest.approx(one.dead_bytes / one.bytes)


def test_index_bytes_grow_with_the_keys_not_with_the_values(open_db: OpenDB) -> None:
    db = open_db()
    empty = db.stats().index_bytes
    db.put_many((b"%d" % number, bytes(100)) for number in range(20_000))
    per_key = (db.stats().index_bytes - empty) / 20_000
    assert 8 < per_key < 40
    grown = db.stats().index_bytes
    db.put_many((b"%d" % number, bytes(1000)) for number in range(20_000))
    assert db.stats().index_bytes == pytest.approx(grown, rel=0.05, abs=100_000)


def test_takes_no_longer_with_many_keys(open_db: OpenDB) -> None:
    small, large = open_db("small"), open_db("large")
    small[b"k"] = b""
    large.put_many((b"%d" % number, b"") for number in range(100_000))

    def best_of(store: DB) -> float:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            store.stats()
            times.append(time.perf_counter() - started)
        return min(times)

    assert best_of(large) < 5 * best_of(small) + 1e-3


def test_file_that_vanishes_meanwhile_does_not_count(tmp_path: Any, index: str, io: str) -> None:
    class Vanishing(System):
        def list_directory(self, path: Any) -> list[str]:
            return [*super().list_directory(path), "tmp-0000000001.hint"]

    options = Options.from_kwargs(index=index, io=io, **SMALL)
    with DB(tmp_path / "db", options) as db:
        db[b"a"] = b"1"
    with DB(
        tmp_path / "db", Options.from_kwargs(index=index, io=io, read_only=True), system=Vanishing()
    ) as db:
        assert db.stats().disk_bytes > 0


def test_as_dict_can_be_written_as_json(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db[b"a"] = b"1"
    db.compact()
    text = json.dumps(db.stats().as_dict())
    assert json.loads(text)["keys"] == 1
    assert json.loads(text)["path"] == str(db.path)


def test_stats_of_a_closed_store_are_refused(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.close()
    with pytest.raises(ClosedError) as caught:
        db.stats()
    assert isinstance(caught.value, FlashKVError)
