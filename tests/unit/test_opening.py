"""Opening and closing: what `open` makes, finds and refuses, and what a closed store still says."""

from __future__ import annotations

import gc
import os
import pickle
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import (
    DB,
    ClosedError,
    LockedError,
    NotAStoreError,
    Options,
    OptionsError,
    ReadOnlyError,
    StorageError,
    StoreNotFoundError,
)
from support.stores import store_files
from support.waiting import wait_until

OpenDB = Callable[..., DB]
pytestmark = pytest.mark.usefixtures("real_syncs")
CONTENT = {b"%d" % number: b"%d" % (number * number) for number in range(500)}


def test_open_makes_the_directory_private(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "new") as db:
        db[b"a"] = b"1"
        assert stat.S_IMODE(db.path.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in store_files(db.path)} == {0o600}


def test_defaults_are_those_of_the_options(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db") as db:
        assert db.options == Options()
        assert db.options.index == "btree"
        assert db.path == tmp_path / "db"
        assert not db.closed


@pytest.mark.parametrize("as_path", [str, Path])
def test_path_may_be_str_or_path(tmp_path: Path, as_path: Callable[[Any], Any]) -> None:
    with flash_kv.open(as_path(tmp_path / "dätabase")) as db:
        assert db.path == tmp_path / "dätabase"


def test_relative_path_is_meant_at_the_time_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with flash_kv.open("db") as db:
        (tmp_path / "elsewhere").mkdir()
        os.chdir(tmp_path / "elsewhere")
        db[b"a"] = b"1"
        db.compact()
        assert db.path == tmp_path / "db"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_content_is_there_after_a_reopen(open_db: OpenDB) -> None:
    with open_db() as db:
        db.update(CONTENT)
        del db[b"7"]
    expected = {key: value for key, value in CONTENT.items() if key != b"7"}
    for _ in range(3):
        with open_db() as db:
            assert dict(db.items()) == expected
            assert len(db) == len(expected)


@pytest.mark.parametrize("then", ["hash", "btree", "skiplist", "bptree"])
@pytest.mark.parametrize("then_io", ["mmap", "file"])
def test_any_store_opens_with_either_index_and_io(open_db: OpenDB, then: str, then_io: str) -> None:
    with open_db(segment_bytes_max=65536) as db:
        db.update(CONTENT)
        db.delete_many(list(CONTENT)[::3])
    with open_db(index=then, io=then_io) as db:
        expected = {key: value for number, (key, value) in enumerate(CONTENT.items()) if number % 3}
        assert dict(db.items()) == expected
        db.clear()
    with open_db() as db:
        assert len(db) == 0


def test_options_may_be_different_at_every_open(open_db: OpenDB) -> None:
    with open_db(segment_bytes_max=65536) as db:
        db.update(CONTENT)
    with open_db(segment_bytes_max=1024 * 1024, durability="always", load_threads=1) as db:
        db[b"more"] = b"1" * 100_000
        assert db.options.segment_bytes_max == 1024 * 1024
    with open_db(segment_bytes_max=65536, load_threads=7) as db:
        assert len(db) == len(CONTENT) + 1


def test_wrong_options_are_all_told_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        flash_kv.open(tmp_path / "db", index="tree", segment_bytes_max=5, durabilty="x")  # type: ignore[arg-type]
    for word in ("index", "segment_bytes_max", "durabilty", "did you mean 'durability'"):
        assert word in str(caught.value)
    assert not (tmp_path / "db").exists()


def test_store_that_is_not_there_may_be_refused(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreNotFoundError) as caught:
            flash_kv.open(tmp_path / "db", **options)  # type: ignore[arg-type]
        assert str(tmp_path / "db") in str(caught.value)
        assert not (tmp_path / "db").exists()


def test_missing_parent_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises((StorageError, OSError)) as caught:
        flash_kv.open(tmp_path / "missing" / "db")
    assert "missing" in str(caught.value)


def test_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotAStoreError, match=r"notes\.txt"):
        flash_kv.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError):
        flash_kv.open(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_second_writer_is_refused_and_told_who_holds_it(open_db: OpenDB) -> None:
    db = open_db()
    with pytest.raises(LockedError) as caught:
        open_db()
    assert str(os.getpid()) in str(caught.value)
    db[b"a"] = b"1"
    db.close()
    assert dict(open_db().items()) == {b"a": b"1"}


def test_failed_open_lets_go_of_the_lock(open_db: OpenDB, tmp_path: Path) -> None:
    with open_db() as db:
        db.update(CONTENT)
    manifest = db.path / "MANIFEST"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-1] + b"\xff")
    with pytest.raises(flash_kv.FlashKVError):
        open_db()
    manifest.write_bytes(whole)
    assert len(open_db()) == len(CONTENT)


