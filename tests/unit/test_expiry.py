"""Values with attributes: expiry and meta, in every way to read them; and the deleting of what has expired."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flash_kv
from flash_kv import DB, CorruptionError, Record, ValueSizeError
from flash_kv.engine import records_cy
from flash_kv.engine.expiry import FIRST_PASS_S, JUMP_MS, Sweeper
from flash_kv.io import clock_cy
from flash_kv.io.clock_cy import shift_clock
from support.processes import Report, run_forked
from support.waiting import wait_until

OpenDB = Callable[..., DB]
SIZES = (0, 1, 100, 5_000, 70_000)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    yield
    shift_clock(0)


def later(seconds: float) -> None:
    """Let the engine's clock be so far ahead."""
    shift_clock(int(seconds * 1000))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("align", [1, 64])
def test_a_value_is_gone_from_every_read_once_its_time_is_up(open_db: OpenDB, size: int, align: int) -> None:
    db = open_db(align=align)
    value = os.urandom(size)
    db.put_record(b"mortal", value, ttl_s=60, meta=b"text/plain")
    db.put_record(b"other", value, meta=b"m")
    db[b"plain"] = value
    for is_there in (True, False):
        later(0 if is_there else 61)
        kept = {b"other": value, b"plain": value} | ({b"mortal": value} if is_there else {})
        assert db.get(b"mortal") == (value if is_there else None)
        assert (b"mortal" in db) is is_there
        assert db.contains_many([b"mortal", b"other"]) == [is_there, True]
        assert db.get_many([b"mortal", b"other"]) == [value if is_there else None, value]
        viewed = db.view(b"mortal")
        assert (None if viewed is None else bytes(viewed)) == (value if is_there else None)
        assert (db.get_record(b"mortal") is not None) is is_there
        assert dict(db) == kept
        assert {key: bytes(found) for key, found in db.items(view=True)} == kept
        assert sorted(db.keys()) == sorted(kept)
        assert {key: record.value for key, record in db.records()} == kept
        with db.snapshot() as snapshot:
            assert (b"mortal" in snapshot) is is_there
            assert dict(snapshot) == kept


def test_a_record_tells_what_was_stored_with_it(open_db: OpenDB) -> None:
    db = open_db()
    lsn = db.put_record(b"a", b"value", expires_at=4_000_000_000.125, meta=b"\x00\xff" * 2048)
    assert db.get_record(b"a") == Record(b"value", lsn, 4_000_000_000.125, b"\x00\xff" * 2048)
    viewed = db.get_record(b"a", view=True)
    assert viewed is not None
    assert isinstance(viewed.value, memoryview)
    assert bytes(viewed.value) == b"value"
    db[b"a"] = b"plain"
    assert db.get_record(b"a") == Record(b"plain", lsn + 1, None, b"")
    assert db.get_record(b"b") is None
    assert list(db.records()) == [(b"a", Record(b"plain", lsn + 1, None, b""))]
    viewed.value.release()


def test_attributes_survive_compaction_backup_repair_and_reopening(open_db: OpenDB, tmp_path: Path) -> None:
    db = open_db(align=8)
    with db.batch() as batch:
        for number in range(100):
            batch.put_record(b"%03d" % number, b"v" * number, expires_at=4e9 + number, meta=b"%d" % number)
        batch.put(b"plain", b"p")
    db.delete_many([b"%03d" % number for number in range(0, 100, 2)])
    db.compact()
    wanted = list(db.records())
    assert len(wanted) == 51
    db.backup(tmp_path / "copy")
    assert db.verify().damages == ()
    db.close()
    flash_kv.repair(tmp_path / "db", tmp_path / "repaired")
    with open_db() as db:
        assert sorted(db.records()) == sorted(wanted)
    with open_db("copy") as db:
        assert sorted(db.records()) == sorted(wanted)
    with open_db("repaired") as db:
        assert [(key, record._replace(lsn=0)) for key, record in sorted(db.records())] == sorted(
            (key, record._replace(lsn=0)) for key, record in wanted
        )


