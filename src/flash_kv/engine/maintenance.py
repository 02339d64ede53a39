"""The background thread of a store: seals full segments, keeps a spare ready, syncs by the clock, compacts.

It starts with the first write and holds the store weakly, so a store that is dropped without `close` can be
collected. A failure here reaches the caller's next write.
"""

from __future__ import annotations

import errno
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flash_kv.engine.store_cy import POISONED, TROUBLED
from flash_kv.errors import StorageError, StoreFullError, storage_error
from flash_kv.io.signals import SignalsHeld
from flash_kv.options import Durability

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class Maintenance:
    """One thread, woken by events and by the clock."""

    def __init__(self, db: DB, durability: Durability, interval_s: float) -> None:
        self._db = weakref.ref(db)
        self._sync_s = durability.seconds if durability.kind == "interval" else None
        self._interval_s = min(interval_s, self._sync_s or interval_s)
        self._compaction_s = interval_s
        # When a sync is due that a batch has asked for.
        self._sync_by: float | None = None
        # Held: nothing to do. Not an Event: a finaliser that writes in the middle of `Event.set` would wait for itself.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._has_ended = False
        # Guards `_thread` and `_is_stopping`. Never waited for in `start`: whoever holds it may be this thread itself,
        # interrupted by a finaliser that writes, and starts or stops the thread in any case.
        self._start_lock = threading.Lock()

    def start(self) -> None:
        """Have the thread running."""
        if self._thread is None and not self._is_stopping:
            with SignalsHeld():
                if not self._start_lock.acquire(blocking=False):
                    return
                try:
                    self._start()
                finally:
                    self._start_lock.release()

    def _start(self) -> None:
        """Requires: start lock held."""
        if self._thread is None and not self._is_stopping:
            # A daemon: a program that never closes its store must still end. What it wrote is in the log.
            thread = threading.Thread(target=_run, args=(self,), name="flash-kv", daemon=True)
            # RuntimeError when the process can have no more threads; the next write tries again.
            thread.start()
            self._thread = thread

    def wake(self) -> None:
        """There is something to do."""
        self.start()
        self._end_sleep()

    def _end_sleep(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            return  # it was woken already

    def sync_within(self, seconds: float) -> None:
        """Have everything committed so far synced at most `seconds` from now."""
        due = time.monotonic() + seconds
        before = self._sync_by
        # One that is due earlier and still set begins after this call's commit, so it covers that too.
        if before is None or due < before:
            self._sync_by = due
            self.wake()

    def pause(self, seconds: float) -> None:
        """Wait, unless the store is being closed."""
        ends = time.monotonic() + seconds
        while not self._is_stopping and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def stop(self) -> None:
        """End the thread and wait for it."""
        with SignalsHeld(), self._start_lock:
            self._is_stopping = True
            thread = self._thread
        self._end_sleep()
        if thread is not None and thread.ident != threading.get_ident():
            thread.join()
            # A join that was interrupted takes its thread for one that has ended, and so does the next: but what the
            # thread is at now would be done to a store that may be another's by then.
            while not self._has_ended:
                time.sleep(0.001)


def _run(maintenance: Maintenance) -> None:
    try:
        _run_rounds(maintenance)
    finally:
        maintenance._has_ended = True


def _run_rounds(maintenance: Maintenance) -> None:
    next_sync = next_look = time.monotonic()
    pause_s = maintenance._interval_s
    while not maintenance._is_stopping:
        maintenance._asleep.acquire(timeout=min(pause_s, threading.TIMEOUT_MAX))
        db = maintenance._db()
        if db is None or maintenance._is_stopping:
            return
        now = time.monotonic()
        sync_by = maintenance._sync_by
        is_sync_due = maintenance._sync_s is not None and now >= next_sync
        if sync_by is not None and now >= sync_by:
            maintenance._sync_by = None
            is_sync_due = True
        is_look_due = now >= next_look
        if is_sync_due and maintenance._sync_s is not None:
            next_sync = now + maintenance._sync_s
        if is_look_due:
            next_look = now + maintenance._compaction_s
        db._maintain(is_sync_due, is_look_due)
        del db
        # What is due by the clock does not wait longer because something else woke the thread before.
        next_due = next_look if maintenance._sync_s is None else min(next_sync, next_look)
        if (sync_by := maintenance._sync_by) is not None:
            next_due = min(next_due, sync_by)
        pause_s = max(next_due - time.monotonic(), 0.0)


def look_after(db: DB, is_sync_due: bool, is_look_due: bool) -> None:
    """One round of the background thread."""
    if db._state() & POISONED:
        return
    try:
        _look_after(db, is_sync_due, is_look_due)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller's next write raises it
        if isinstance(error, OSError):
            error = storage_error(error, path=error.filename or db.path, operation="look after")
        if db._background_error is None:
            db._background_error = error
            db._set_state(TROUBLED, True)


def _look_after(db: DB, is_sync_due: bool, is_look_due: bool) -> None:
    # What was to be made ahead is made, or refused, when a write needs it.
    with unless_full():
        db._segments.grow_ahead()
        db._segments.prepare_spare()
    with unless_full():
        db._segments.seal_rotated()
        db._segments.write_missing_hints()
    db._trim_versions()
    if db._index_keeper.is_due():
        with unless_full():
            db._index_keeper.checkpoint_when_idle()
    if is_sync_due and db._log_end()[4] > db._syncs.synced_lsn:
        db._syncs.wait_for(db._log_end()[4])
    db._sweeper.run_if_due(db)
    if is_look_due:
        db._segments.release_retired()
        if db.options.compaction == "auto" and is_within(db.options.compaction_window):
            with unless_full():
                db._compactor.run_policy()


@contextmanager
def unless_full() -> Iterator[None]:
    """A step of the background that ends early where files cannot grow; the steps after it may free space."""
    try:
        yield
    except StoreFullError:
        return
    except StorageError as error:
        if error.errno != errno.EFBIG:
            raise


def is_within(window: tuple[int, int] | None) -> bool:
    """Is it now between these hours?"""
    if window is None:
        return True
    start, end = window
    hour = time.localtime().tm_hour
    return start <= hour < end if start < end else hour >= start or hour < end
