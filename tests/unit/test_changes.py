"""The changes of a store, read back out of its log: each once, in order, or a word that they are lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, Change, ChangesLostError, ClosedError, CorruptionError, Options, PoisonedError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.io.system import System
from support.damage import flip, segments
from support.processes import forked
from support.stores import settle

OpenDB = Callable[..., DB]
# What is read is the log, which does not know of the index.
pytestmark = pytest.mark.parametrize("index", ["btree"])
SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


def put(lsn: int, key: bytes, value: bytes) -> Change:
    return Change(lsn, key, value, False, len(value))


def delete(lsn: int, key: bytes) -> Change:
    return Change(lsn, key, None, True, 0)


def work(db: DB, rng: random.Random, count: int) -> list[Change]:
    """Puts, deletes and batches, and what a reader of the changes has to see of them."""
    done: list[Change] = []
    lsn = db.last_lsn
    for _ in range(count):
        batch: list[tuple[bytes, bytes | None]] = []
        for _ in range(rng.choice([1, 1, 1, 2, 30])):
            key = b"key %d" % rng.randrange(50)
            batch.append((key, None if rng.random() < 0.3 else rng.randbytes(rng.choice([0, 10, 300, 3000]))))
        if len(batch) == 1:
            key, value = batch[0]
            if value is None and db.delete(key):
                lsn += 1
                done.append(delete(lsn, key))
            elif value is not None:
                db.put(key, value)
                lsn += 1
                done.append(put(lsn, key, value))
            continue
        # With a put in it, or it would leave out deletes of what is absent.
        batch.append((b"last", b""))
        with db.batch() as open_batch:
            for key, value in batch:
                if value is None:
                    open_batch.delete(key)
                else:
                    open_batch.put(key, value)
        for key, value in batch:
            lsn += 1
            done.append(delete(lsn, key) if value is None else put(lsn, key, value))
    return done


def test_a_new_store_has_no_changes(open_db: OpenDB) -> None:
    db = open_db()
    assert db.last_lsn == 0
    assert list(db.changes()) == []


def test_all_changes_come_in_their_order(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    done = work(db, rng, 500)
    assert db.stats().segments > 3
    changes = db.changes()
    assert list(changes) == done
    assert changes.lsn == db.last_lsn == done[-1].lsn


def test_a_reader_goes_on_where_it_was(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    changes = db.changes()
    for count in (1, 0, 5, 200, 1):
        done = work(db, rng, count)
        assert list(changes) == done
        settle(db)


def test_any_lsn_can_be_resumed_from(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    done = work(db, rng, 60)
    for since in range(len(done) + 1):
        assert list(db.changes(since)) == done[since:]


def test_a_reopened_store_has_the_same_changes(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL)
    done = work(db, rng, 200)
    db.close()
    db = open_db(**SMALL)
    done += work(db, rng, 20)
    assert list(db.changes()) == done
    db.close()
    assert list(open_db(read_only=True).changes(7)) == done[7:]


def test_a_batch_is_read_whole(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db[b"before"] = b""
    db.update({b"%d" % number: bytes(100) for number in range(300)})
    db[b"after"] = b""
    changes = db.changes()
    assert [len(changes.read(records_max=1)) for _ in range(4)] == [1, 300, 1, 0]
    assert len(db.changes(1).read(bytes_max=1)) == 300
    assert [change.lsn for change in db.changes(100).read(records_max=1)] == list(range(101, 302))


def test_a_piece_ends_at_its_limits(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(100):
        db[b"%d" % number] = bytes(1000)
    assert len(db.changes().read(records_max=7)) == 7
    assert len(db.changes().read(bytes_max=10_000)) == 10


def test_large_values_are_left_out(open_db: OpenDB) -> None:
    db = open_db(segment_bytes_max=2**20)
    sizes = [0, 100, 101, 70_000, 200_000]
    for size in sizes:
        db[b"%d" % size] = bytes(size)
    found = list(db.changes(value_bytes_max=100))
    assert [change.value_size for change in found] == sizes
    assert [change.value for change in found] == [b"", bytes(100), None, None, None]
    assert [change.value for change in db.changes()] == [bytes(size) for size in sizes]


def test_what_compaction_removed_is_lost(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(2000):
        db[b"%d" % (number % 10)] = bytes(100)
    db.compact()
    with pytest.raises(ChangesLostError) as caught:
        list(db.changes(100))
    assert caught.value.since == 100
    assert caught.value.oldest_lsn == db.last_lsn
    db[b"new"] = b"1"
    assert list(db.changes(caught.value.oldest_lsn)) == [put(2001, b"new", b"1")]


def test_the_oldest_lsn_can_be_resumed_from(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(1000):
        db[b"%d" % (number % 10)] = bytes(100)
    db.compact()
    for number in range(1000):
        db[b"%d" % number] = bytes(100)
    with pytest.raises(ChangesLostError) as caught:
        db.changes(5).read()
    assert caught.value.oldest_lsn == 1000
    assert len(list(db.changes(1000))) == 1000


def test_a_reader_hears_of_what_it_missed_in_the_middle(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(2000):
        db[b"%d" % (number % 10)] = bytes(100)
    changes = db.changes()
    assert len(changes.read(records_max=50)) == 50
    db.compact()
    with pytest.raises(ChangesLostError) as caught:
        changes.read()
    assert caught.value.since == 50


def test_merged_segments_without_a_dead_record_have_all_changes(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    done = []
    for number in range(9):
        db[b"%d" % number] = bytes(500)
        done.append(put(number + 1, b"%d" % number, bytes(500)))
        settle(db)
    db._options = db.options.__class__.from_kwargs(
        **{**SMALL, "index": "btree", "io": db.options.io, "compaction_segment_bytes_min": 65536}
    )
    assert db._compactor.run_policy() is not None
    assert {segment.origin for segment in db._segments.sealed()} == {"compaction"}
    assert list(db.changes()) == done


def test_what_is_left_of_the_history_is_read_while_a_snapshot_keeps_it(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    for number in range(2000):
        db[b"%d" % (number % 10)] = bytes(100)
    with db.snapshot():
        db.compact()
        assert len(list(db.changes())) == 2000
    db._segments.release_retired()
    with pytest.raises(ChangesLostError):
        db.changes().read()


def test_a_store_that_has_not_come_so_far_is_told(open_db: OpenDB) -> None:
    db = open_db()
    db[b"a"] = b"1"
    with pytest.raises(ChangesLostError) as caught:
        db.changes(2)
    assert caught.value.is_ahead
    assert caught.value.oldest_lsn == 1
    with pytest.raises(ValueError, match="since -1"):
        db.changes(-1)


def test_a_damaged_record_is_no_change(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db(**SMALL)
    for number in range(10):
        db[b"%d" % number] = b"value"
    db.close()
    flip(segments(tmp_path / "db")[0], 64 + 5 * 32 + 25)
    db = open_db(**SMALL)
    changes = db.changes()
    with pytest.raises(CorruptionError) as caught:
        changes.read()
    assert caught.value.offset == 64 + 5 * 32
    assert len(list(db.changes(6))) == 4


def test_a_damaged_header_ends_the_reading(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db(**SMALL)
    for number in range(10):
        db[b"%d" % number] = b"value"
    db.close()
    flip(segments(tmp_path / "db")[0], 64 + 5 * 32 + 14, mask=0xFF)
    db = open_db(**SMALL)
    with pytest.raises(CorruptionError):
        list(db.changes())
    with pytest.raises(CorruptionError):
        list(db.changes(7))


def test_a_closed_store_has_no_changes(open_db: OpenDB) -> None:
    db = open_db()
    changes = db.changes()
    db.close()
    with pytest.raises(ClosedError):
        changes.read()
    with pytest.raises(ClosedError):
        db.changes()


@pytest.fixture
def opened(tmp_path: Path, index: str, io: str) -> Iterator[Callable[[System], DB]]:
    stores: list[DB] = []

    def open_one(system: System) -> DB:
        options = Options.from_kwargs(index=index, io=io, reserve_bytes=0, compaction="off")
        stores.append(DB(tmp_path / "db", options, system=system))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_withdrawn_commit_is_passed_over(
    opened: Callable[[System], DB], open_db: OpenDB, count: int
) -> None:
    system = FaultySystem()
    db = opened(system)
    db[b"before"] = b"1"
    system.add(Fault("sync_data"))
    with pytest.raises(PoisonedError), db.batch(durability="always") as batch:
        for number in range(count):
            batch.put(b"%d" % number, b"")
    assert list(db.changes()) == [put(1, b"before", b"1")]
    assert list(db.changes(1)) == []
    db.close()
    again = open_db(compaction="off")
    again[b"after"] = b"2"
    after = put(2 + count, b"after", b"2")
    assert list(again.changes()) == [put(1, b"before", b"1"), after]
    for since in range(1, 2 + count):
        assert list(again.changes(since)) == [after]


def test_the_changes_survive_a_kill(open_db: OpenDB, tmp_path: Path, io: str) -> None:
    path = tmp_path / "db"

    def child(report: Callable[[bytes], None]) -> None:
        db = flash_kv.open(path, index="btree", io=io, **SMALL)  # type: ignore[arg-type]
        changes = db.changes()
        for number in range(100_000):
            db.update({b"%d" % number: b"a", b"same": b"%d" % number})
            for change in changes:
                report(b"%d %s" % (change.lsn, change.key))

    with forked(child) as process:
        seen = []
        for message in process.messages():
            seen.append(message)
            if len(seen) == 200:
                process.kill()
    changes = [b"%d %s" % (change.lsn, change.key) for change in open_db(**SMALL).changes()]
    assert changes[: len(seen)] == seen
    assert os.path.exists(path)
