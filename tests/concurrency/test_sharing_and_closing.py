"""Objects that several threads use at once, and a store that is closed beside its users: errors at worst, no crash."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flash_kv
from flash_kv import DB, BatchStateError, ClosedError
from support.threads import call_together, repeat_together, switching_often
from support.waiting import wait_until

OpenDB = Callable[..., DB]
SMALL = {"segment_bytes_max": 65536, "reserve_bytes": 0}


def test_closing_beside_readers_and_writers_ends_them_with_closed_error(
    open_db: OpenDB, rng: random.Random
) -> None:
    for turn in range(3):
        db = open_db(str(turn), **SMALL, compaction_interval_s=0.005)
        db.put_many((b"%d" % number, bytes(500)) for number in range(300))
        db[b"large"] = bytes(3_000_000)
        refused: list[int] = []

        def use(number: int, step: Callable[[], object], refused: list[int] = refused) -> None:
            try:
                while True:
                    step()
            except ClosedError:
                refused.append(number)

        steps: list[Callable[[], object]] = [
            lambda: db.get(b"large"),
            lambda: db.get_many([b"1", b"large", b"2", b"large", b"3"]),
            lambda: list(db.items()),
            lambda: db.put(b"%d" % rng.randrange(300), bytes(rng.randrange(100_000))),
            lambda: db.put_many((b"%d" % number, b"") for number in range(100)),
            lambda: db.stats(),
            lambda: db.snapshot().get(b"1"),
        ]
        calls = [lambda number=number, step=step: use(number, step) for number, step in enumerate(steps)]
        call_together(*calls, lambda: (time.sleep(0.02), db.close()))
        assert sorted(refused) == list(range(len(steps)))
        assert len(open_db(str(turn))) >= 300


def test_closing_a_store_beside_large_reads_waits_for_them(open_db: OpenDB) -> None:
    with open_db() as db:
        db.put_many((b"%d" % number, bytes(8_000_000)) for number in range(3))
    for _ in range(8):
        # Without writes a close has nothing to do that would give the readers time.
        reader = open_db(read_only=True)

        def read(step: Callable[[], object]) -> None:
            with contextlib.suppress(ClosedError):
                while True:
                    step()

        call_together(
            lambda reader=reader: read(lambda: reader[b"1"]),
            lambda reader=reader: read(lambda: reader.get_many([b"0", b"1", b"2"])),
            lambda reader=reader: read(lambda: list(reader.items())),
            lambda reader=reader: (time.sleep(0.03), reader.close()),
        )


def test_closing_during_a_compaction_cancels_it(open_db: OpenDB) -> None:
    db = open_db(**SMALL, compaction="off")
    content = {b"%05d" % number: bytes(200) for number in range(4000)}
    for key, value in content.items():
        db[key] = value
    db.delete_many(list(content)[::2])
    began = threading.Event()

    def compact() -> None:
        def progress(_: object) -> None:
            began.set()
            wait_until(lambda: db._compactor.is_stopping)

        assert db.compact(progress=progress).is_cancelled

    def close() -> None:
        began.wait()
        db.close()

    call_together(compact, close)
    assert dict(open_db().items()) == dict(list(content.items())[1::2])


def test_two_threads_may_close_at_once(open_db: OpenDB) -> None:
    for turn in range(10):
        db = open_db(str(turn), **SMALL)
        db[b"a"] = b"1"
        call_together(db.close, db.close, db.close)
        assert db.closed


def test_one_iterator_shared_by_threads_gives_each_key_once(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%06d" % number for number in range(3000)]
    db.put_many((name, b"") for name in names)
    iterator = iter(db)
    found: list[list[bytes]] = [[] for _ in range(4)]

    def take(number: int) -> None:
        while True:
            try:
                found[number].append(next(iterator))
            except StopIteration:
                return
            except ValueError as error:
                # As for a generator that another thread is inside of.
                assert "another thread" in str(error)

    call_together(*(lambda number=number: take(number) for number in range(4)))
    assert sorted(itertools.chain(*found)) == names


def test_one_snapshot_shared_by_threads_may_be_closed_beside_them(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.put_many((b"%04d" % number, b"first") for number in range(500))
    for _ in range(10):
        snapshot = db.snapshot()

        def read(snapshot: flash_kv.Snapshot = snapshot) -> None:
            try:
                while True:
                    assert set(snapshot.values()) == {b"first"}
                    assert snapshot[b"0001"] == b"first"
            except ClosedError:
                return

        call_together(read, read, lambda snapshot=snapshot: (time.sleep(0.01), snapshot.close()))


def test_one_batch_shared_by_threads_refuses_and_never_crashes(open_db: OpenDB) -> None:
    # It is not meant for several threads: what it holds then is their affair, but no memory is pulled from under one.
    db = open_db(**SMALL)
    for _ in range(20):
        batch = db.batch()

        def put(batch: flash_kv.WriteBatch = batch) -> None:
            for number in range(60):
                try:
                    batch.put(b"%d" % number, bytes(70_000))
                except BatchStateError:
                    return
                except ValueError as error:
                    assert "another thread" in str(error)

        def commit(batch: flash_kv.WriteBatch = batch) -> None:
            time.sleep(0.002)
            try:
                batch.commit()
            except BatchStateError:
                return
            except ValueError as error:
                assert "another thread" in str(error)

        call_together(put, put, commit, commit)
    assert all(value == bytes(70_000) for value in db.values())


def test_a_batch_that_another_thread_ends_in_the_middle_of_a_commit_is_refused(open_db: OpenDB) -> None:
    db = open_db(**SMALL)

    class Overtaken(flash_kv.WriteBatch):
        """Its other thread commits it between the look at its state and the commit."""

        is_alone = False

        def _open_buffer(self) -> Any:
            buffer = super()._open_buffer()
            if not self.is_alone:
                self.is_alone = True
                self.commit()
            return buffer

    batch = Overtaken(db, None)
    batch.put(b"key", b"value")
    with pytest.raises(BatchStateError, match="committed"):
        batch.commit()
    assert dict(db.items()) == {b"key": b"value"}


def test_compactions_at_once_take_turns(open_db: OpenDB) -> None:
    db = open_db(**SMALL, compaction_interval_s=0.005, compaction_dead_bytes=1000)
    content = {b"%04d" % number: bytes(300) for number in range(1000)}

    def churn() -> None:
        db.put_many(content)
        db.delete_many(list(content)[::3])

    repeat_together(0.6, churn, db.compact, db.compact, lambda: db.compact(dry_run=True), db.stats)
    db.put_many(content)
    db.compact()
    assert dict(db.items()) == content


def test_stores_of_many_threads_do_not_meet(tmp_path: Path, index: str, io: str) -> None:
    def live(number: int) -> None:
        for turn in range(6):
            path = tmp_path / str(number)
            with flash_kv.open(path, index=index, io=io, **SMALL) as db:  # type: ignore[arg-type]
                assert len(db) == turn * 50
                db.put_many((b"%d %d" % (turn, key), b"%d" % number) for key in range(50))
                assert set(db.values()) == {b"%d" % number}

    call_together(*(lambda number=number: live(number) for number in range(5)))


@pytest.mark.parametrize(
    ("index", "io"), [("btree", "file"), ("hash", "file"), ("btree", "mmap"), ("skiplist", "mmap")]
)
def test_many_reads_at_once_beside_compaction_find_every_key(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**SMALL, compaction="off")
    content = {b"%04d" % number: b"%04d" % number * 30 for number in range(600)}
    content[b"large"] = bytes(200_000)
    db.put_many(content)
    names = list(content)

    def overwrite_and_compact() -> None:
        for name in rng.sample(names, 200):
            with db.snapshot():
                db.put(name, content[name])
        db.compact()

    def read() -> None:
        some = [*rng.sample(names, 60), b"large", *rng.sample(names, 60)]
        assert db.get_many(some) == [content[name] for name in some]

    with switching_often():
        repeat_together(1.5, overwrite_and_compact, read, read, at_least=2)


def test_many_reads_at_once_find_every_key_when_the_collector_compacts_in_the_middle(open_db: OpenDB) -> None:
    # What stands in for another thread's compaction: any list or tuple that is made may set off the collector.
    db = open_db(**SMALL, compaction="off")
    content = {b"%04d" % number: b"%04d" % number * 30 for number in range(3000)}
    db.put_many(content)
    names = list(content)
    compacted: list[int] = []

    def overwrite_and_compact(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and threading.current_thread() is threading.main_thread():
            gc.callbacks.remove(overwrite_and_compact)
            for name in names[len(compacted) % 3 :: 3]:
                db.put(name, content[name])
            compacted.append(db.compact().segments_compacted)
            gc.callbacks.append(overwrite_and_compact)

    before = gc.get_threshold()
    gc.callbacks.append(overwrite_and_compact)
    # Lists that were freed would be taken again, which sets nothing off.
    kept: list[list[object]] = [[] for _ in range(200)]
    found = []
    try:
        for threshold in (1, 2, 3, 4, 5):
            # Which of the objects made on the way sets it off depends on what was made before.
            gc.set_threshold(threshold, 1, 1)
            for _ in range(threshold):
                found.append(db.get_many(names))
                kept.append([])
        assert [db.get(memoryview(name)) for name in names[:20]] == [content[name] for name in names[:20]]
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(overwrite_and_compact)
    assert all(values == list(content.values()) for values in found)
    assert any(compacted), compacted


@pytest.mark.parametrize("io", ["file"])
def test_short_record_at_the_end_is_read_while_sealing_cuts_the_file_behind_it(open_db: OpenDB) -> None:
    # A read by pread takes more than a short record with it. What sealing does beside a read is done here before it.
    db = open_db(**SMALL, compaction="off")
    db.put(b"k", b"v")
    (path,) = db.path.glob("*.seg")
    os.truncate(path, 64 + 32)
    assert db.get(b"k") == b"v"
    assert db.get_many([b"k"]) == [b"v"]
    assert b"k" in db
    assert list(db.items()) == [(b"k", b"v")]
