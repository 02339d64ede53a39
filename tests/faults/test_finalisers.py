"""Finalisers that use a store in the middle of its own work: served or refused, never a hang.

Python collects garbage wherever something is allocated, so a `__del__` runs between any two steps of the engine, on
whatever thread is there, the background one included.
"""

from __future__ import annotations

import errno
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flash_kv import DB, StorageError
from flash_kv.engine.sync_gate_cy import SyncGate
from flash_kv.io.system import REAL
from support.processes import Report, run_forked
from support.waiting import wait_until
from support.workload import open_with

COUNT = 100


class Finalised:
    """Writes to a store when it is collected, in the middle of whatever goes on then."""

    def __init__(self, db: object, key: str, outcomes: dict[str, str]) -> None:
        self.db = db
        self.key = key
        self.outcomes = outcomes
        self.itself = self

    def __del__(self) -> None:
        try:
            self.db[self.key] = "x" * 5000  # type: ignore[index]
            self.outcomes[self.key] = "served"
        except StorageError as error:
            self.outcomes[self.key] = "refused" if error.errno == errno.EDEADLK else repr(error)
        except BaseException as error:
            self.outcomes[self.key] = repr(error)


def unexpected(found: set[bytes], outcomes: dict[str, str]) -> str:
    """What is missing or too much, and answers that are none."""
    served = {key for key, outcome in outcomes.items() if outcome == "served"}
    expected = {key.encode() for key in served | {f"k{number}" for number in range(COUNT)}}
    others = sorted(set(outcomes.values()) - {"served", "refused"})
    different = sorted(found ^ expected)
    return f"different: {different}, other answers: {others}" if different or others else ""


@pytest.mark.parametrize("durability", ["process", "always"])
def test_a_finaliser_that_writes_in_the_middle_of_anything_is_served_or_refused_and_never_hangs(
    tmp_path: Path, index: str, io: str, durability: str
) -> None:
    def body(report: Report) -> None:
        # The real system: a stand-in runs under the write lock, where no Python code may be.
        db = open_with(tmp_path / "db", REAL, index=index, io=io, durability=durability)
        outcomes: dict[str, str] = {}
        gc.set_threshold(5, 1, 1)
        for number in range(COUNT):
            Finalised(db, f"f{number}", outcomes)
            db.put(f"k{number}", b"y" * 3000)
            if number % 40 == 30:
                db.compact()
        gc.set_threshold(700, 10, 10)
        # Some may be in the middle of a write on the background thread; a collection beside that one does nothing.
        wait_until(lambda: gc.collect() >= 0 and len(outcomes) == COUNT)
        report(unexpected(set(db), outcomes).encode())
        db.close()
        with open_with(tmp_path / "db", REAL, index=index, io=io) as again:
            report(unexpected(set(again), outcomes).encode())

    assert run_forked(body) == ([b"", b""], 0)


def test_a_sync_in_the_middle_of_a_sync_of_the_same_thread_is_made_inside() -> None:
    def body(report: Report) -> None:
        gate = SyncGate(0)

        def sync() -> int:
            assert gate.wait_for(2, lambda: 2)
            assert gate.synced_lsn == 2
            return 1

        assert gate.wait_for(1, sync)
        assert gate.synced_lsn == 2
        assert gate.wait_for(3, lambda: 3)
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)


def test_a_failed_sync_in_the_middle_of_another_is_not_forgotten() -> None:
    gate = SyncGate(0)

    def refused() -> int:
        raise OSError(errno.EIO, "of the test")

    def sync() -> int:
        with pytest.raises(OSError, match="of the test"):
            gate.wait_for(2, refused)
        return 1

    assert gate.wait_for(1, sync)
    assert not gate.wait_for(2, lambda: 2)


def test_a_write_in_the_middle_of_a_sealing_does_not_wait_for_those_who_wait_for_the_sealing(
    tmp_path: Path, index: str, io: str
) -> None:
    def body(report: Report) -> None:
        db = open_with(tmp_path / "db", index=index, io=io, durability="always")
        db["before"] = "1"
        has_begun = threading.Event()

        def seal() -> None:
            with db._sync_lock:
                has_begun.set()
                # Until the other one leads at the gate and waits for the lock.
                wait_until(lambda: db.get("leading") is not None)
                time.sleep(0.05)
                db["inside"] = "3"
                with pytest.raises(StorageError, match="from a finaliser"):
                    db["needs room"] = bytes(70_000)

        sealing = threading.Thread(target=seal)
        sealing.start()
        has_begun.wait()
        db["leading"] = "2"
        sealing.join()
        assert set(db) == {b"before", b"leading", b"inside"}
        db.close()
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)


def test_a_snapshot_that_is_collected_in_the_middle_of_a_sealing_leaves_the_rest_to_the_background(
    open_db: Callable[..., DB],
) -> None:
    db = open_db(segment_bytes_max=65536, compaction_interval_s=0.01, compaction="off")
    db["key"] = "1"
    snapshot = db.snapshot()
    db["key"] = "2"
    db.compact()
    retired = db._segments.retired
    assert retired
    with db._sync_lock:
        snapshot.close()
        assert db._segments.retired is retired
    wait_until(lambda: not db._segments.retired)


def test_a_write_in_the_middle_of_the_start_of_the_background_thread_does_not_wait_for_it(
    tmp_path: Path, index: str, io: str
) -> None:
    def body(report: Report) -> None:
        db = open_with(tmp_path / "db", index=index, io=io)
        with db._maintenance._start_lock:
            db.put("a", "1")
        db.put("b", bytes(70_000))
        assert db._maintenance._thread is not None
        db.close()
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)


@pytest.mark.parametrize("place", ["close", "close_files"])
def test_a_close_in_the_middle_of_a_close_leaves_it_to_the_outer_one(
    tmp_path: Path, index: str, io: str, place: str
) -> None:
    def body(report: Report) -> None:
        db = open_with(tmp_path / "db", index=index, io=io)
        db["a"] = "1"
        segments = db._segments
        step = getattr(segments, place)

        def interrupted() -> None:
            db.close()
            step()

        setattr(segments, place, interrupted)
        db.close()
        assert db.closed
        with open_with(tmp_path / "db", index=index, io=io) as again:
            assert dict(again) == {b"a": b"1"}
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)


@pytest.mark.parametrize("call", ["compact", "close"])
def test_a_compaction_or_a_close_in_the_middle_of_a_compaction_is_refused(
    tmp_path: Path, index: str, io: str, call: str
) -> None:
    def body(report: Report) -> None:
        with open_with(tmp_path / "db", index=index, io=io) as db:
            db["a"] = "1"
            with db._compactor.lock, pytest.raises(RuntimeError, match="middle of a compaction"):
                getattr(db, call)()
            assert dict(db) == {b"a": b"1"}
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)
