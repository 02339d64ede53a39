"""Deleting what has expired, so that its space comes back.

A value whose time is up reads as absent at once; what is here only takes it out of index and log. A pass goes through
the index, looks at the records that have attributes, and deletes those that have expired with ordinary tombstones, each
under the write lock after a second look. It runs on a snapshot, in slices of milliseconds with pauses between them.
A kill in the middle leaves the rest for the next pass.

When the next pass is worth it is known: nothing expires before the earliest of what the last one passed by and of what
has been stored since. Of a store that was just opened nothing is known, so its first pass comes some time after.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flash_kv.engine.maintenance import unless_full
from flash_kv.engine.scan_cy import EXPIRED, Scan, SnapshotCore
from flash_kv.io.clock_cy import time_ms
from flash_kv.log.records import decode_attributes

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

SLICE_S = 0.002
PAUSE_S = 0.008
# A pass is not begun again before so many times what the last one took: one percent of a processor.
REST_FACTOR = 100
REST_S_MIN = 1.0
FIRST_PASS_S = 60.0
# A clock that was set ahead by more than the one is believed after the other: deleting cannot be undone.
JUMP_MS = 60_000
JUMP_REST_S = 600.0


class Sweeper:
    """When to look for what has expired, and the looking. One thread at a time runs `run`."""

    def __init__(self) -> None:
        now = time.monotonic()
        self._not_before_s = now + FIRST_PASS_S
        # Milliseconds since 1970 at which something may expire; None: nothing ever does.
        self._due_ms: int | None = 0
        self._ahead_ms = time_ms() - int(now * 1000)

    def note(self, db: DB, attributes: bytes) -> None:
        """A value with these attributes was stored."""
        if expires_ms := decode_attributes(attributes).expires_ms:
            self.expect(expires_ms)
            db._maintenance.start()

    def expect(self, expires_ms: int) -> None:
        """A value was stored that expires then."""
        due = self._due_ms
        if due is None or expires_ms < due:
            self._due_ms = expires_ms

    def is_due(self) -> bool:
        """Is a pass worth it now?"""
        due, now = self._due_ms, time.monotonic()
        if due is None or now < self._not_before_s or time_ms() < due:
            return False
        ahead_ms = time_ms() - int(now * 1000)
        if ahead_ms > self._ahead_ms + JUMP_MS:
            self._not_before_s = now + JUMP_REST_S
            self._ahead_ms = ahead_ms
            return False
        self._ahead_ms = ahead_ms
        return True

    def run_if_due(self, db: DB) -> None:
        """A pass in the background, if it is worth it."""
        if self.is_due():
            with unless_full():
                self.run(db, db._maintenance.pause)

    def run(self, db: DB, pause: Callable[[float], None] | None = None) -> int:
        """One pass; how many keys it deleted. `pause` is called between slices, None: without any."""
        began = slice_began = time.monotonic()
        removed = 0
        # Whatever is stored from here on is in the next pass.
        self._due_ms = None
        scan = Scan(SnapshotCore(db), EXPIRED, None, None, False, True)
        try:
            for key in scan:
                if key is not None:
                    removed += db._remove_if_expired(key)
                if pause is not None and time.monotonic() - slice_began > SLICE_S:
                    pause(PAUSE_S)
                    slice_began = time.monotonic()
        except BaseException:
            self.expect(0)
            raise
        finally:
            earliest = scan.earliest_expiry_ms
            scan.close()
            if earliest:
                self.expect(earliest)
            now = time.monotonic()
            self._not_before_s = now + max(REST_S_MIN, (now - began) * REST_FACTOR)
        return removed