def test_read_only_store_reads_everything_and_writes_nothing(open_db: OpenDB) -> None:
    with open_db() as db:
        db.update(CONTENT)
    before = {path.name: path.read_bytes() for path in db.path.iterdir()}
    reader = open_db(read_only=True)
    assert dict(reader.items()) == CONTENT
    assert reader.get_many([b"1", b"x"]) == [b"1", None]
    with reader.snapshot() as snapshot:
        assert len(snapshot) == len(CONTENT)
    writes: list[Callable[[], object]] = [
        lambda: reader.put(b"a", b"1"),
        lambda: reader.__setitem__(b"a", b"1"),
        lambda: reader.delete(b"1"),
        lambda: reader.__delitem__(b"1"),
        lambda: reader.pop(b"1"),
        lambda: reader.popitem(),
        lambda: reader.setdefault(b"a", b""),
        lambda: reader.update(a="1"),
        lambda: reader.put_many([(b"a", b"1")]),
        lambda: reader.delete_many([b"1"]),
        lambda: reader.clear(),
        lambda: reader.delete_range(),
        lambda: reader.batch(),
        lambda: reader.compact(),
        lambda: reader.sync(),
    ]
    for write in writes:
        with pytest.raises(ReadOnlyError):
            write()
    reader.close()
    assert {path.name: path.read_bytes() for path in reader.path.iterdir()} == before


def test_several_readers_at_once_and_no_writer_beside_them(open_db: OpenDB) -> None:
    with open_db() as db:
        db.update(CONTENT)
    readers = [open_db(read_only=True) for _ in range(3)]
    assert all(dict(reader.items()) == CONTENT for reader in readers)
    with pytest.raises(LockedError):
        open_db()
    for reader in readers:
        reader.close()
    open_db().close()


def test_every_use_of_a_closed_store_is_refused(open_db: OpenDB) -> None:
    db = open_db()
    db.update(CONTENT)
    db.close()
    uses: list[Callable[[], object]] = [
        lambda: db[b"1"],
        lambda: db.get(b"1"),
        lambda: b"1" in db,
        lambda: len(db),
        lambda: list(db),
        lambda: list(db.items()),
        lambda: db.get_many([b"1"]),
        lambda: db.put(b"1", b""),
        lambda: db.delete(b"1"),
        lambda: db.pop(b"1"),
        lambda: db.popitem(),
        lambda: db.setdefault(b"1", b""),
        lambda: db.update(a="1"),
        lambda: db.put_many([]),
        lambda: db.delete_many([]),
        lambda: db.clear(),
        lambda: db.delete_range(),
        lambda: db.batch(),
        lambda: db.snapshot(),
        lambda: db.sync(),
        lambda: db.stats(),
        lambda: db.compact(),
        lambda: db.verify(),
        lambda: db.backup(db.path.parent / "backup"),
        lambda: db == CONTENT,
    ]
    for use in uses:
        with pytest.raises(ClosedError) as caught:
            use()
        assert str(db.path) in str(caught.value)


def test_closed_store_still_says_what_it_was(open_db: OpenDB) -> None:
    db = open_db()
    db.close()
    assert db.closed
    assert db.path.name == "db"
    assert db.options.segment_bytes_max
    assert "closed" in repr(db)


