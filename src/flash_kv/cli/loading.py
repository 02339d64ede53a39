"""Moves rows into a store in batches: what `load` and `demo` share.

Invariants: memory holds one batch and one row; a batch is committed as a whole, then marked; what the report
counts as records was acknowledged by the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flash_kv.cli.exits import BadRow
from flash_kv.cli.progress import Bar

if TYPE_CHECKING:
    import flash_kv

KEY_BYTES_MAX = 64 * 1024
# What the log adds to a record, roughly: it keeps a batch of tiny records from growing without bound.
RECORD_OVERHEAD_BYTES = 32
SHOWN_EVERY = 256


class Rows(Protocol):
    """What the loader needs of a reader."""

    unit: str

    @property
    def offset(self) -> int: ...

    @property
    def row(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...

    def __next__(self) -> tuple[bytes, bytes]: ...


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
        rows: Rows,
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
        self._last_place = (0, 0)
        self.report = LoadReport()

    def run(self) -> LoadReport:
        """Load to the end of the input. When told to stop at a `BadRow`, what precedes it is committed."""
        began = time.perf_counter()
        try:
            while self._take_row():
                if self._pairs_bytes >= self._batch_bytes:
                    self._commit()
            self._commit()
        except BadRow:
            self._commit()
            raise
        finally:
            self.report.duration_s = time.perf_counter() - began
        return self.report

    def _take_row(self) -> bool:
        rows, report = self._rows, self.report
        offset, row = rows.offset, rows.row
        try:
            key, value = next(rows)
            if not 0 < len(key) <= KEY_BYTES_MAX:
                reason = f"a key must have 1 to {KEY_BYTES_MAX} bytes, this one has {len(key)}"
                raise BadRow(reason, row=rows.row, unit=rows.unit)
        except StopIteration:
            return False
        except BadRow as bad:
            if self._skip_bad is None or bad.is_fatal:
                raise
            report.skipped += 1
            self._skip_bad(bad)
            return True
        if self._skip_identical and self._db.get(key) == value:
            report.unchanged += 1
            if report.unchanged % SHOWN_EVERY == 0:
                self._show()
            return True
        self._pairs.append((key, value))
        self._pairs_bytes += len(key) + len(value) + RECORD_OVERHEAD_BYTES
        self._last_place = (offset, row)
        return True

    def _show(self) -> None:
        self._bar.show(self._rows.offset, records=self.report.records + self.report.unchanged)

    def _commit(self) -> None:
        if not self._pairs:
            return
        self._db.put_many(self._pairs)
        report = self.report
        report.records += len(self._pairs)
        report.bytes += sum(len(key) + len(value) for key, value in self._pairs)
        key, value = self._pairs[-1]
        self._pairs, self._pairs_bytes = [], 0
        offset, row = self._last_place
        if self._on_commit is not None:
            self._on_commit(Place(offset=offset, row=row, key=key, value=value), report)
        self._show()