def test_attributes_survive_a_kill(open_db: OpenDB, tmp_path: Path, index: str, io: str) -> None:
    def body(report: Report) -> None:
        db = flash_kv.open(tmp_path / "db", index=index, io=io)
        db.put_record(b"a", b"1", ttl_s=1000, meta=b"m")
        db.put_record(b"b", b"2", ttl_s=10)
        report(b"done")
        os._exit(0)

    messages, _ = run_forked(body)
    assert messages == [b"done"]
    with open_db() as db:
        later(500)
        assert [(key, record.value, record.meta) for key, record in db.records()] == [(b"a", b"1", b"m")]
        assert b"b" not in db


def test_a_snapshot_judges_by_its_own_moment(open_db: OpenDB) -> None:
    db = open_db()
    db.put_record(b"a", b"1", ttl_s=60)
    with db.snapshot() as snapshot:
        items = iter(db.items())
        later(61)
        assert b"a" not in db
        assert snapshot[b"a"] == b"1"
        assert list(snapshot) == [b"a"]
        assert next(items) == (b"a", b"1")
        assert db.remove_expired() == 1
        assert snapshot[b"a"] == b"1"
    assert b"a" not in db


def test_an_expired_key_counts_as_absent_for_writers_too(open_db: OpenDB) -> None:
    db = open_db()
    keys = [b"a", b"b", b"c", b"d", b"e"]
    for key in keys:
        db.put_record(key, b"old", ttl_s=60)
    later(61)
    assert db.delete(b"a") is False
    assert db.pop(b"b", b"default") == b"default"
    assert db.setdefault(b"c", b"new") == b"new"
    assert db.put_record(b"d", b"new", if_lsn=0) == db.last_lsn
    assert db.delete_many([b"a", b"c", b"e"]) == 1
    with pytest.raises(KeyError):
        del db[b"b"]
    assert dict(db) == {b"d": b"new"}


def test_len_counts_what_has_expired_until_it_is_removed(open_db: OpenDB) -> None:
    db = open_db()
    db.put_many({b"%d" % number: b"v" for number in range(1000)})
    with db.batch() as batch:
        for number in range(1000):
            batch.put_record(b"mortal%d" % number, b"v", ttl_s=60 if number % 2 else 6000)
    later(61)
    assert (len(db), len(list(db))) == (2000, 1500)
    assert db.remove_expired() == 500
    assert (len(db), len(list(db))) == (1500, 1500)
    assert db.remove_expired() == 0
    shift_clock(0)
    assert b"mortal1" not in db
    db.close()
    with open_db() as db:
        assert len(db) == 1500


def test_the_space_of_what_expired_comes_back(open_db: OpenDB) -> None:
    db = open_db(segment_bytes_max=65536, compaction="off")
    for number in range(400):
        db.put_record(b"%d" % number, b"v" * 1000, ttl_s=60)
    before = db.stats().disk_bytes
    later(61)
    db.remove_expired()
    db.compact()
    # The background thread may be reading a segment for its hint file until then.
    wait_until(lambda: db.stats().disk_bytes < before - 200_000)
    assert list(db) == []


def test_the_background_removes_what_has_expired(open_db: OpenDB) -> None:
    db = open_db(compaction_interval_s=0.05)
    sweeper = db._sweeper
    assert db.remove_expired() == 0
    db.put_record(b"a", b"v", ttl_s=60)
    db.put_record(b"b", b"v", ttl_s=600)
    sweeper._not_before_s = 0.0
    later(30)
    assert not sweeper.is_due()
    # A leap of the clock is not believed at once.
    later(30 + 2 * JUMP_MS / 1000)
    assert not sweeper.is_due()
    sweeper._not_before_s = 0.0
    assert sweeper.is_due()
    db._maintain(False, False)
    assert len(db) == 1
    # Nothing is due before the next one expires.
    sweeper._not_before_s = 0.0
    assert not sweeper.is_due()
    assert sweeper._due_ms is not None
    assert sweeper._due_ms > clock_cy.time_ms()


