"""Moves rows into a store in batches: what `load` and `demo` share.

Invariants: memory holds one batch and one row; a batch is committed as a whole, then marked; what the report
counts as records was acknowledged by the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flash_kv.cli.exits import BadRow
from flash_kv.cli.formats.rows import RowReader
from flash_kv.cli.progress import Bar

if TYPE_CHECKING:
    import flash_kv

KEY_BYTES_MAX = 64 * 1024
# What the log adds to a record, roughly: it keeps a batch of tiny records from growing without bound.
RECORD_OVERHEAD_BYTES = 32
SHOWN_EVERY = 256


@dataclass(kw_only=True)
class LoadReport:
    """What a load did; `records` and `bytes` count this run alone, `resumed_records` those before it."""

    records: int = 0
    bytes: int = 0
    unchanged: int = 0
    skipped: int = 0
    resumed_records: int = 0
    duration_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the last record of a committed batch begins in the input, and the record."""

    offset: int
    row: int
    key: bytes
    value: bytes


class Loader:
    """One run of a load.

    `skip_bad`: what to do with a bad row that can be skipped, None to stop at it. `on_commit` is called after
    each batch with the place of its last record and the report so far. `skip_identical` compares with the
    store before writing.
    """

    def __init__(
        self,
        db: flash_kv.DB,
        rows: RowReader,
        *,
        batch_bytes: int,
        bar: Bar,
        skip_bad: Callable[[BadRow], None] | None = None,
        on_commit: Callable[[Place, LoadReport], None] | None = None,
        skip_identical: bool = False,
    ) -> None:
        self._db = db
        self._rows = rows
        self._batch_bytes = batch_bytes
        self._bar = bar
        self._skip_bad = skip_bad
        self._on_commit = on_commit
        self._skip_identical = skip_identical
        self._pairs: list[tuple[bytes, bytes]] = []
        self._pairs_bytes = 0
        self._last_began = (0, 0)
        self.report = LoadReport()

    def run(self) -> LoadReport:
        """Load to the end of the input. When told to stop at a `BadRow`, what precedes it is committed."""
        began = time.perf_counter()
        try:
            while not self._is_at_end():
                pass
            self._commit()
        finally:
            self.report.duration_s = time.perf_counter() - began
        return self.report

    def _is_at_end(self) -> bool:
        """Take rows to the end of the input (True), or to a bad row that is skipped (False)."""
        try:
            self._take_rows()
        except BadRow as bad:
            if self._skip_bad is None or bad.is_fatal:
                self._commit()
                raise
            self.report.skipped += 1
            self._skip_bad(bad)
            return False
        return True

    def _take_rows(self) -> None:
        """Take rows to the end of the input, or to a bad one."""
        rows, pairs = self._rows, self._pairs
        for pair in rows:
            key, value = pair
            if not 0 < len(key) <= KEY_BYTES_MAX:
                reason = f"a key must have 1 to {KEY_BYTES_MAX} bytes, this one has {len(key)}"
                raise BadRow(reason, row=rows.row, unit=rows.unit)
            if self._skip_identical and self._db.get(key) == value:
                self._pass_over()
                continue
            pairs.append(pair)
            self._pairs_bytes += len(key) + len(value)
            self._last_began = rows.began
            if self._pairs_bytes + len(pairs) * RECORD_OVERHEAD_BYTES >= self._batch_bytes:
                self._commit()

    def _pass_over(self) -> None:
        self.report.unchanged += 1
        if self.report.unchanged % SHOWN_EVERY == 0:
            self._show()

    def _show(self) -> None:
        self._bar.show(self._rows.offset, records=self.report.records + self.report.unchanged)

    def _commit(self) -> None:
        if not self._pairs:
            return
        self._db.put_many(self._pairs)
        report = self.report
        report.records += len(self._pairs)
        report.bytes += self._pairs_bytes
        key, value = self._pairs[-1]
        self._pairs.clear()
        self._pairs_bytes = 0
        offset, row = self._last_began
        if self._on_commit is not None:
            self._on_commit(Place(offset=offset, row=row, key=key, value=value), report)
        self._show()
