"""Snapshots: a read-only mapping of the store as it was at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from flash_kv.engine.scan_cy import SnapshotCore
from flash_kv.engine.views import Ranges

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class Snapshot(SnapshotCore, Ranges, Mapping[bytes, bytes]):
    """The store as of one LSN, whatever is written afterwards. Close it, or use it as a context manager.

    Opening costs nothing whatever the size. While it is open, the versions it can see are kept: in memory a few tens
    of bytes for each key changed since, on disk the segments that compaction would have removed. Nothing of it survives
    a crash.
    """

    def __init__(self, db: DB) -> None:
        self._db = db

    @property
    def db(self) -> DB:
        """The store this is a snapshot of."""
        return self._db

    def _viewed(self) -> tuple[DB, Snapshot | None]:
        return self._db, self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __len__(self) -> int:
        """The number of keys, by counting them: O(n)."""
        return sum(1 for _ in self.keys())

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Let go of what the snapshot holds; reading from it raises ClosedError from then on."""
        self._close()
        self._db._snapshot_closed()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at LSN {self.sequence}"
        return f"<flash_kv.Snapshot of {str(self._db.path)!r}, {state}>"
