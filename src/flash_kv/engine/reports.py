"""What the long operations report: plain frozen dataclasses, sizes in bytes, times in seconds.

`as_dict()` gives what the command line prints with `--json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


class _Report:
    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values: paths and bytes as text, nested reports as dicts."""
        return {name: _plain(value) for name, value in asdict(self).items()}  # type: ignore[call-overload]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, kw_only=True)
class CompactionProgress:
    """Passed to `progress` while a compaction runs; returning False from it cancels."""

    segments_done: int
    segments_total: int
    bytes_done: int
    """Bytes of input segments gone through."""
    bytes_total: int
    bytes_moved: int
    """Bytes of live records copied so far."""


@dataclass(frozen=True, kw_only=True)
class CompactionReport(_Report):
    """What a compaction did or, with `is_dry_run`, what it would do."""

    is_dry_run: bool
    is_cancelled: bool
    segments_compacted: int
    segments_written: int
    records_moved: int
    bytes_moved: int
    tombstones_dropped: int
    bytes_before: int
    """Size of the input segments."""
    bytes_after: int
    """Size of what replaces them."""
    bytes_reclaimed: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class BackupReport(_Report):
    """A finished backup: a directory that opens as a store by itself."""

    path: Path
    segments: int
    bytes_linked: int
    """Bytes shared with the source by hard links; they take no new space."""
    bytes_copied: int
    keys: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Damage(_Report):
    """One damaged place."""

    path: Path
    offset: int
    size: int
    """Bytes that could not be read as records; 0 when unknown."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class VerifyReport(_Report):
    """Every segment, hint file and the manifest, read and checked."""

    path: Path
    segments: int
    records: int
    bytes_checked: int
    torn_tail_bytes: int
    """Bytes after the last whole record of an unsealed segment: never acknowledged as durable, no damage."""
    damages: tuple[Damage, ...]
    duration_s: float

    @property
    def is_ok(self) -> bool:
        """No damage was found."""
        return not self.damages


@dataclass(frozen=True, kw_only=True)
class RepairReport(_Report):
    """What was salvaged from a damaged store into a new one."""

    source: Path
    path: Path
    keys: int
    records_salvaged: int
    records_lost: int
    """Records known from hint files to have been in damaged places."""
    lost_keys: tuple[bytes, ...]
    """Keys whose newest value is known to be lost; they are absent, never replaced by an older value."""
    damages: tuple[Damage, ...]
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class RecoveryReport(_Report):
    """What the last open had to do."""

    was_clean: bool
    """The store had been closed; False after a crash, a kill or a power cut."""
    segments_from_hints: int
    segments_scanned: int
    records: int
    torn_tail_bytes: int
    duration_s: float
    segments_from_index: int = 0
    """Not read, because an index on disk knew all that is in them."""
    index_fault: str | None = None
    """Why the file of an index on disk was of no use, so that the index was built from the log."""


@dataclass(frozen=True, kw_only=True)
class SegmentStats(_Report):
    """One segment's share."""

    segment_id: int
    is_sealed: bool
    bytes: int
    """Bytes of records, headers included."""
    dead_bytes: int
    dead_ratio: float
    records: int
    """Values and tombstones, dead ones included."""
    state: Literal["active", "spare", "sealed", "compacting"]
    """Active: written to, or full and about to be sealed."""


@dataclass(frozen=True, kw_only=True)
class Stats(_Report):
    """The state of an open store, gathered in O(segments), never O(keys)."""

    path: Path
    index: str
    codecs: tuple[str, str]
    """The names of the codecs of its values and keys."""
    keys: int
    segments: int
    live_bytes: int
    """Bytes of records that are the newest of their key."""
    dead_bytes: int
    """Bytes a compaction can give back: overwritten or deleted records, and tombstones nothing needs."""
    dead_ratio: float
    disk_bytes: int
    """What the directory takes on disk: segments as allocated, hint files, the rest."""
    index_bytes: int
    """Memory of the index beyond the log."""
    snapshots: int
    lsn: int
    """The newest committed LSN."""
    synced_lsn: int
    """Everything up to here survives a power cut."""
    syncs: int
    sync_duration_s: float
    """Seconds spent in syncs since the open."""
    compactions: int
    compaction_bytes_moved: int
    compaction_bytes_reclaimed: int
    last_compaction: CompactionReport | None
    compaction: CompactionProgress | None
    """How far the one that runs now is."""
    recovery: RecoveryReport
    is_poisoned: bool
    segment_stats: tuple[SegmentStats, ...]
