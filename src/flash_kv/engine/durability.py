"""When commits become durable: syncs, shared by all who wait, and what happens when one fails.

One sync serves everybody who committed before it began (group commit): who gets through the gate first syncs
for all; the others wait at the gate, and most find their commit durable when they are let in.

The first failed sync poisons the store for good: a file system may report a later sync as fine with the data
gone. Writes raise PoisonedError from then on, reads go on. A commit whose caller waited for that sync is
withdrawn from the log, so it does not come back at the next open after its caller was told that it failed.

Lock order: the space lock, then the sync lock, then the write lock; who syncs does not take the space lock.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from flash_kv.engine.part import Part
from flash_kv.engine.sync_gate_cy import SyncGate
from flash_kv.errors import PoisonedError
from flash_kv.io.system import System

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class SyncKeeper(Part):
    """The syncs of one store."""

    def __init__(self, db: DB, sync_lock: threading.RLock) -> None:
        super().__init__(db)
        # Held while descriptors are synced: sealing takes it to close one.
        self._sync_lock = sync_lock
        self._gate = SyncGate(0)
        self.cause: OSError | None = None
        self.syncs = 0
        self.sync_duration_s = 0.0

    @property
    def synced_lsn(self) -> int:
        """Everything up to here survives a power cut."""
        return self._gate.synced_lsn

    def begin_at(self, lsn: int) -> None:
        """What an open found durable."""
        self._gate = SyncGate(lsn)

    def wait_for(self, lsn: int) -> None:
        """Back when everything up to `lsn` is durable. PoisonedError when a sync failed before it was."""
        if self.cause is None:
            try:
                # In a finaliser, in the middle of a sync or a sealing: who leads at the gate may wait for this thread.
                is_inside = self._sync_lock._is_owned()  # type: ignore[attr-defined]
                if self._gate.wait_for(lsn, self._sync_once, is_inside):
                    return
            except OSError as error:
                self.store._poison(error)
        elif self._gate.synced_lsn >= lsn:
            return
        raise PoisonedError(self.store.path, self.cause or OSError(errno.EIO, "a sync failed"))

    def _sync_once(self) -> int:
        """Sync every unsealed segment; the LSN up to which all is durable then."""
        with self._sync_lock:
            return self._sync_unsealed(self.store._system)

    def _sync_unsealed(self, system: System) -> int:
        """Requires: sync lock held."""
        target: int = self.store._log_end()[4]
        started = system.monotonic_s()
        # Sealed ones are durable. Listed after the target was read, so none with a record up to it is missed.
        for segment in list(self.store._segments.unsealed.values()):
            if segment.sealed_bytes is None:
                segment.sync(self.store._segment_counts(segment.segment_id)["used"])
        self.sync_duration_s += system.monotonic_s() - started
        self.syncs += 1
        self.store._mark_synced(target)
        return target

    def poison(self, cause: OSError) -> None:
        """Remember the first failure."""
        if self.cause is None:
            self.cause = cause