def test_what_batches_store_is_looked_for_too(open_db: OpenDB) -> None:
    db = open_db()
    assert db.remove_expired() == 0
    assert db._sweeper._due_ms is None
    with db.batch() as batch:
        batch.put_record(b"a", b"v", meta=b"m")
    assert db._sweeper._due_ms is None
    with db.batch() as batch:
        for seconds in (4e9, 3e9, 5e9):
            batch.put_record(b"%d" % seconds, b"v", expires_at=seconds)
    assert db._sweeper._due_ms == 3_000_000_000_000


def test_a_store_just_opened_waits_with_its_first_pass() -> None:
    sweeper = Sweeper()
    assert not sweeper.is_due()
    sweeper._not_before_s -= FIRST_PASS_S
    assert sweeper.is_due()


def test_what_was_written_again_meanwhile_is_not_removed(open_db: OpenDB) -> None:
    db = open_db()
    for key in (b"a", b"b", b"c"):
        db.put_record(key, b"old", ttl_s=60)
    later(61)
    # The pass looks a second time under the lock.
    assert not db._remove_if_expired(b"zzz")
    db.put(b"b", b"new")
    db.put(b"c", b"new")
    assert not db._remove_if_expired(b"b")
    assert db.remove_expired() == 1
    assert dict(db) == {b"b": b"new", b"c": b"new"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"ttl_s": 0}, "ttl_s must be"),
        ({"ttl_s": -1.5}, "ttl_s must be"),
        ({"ttl_s": float("nan")}, "ttl_s must be"),
        ({"ttl_s": float("inf")}, "ttl_s must be"),
        ({"expires_at": -1}, "expires_at must be"),
        ({"expires_at": 1e18}, "year 10,000"),
        ({"ttl_s": 1, "expires_at": 1}, "not both"),
        ({"meta": b"x" * 4097}, "over the limit of 4096"),
    ],
)
def test_what_cannot_be_kept_is_refused(open_db: OpenDB, arguments: dict[str, object], text: str) -> None:
    db = open_db()
    with pytest.raises(ValueError, match=text):
        db.put_record(b"k", b"v", **arguments)  # type: ignore[arg-type]
    batch = db.batch()
    with pytest.raises(ValueError, match=text):
        batch.put_record(b"k", b"v", **arguments)  # type: ignore[arg-type]
    batch.discard()
    assert list(db) == []


@pytest.mark.parametrize("head", [(15, 0, 0), (18, 0, 0), (16, 1, 0), (16, 0, 1), (4113, 0, 0)])
def test_attributes_that_cannot_be_are_damage_to_every_read_whatever_their_checksum(
    open_db: OpenDB, head: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db()
    bad = struct.pack("<HHIQ", *head, 0) + bytes(max(head[0] - 17, 0))
    monkeypatch.setattr(records_cy, "attributes_of", lambda *_: bad)
    db.put_record(b"key", b"", ttl_s=60)
    monkeypatch.undo()
    reads: list[Callable[[bytes], object]] = [
        db.get,
        db.view,
        db.get_record,
        db.__contains__,
        lambda key: db.get_many([key]),
        lambda key: list(db.items(start=None)),
        lambda key: list(db.records()),
        lambda key: list(db.items(view=True)),
        lambda key: db.put_record(key, b"v", if_lsn=1),
    ]
    for read in reads:
        with pytest.raises(CorruptionError):
            read(b"key")
    assert [damage.reason for damage in db.verify().damages] == ["impossible attributes of a value"]
    with pytest.raises(CorruptionError):
        db.close()


def test_value_and_attributes_together_are_held_to_the_limit(open_db: OpenDB) -> None:
    db = open_db()
    # Of pages that are never touched.
    with mmap.mmap(-1, 2**32 - 131072) as memory, pytest.raises(ValueSizeError):
        db.put_record(b"k", memory, meta=b"m")
    assert list(db) == []


def test_a_batch_reads_its_own_values_without_their_attributes(open_db: OpenDB) -> None:
    db = open_db()
    with db.batch() as batch:
        batch.put_record(b"a", b"value", ttl_s=60, meta=b"meta")
        assert batch[b"a"] == b"value"
    assert db[b"a"] == b"value"
