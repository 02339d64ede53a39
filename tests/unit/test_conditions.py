"""Writes that depend on the LSN a key has: compare and swap, create only, batches with conditions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from flash_kv import DB, ConflictError
from support.threads import call_together

OpenDB = Callable[..., DB]


def test_every_write_has_an_lsn_of_its_own_and_they_rise(open_db: OpenDB) -> None:
    db = open_db()
    lsns = [db.put_record(b"a", b"1"), db.put_record(b"b", b"2"), db.put_record(b"a", b"3")]
    deleted = db.delete_record(b"b")
    assert deleted is not None
    assert sorted({*lsns, deleted}) == [*lsns, deleted]
    assert db.last_lsn == deleted
    found = db.get_record(b"a")
    assert found is not None
    assert (found.value, found.lsn) == (b"3", lsns[2])


def test_an_lsn_stays_through_compaction_and_reopening(open_db: OpenDB) -> None:
    db = open_db()
    db.put_record(b"dead", b"x")
    lsn = db.put_record(b"kept", b"v")
    db.delete(b"dead")
    db.compact()
    assert db.get_record(b"kept").lsn == lsn  # type: ignore[union-attr]
    last = db.last_lsn
    db.close()
    with open_db() as db:
        assert db.get_record(b"kept").lsn == lsn  # type: ignore[union-attr]
        assert db.last_lsn == last


def test_a_write_goes_through_only_while_the_key_has_the_lsn_it_names(open_db: OpenDB) -> None:
    db = open_db()
    first = db.put_record(b"k", b"1", if_lsn=0)
    with pytest.raises(ConflictError, match="was to be absent but has LSN 1") as caught:
        db.put_record(b"k", b"2", if_lsn=0)
    assert (caught.value.key, caught.value.if_lsn, caught.value.lsn) == (b"k", 0, first)
    second = db.put_record(b"k", b"2", if_lsn=first)
    with pytest.raises(ConflictError):
        db.put_record(b"k", b"3", if_lsn=first)
    third = db.put_record(b"k", b"3", if_lsn=-1)
    assert second < third
    with pytest.raises(ConflictError):
        db.delete_record(b"k", if_lsn=second)
    assert db[b"k"] == b"3"
    assert db.delete_record(b"k", if_lsn=third) == third + 1
    with pytest.raises(ConflictError, match="was to be there but is absent"):
        db.put_record(b"k", b"4", if_lsn=-1)
    with pytest.raises(ConflictError):
        db.delete_record(b"k", if_lsn=third)
    assert db.delete_record(b"k", if_lsn=0) is None
    assert db.delete_record(b"k") is None
    assert db.last_lsn == third + 1


@pytest.mark.parametrize("lsn", [-2, 2**64 - 1, 1.5, "1", True])
def test_what_is_no_lsn_is_refused(open_db: OpenDB, lsn: object) -> None:
    db = open_db()
    with pytest.raises(ValueError, match="an LSN to compare with is a positive int"):
        db.put_record(b"k", b"v", if_lsn=lsn)  # type: ignore[arg-type]
    assert b"k" not in db


def test_conditions_hold_in_the_sight_of_snapshots(open_db: OpenDB) -> None:
    db = open_db()
    lsn = db.put_record(b"k", b"1")
    with db.snapshot() as snapshot:
        newer = db.put_record(b"k", b"2", if_lsn=lsn)
        with pytest.raises(ConflictError):
            db.put_record(b"k", b"3", if_lsn=lsn)
        db.delete_record(b"k", if_lsn=newer)
        db.put_record(b"k", b"4", if_lsn=0)
        assert snapshot[b"k"] == b"1"
    assert db[b"k"] == b"4"


def test_a_batch_is_written_only_if_all_its_conditions_hold(open_db: OpenDB) -> None:
    db = open_db()
    a, b = db.put_record(b"a", b"1"), db.put_record(b"b", b"1")
    batch = db.batch()
    batch.put(b"c", b"new")
    batch.delete(b"a")
    batch.require(b"a", a)
    batch.require(b"b", a)
    batch.require(b"c", 0)
    before = db.last_lsn
    with pytest.raises(ConflictError) as caught:
        batch.commit()
    assert (caught.value.key, caught.value.lsn) == (b"b", b)
    assert db.last_lsn == before
    assert dict(db) == {b"a": b"1", b"b": b"1"}
    # It stays open: what was in the way may go.
    db.delete(b"b")
    db.put_record(b"b", b"x")
    batch.discard()
    with db.batch() as batch:
        batch.put(b"c", b"new")
        batch.delete(b"a")
        batch.require(b"a", a)
    assert list(batch.lsns) == [db.last_lsn - 1, db.last_lsn]
    assert dict(db) == {b"b": b"x", b"c": b"new"}


def test_a_batch_of_conditions_alone_tells_whether_they_hold(open_db: OpenDB) -> None:
    db = open_db()
    lsn = db.put_record(b"a", b"1")
    with db.batch() as batch:
        batch.require(b"a", lsn)
        batch.require(b"b", 0)
    assert list(batch.lsns) == []
    batch = db.batch()
    batch.require("a", 0)
    with pytest.raises(ConflictError):
        batch.commit()
    batch.discard()
    assert db.last_lsn == lsn


def test_conditions_of_a_batch_do_not_leak_into_the_next(open_db: OpenDB) -> None:
    db = open_db()
    with db.batch() as batch:
        batch.put(b"a", b"1")
        for number in range(100):
            batch.require(b"%d" % number, 0)
    db.put(b"5", b"x")
    db.put_many({b"b": b"2"})
    with db.batch() as batch:
        batch.put(b"a", b"2")
    assert db[b"a"] == b"2"


def test_threads_that_count_up_by_compare_and_swap_lose_no_step(open_db: OpenDB) -> None:
    db = open_db()
    db.put_record(b"n", b"0")
    conflicts = []

    def count() -> None:
        for _ in range(200):
            while True:
                found = db.get_record(b"n")
                assert found is not None
                try:
                    db.put_record(b"n", b"%d" % (int(bytes(found.value)) + 1), if_lsn=found.lsn)
                except ConflictError:
                    conflicts.append(threading.get_ident())
                else:
                    break

    call_together(*[count] * 4)
    assert db[b"n"] == b"800"


def test_only_one_of_many_creates(open_db: OpenDB) -> None:
    db = open_db()
    won: list[int] = []

    def create(number: int) -> None:
        for key in range(100):
            try:
                db.put_record(b"%d" % key, b"%d" % number, if_lsn=0)
            except ConflictError:
                continue
            won.append(key)

    call_together(*(partial(create, number) for number in range(4)))
    assert sorted(won) == list(range(100))
