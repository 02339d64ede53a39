"""The log of an open store as of one moment: which segments there are and how far each is written.

What is below those ends never changes, so a moment is all that a backup or a check needs to agree on while
writers go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flash_kv.log.manifest import SegmentEntry
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


@dataclass(frozen=True)
class Part:
    """One segment of the log."""

    segment: Segment
    entry: SegmentEntry
    end: int
    """Where its last record ends."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no record in it, as in one that is kept ready for later."""
        return self.end == SEGMENT_HEADER_SIZE

    @property
    def is_sealed(self) -> bool:
        """Whether the file is durable and never changes again: so it is once the manifest says so."""
        return self.entry.sealed_bytes is not None


@dataclass(frozen=True)
class Moment:
    """All records up to one LSN, and the number of keys they amount to."""

    parts: tuple[Part, ...]
    last_lsn: int
    keys: int


def moment_of(db: DB) -> Moment:
    """Now. Requires: space lock held, so that no segment comes or goes.

    A snapshot opened before keeps mapped what compaction retires afterwards. The outputs of a compaction that
    is not done are left out: its inputs count.
    """
    segments = db._segments
    while True:
        active_id, tail, _, _, last_lsn, _ = db._log_end()
        keys = len(db)
        # A commit between the two would make them disagree; the next try is a microsecond away.
        if db._log_end()[4] == last_lsn:
            break
    parts = []
    for segment_id, entry in sorted(segments.entries.items()):
        segment = segments.open.get(segment_id)
        if segment is None:
            continue
        if entry.sealed_bytes is not None:
            end = entry.sealed_bytes
        else:
            end = tail if segment_id == active_id else used_bytes(db, segment_id)
        if end >= SEGMENT_HEADER_SIZE:
            parts.append(Part(segment, entry, end))
    return Moment(tuple(parts), last_lsn, keys)


def used_bytes(db: DB, segment_id: int) -> int:
    """Where the records of a segment end; 0 for one behind a torn tail, which an open for reading leaves
    out."""
    try:
        return int(db._segment_counts(segment_id)["used"])
    except KeyError:
        return 0
