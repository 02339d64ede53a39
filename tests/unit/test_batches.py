"""Write batches: committed on success, discarded on an exception, reading their own writes, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, BatchStateError, ClosedError, KeySizeError, OptionsError, ReadOnlyError

OpenDB = Callable[..., DB]


@pytest.fixture
def db(open_db: OpenDB) -> DB:
    store = open_db()
    store.update({b"a": b"1", b"b": b"2"})
    return store


def test_nothing_is_seen_before_the_commit_and_all_after(db: DB) -> None:
    with db.batch() as batch:
        batch.put(b"a", b"x")
        batch.put(b"c", b"3")
        batch.delete(b"b")
        assert dict(db.items()) == {b"a": b"1", b"b": b"2"}
    assert dict(db.items()) == {b"a": b"x", b"c": b"3"}


def test_exception_discards_and_passes_on(db: DB) -> None:
    with pytest.raises(ZeroDivisionError), db.batch() as batch:
        batch.put(b"c", b"3")
        raise ZeroDivisionError
    assert b"c" not in db
    with pytest.raises(BatchStateError):
        batch.commit()


def test_keyboard_interrupt_discards_too(db: DB) -> None:
    with pytest.raises(KeyboardInterrupt), db.batch() as batch:
        batch.delete(b"a")
        raise KeyboardInterrupt
    assert b"a" in db


def test_reads_its_own_writes_and_else_the_store(db: DB) -> None:
    with db.batch() as batch:
        assert batch[b"a"] == b"1"
        batch[b"a"] = b"x"
        batch.delete(b"b")
        batch.put(b"c", b"")
        assert batch[b"a"] == b"x"
        assert batch.get("b") is None
        assert batch.get(b"b", b"gone") == b"gone"
        assert batch[bytearray(b"c")] == b""
        assert b"c" in batch
        assert b"b" not in batch
        with pytest.raises(KeyError):
            batch[b"b"]
        batch.put(b"b", b"back")
        assert batch[b"b"] == b"back"
        db[b"d"] = b"meanwhile"
        assert batch[b"d"] == b"meanwhile"


def test_last_write_of_a_key_wins(db: DB, open_db: OpenDB) -> None:
    with db.batch() as batch:
        for number in range(100):
            batch.put(b"a", b"%d" % number)
        batch.delete(b"b")
        batch.put(b"b", b"again")
        batch.put(b"c", b"3")
        batch.delete(b"c")
        batch.delete(b"never there")
    expected = {b"a": b"99", b"b": b"again"}
    assert dict(db.items()) == expected
    assert len(db) == 2
    db.close()
    reopened = open_db()
    assert dict(reopened.items()) == expected
    assert len(reopened) == 2


def test_many_at_once_inside_a_batch(db: DB) -> None:
    with db.batch() as batch:
        batch.put_many([(b"c", b"3"), ("d", "4")])
        batch.put_many({b"e": b"5"})
        batch.delete_many([b"a", b"c"])
        assert len(batch) == 5
        assert batch.size_bytes > 5 * 24
        del batch[b"d"]
    assert dict(db.items()) == {b"b": b"2", b"e": b"5"}


def test_commit_ends_a_batch(db: DB) -> None:
    batch = db.batch()
    batch.put(b"c", b"3")
    batch.commit()
    assert db[b"c"] == b"3"
    uses: list[Callable[[], object]] = [
        batch.commit,
        lambda: batch.put(b"d", b"4"),
        lambda: batch.delete(b"a"),
        lambda: batch.get(b"a"),
        lambda: batch.put_many([]),
        lambda: batch.delete_many([]),
        batch.__enter__,
    ]
    for use in uses:
        with pytest.raises(BatchStateError, match="committed"):
            use()
    batch.discard()
    assert b"d" not in db


def test_discard_ends_a_batch_and_may_be_repeated(db: DB) -> None:
    batch = db.batch()
    batch.put(b"c", b"3")
    batch.discard()
    batch.discard()
    with pytest.raises(BatchStateError, match="discarded"):
        batch.put(b"d", b"4")
    assert b"c" not in db


def test_commit_or_discard_inside_the_with_block_is_final(db: DB) -> None:
    with db.batch() as batch:
        batch.put(b"c", b"3")
        batch.commit()
    with db.batch() as batch:
        batch.put(b"d", b"4")
        batch.discard()
    assert b"c" in db
    assert b"d" not in db


def test_wrong_argument_leaves_the_batch_usable(db: DB) -> None:
    with db.batch() as batch:
        batch.put(b"c", b"3")
        with pytest.raises(KeySizeError):
            batch.put(b"", b"")
        with pytest.raises(TypeError):
            batch.put(b"d", 5)  # type: ignore[arg-type]
        assert len(batch) == 1
    assert dict(db.items()) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_empty_batch_writes_nothing(db: DB) -> None:
    before = db.stats().lsn
    with db.batch() as batch:
        assert len(batch) == 0
    with db.batch() as batch:
        batch.delete(b"not there")
    assert db.stats().lsn == before


def test_batch_is_atomic_in_a_snapshot(db: DB) -> None:
    batch = db.batch()
    batch.put_many((b"%d" % number, b"") for number in range(100))
    with db.snapshot() as before:
        batch.commit()
        with db.snapshot() as after:
            assert len(before) == 2
            assert len(after) == 102


def test_two_batches_at_once_keep_apart(db: DB) -> None:
    first, second = db.batch(), db.batch()
    first.put(b"a", b"first")
    second.put(b"a", b"second")
    assert first[b"a"] == b"first"
    second.commit()
    first.commit()
    assert db[b"a"] == b"first"


def test_batch_of_a_closed_store_is_refused(db: DB) -> None:
    batch = db.batch()
    batch.put(b"c", b"3")
    db.close()
    with pytest.raises(ClosedError):
        batch.commit()
    with pytest.raises(ClosedError):
        db.batch()


def test_batch_of_a_read_only_store_is_refused(db: DB, open_db: OpenDB) -> None:
    db.close()
    reader = open_db(read_only=True)
    with pytest.raises(ReadOnlyError):
        reader.batch()


@pytest.mark.parametrize("durability", ["never", ("bytes", 0), 5])
def test_wrong_durability_is_refused_before_anything_is_written(db: DB, durability: Any) -> None:
    with pytest.raises(OptionsError):
        db.batch(durability=durability)


def test_repr_says_what_it_holds(db: DB) -> None:
    batch = db.batch()
    batch.put(b"c", b"3")
    assert "1 writes, open" in repr(batch)
    batch.discard()
    assert "discarded" in repr(batch)


def test_batches_survive_a_reopen_whole(open_db: OpenDB) -> None:
    db = open_db(segment_bytes_max=65536, reserve_bytes=0)
    expected = {}
    for turn in range(60):
        with db.batch() as batch:
            for number in range(40):
                key, value = b"%d" % (number * turn % 97), b"%d" % turn * number
                batch.put(key, value)
                expected[key] = value
            batch.delete(b"%d" % turn)
            expected.pop(b"%d" % turn, None)
    assert dict(db.items()) == expected
    db.close()
    assert dict(open_db().items()) == expected


def test_public_class_is_exported(db: DB) -> None:
    with db.batch() as batch:
        assert type(batch) is flash_kv.WriteBatch