def test_closing_twice_is_fine(open_db: OpenDB) -> None:
    db = open_db()
    db.close()
    db.close()
    with db:
        pass


def test_with_closes_also_after_an_exception(open_db: OpenDB) -> None:
    with pytest.raises(ZeroDivisionError), open_db() as db:
        db[b"a"] = b"1"
        raise ZeroDivisionError
    assert db.closed
    assert dict(open_db().items()) == {b"a": b"1"}


def test_store_that_is_dropped_warns_and_is_closed(
    open_db: OpenDB, tmp_path: Path, index: str, io: str
) -> None:
    db = flash_kv.open(tmp_path / "db", index=index, io=io)  # type: ignore[arg-type]
    db[b"a"] = b"1"
    reference = weakref.ref(db)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del db
        # The background thread holds the store for moments; then the warning does.
        wait_until(lambda: (found := reference()) is not None and found._is_let_go)
    assert dict(open_db().items()) == {b"a": b"1"}


def test_store_that_is_dropped_is_gone_without_the_collector_of_cycles(
    open_db: OpenDB, tmp_path: Path, index: str, io: str
) -> None:
    db = flash_kv.open(tmp_path / "db", index=index, io=io)  # type: ignore[arg-type]
    db.put_many((b"%d" % number, bytes(100)) for number in range(1000))
    list(db.items())
    with db.snapshot():
        db[b"1"] = b"1"
    db.compact()
    db.close()
    reference = weakref.ref(db)
    gc.disable()
    try:
        del db
        assert reference() is None
    finally:
        gc.enable()


def test_store_in_a_cycle_of_references_is_closed_by_the_collector(
    open_db: OpenDB, tmp_path: Path, index: str, io: str
) -> None:
    class Holder:
        def __init__(self, db: DB) -> None:
            self.db = db
            self.itself = self

    holder = Holder(flash_kv.open(tmp_path / "db", index=index, io=io))  # type: ignore[arg-type]
    holder.db[b"a"] = b"1"
    segments = holder.db._segments
    # Whatever thread drops the store last lets go of the lock after the segments.
    unlocked = threading.Event()
    lock_file = holder.db._lock_file
    assert lock_file is not None
    release = lock_file.release
    lock_file.release = lambda: (release(), unlocked.set())  # type: ignore[method-assign, assignment, func-returns-value]
    with pytest.warns(ResourceWarning, match="was not closed"):
        del holder
        # The background thread holds the store for moments.
        wait_until(lambda: gc.collect() >= 0 and segments._is_let_go)
    assert unlocked.wait(10)
    db = open_db()
    assert db.stats().recovery.was_clean
    assert dict(db.items()) == {b"a": b"1"}


def test_store_can_be_weakly_referenced(open_db: OpenDB) -> None:
    db = open_db()
    assert weakref.ref(db)() is db


def test_store_cannot_be_pickled_and_says_what_can(open_db: OpenDB) -> None:
    with pytest.raises(TypeError, match="path"):
        pickle.dumps(open_db())


def test_hundred_stores_can_be_open_in_one_process(tmp_path: Path, index: str) -> None:
    stores = [
        flash_kv.open(
            tmp_path / str(number),
            index=index,  # type: ignore[arg-type]
            segment_bytes_max=65536,
            reserve_bytes=0,
        )
        for number in range(100)
    ]
    for number, store in enumerate(stores):
        store[b"number"] = b"%d" % number
    assert [int(store[b"number"]) for store in stores] == list(range(100))
    for store in stores:
        store.close()


def test_clean_close_leaves_sealed_segments_with_hints_only(open_db: OpenDB) -> None:
    db = open_db(segment_bytes_max=65536, reserve_bytes=0)
    db.update(CONTENT)
    for number in range(1000):
        db[b"%d" % number] = bytes(300)
    db.close()
    # And the index's own file, of the kind that has one.
    names = {path.name for path in db.path.iterdir()} - {"INDEX"}
    segments = {name for name in names if name.endswith(".seg")}
    assert names == segments | {name.replace(".seg", ".hint") for name in segments} | {"LOCK", "MANIFEST"}
