"""`DB.changes()`: what has been committed, read back out of the log in the order of its LSNs.

Every value and every tombstone has an LSN of its own and none is used twice, so the feed needs no books of its own: the
change that comes next has the LSN that comes next. A segment of the writer has its LSNs without a gap, apart from
commits that were withdrawn. Compaction drops records; where the next LSN is in no segment any more the history is lost,
which is said, never passed over. A copy that compaction has made counts as well as what it was made of.

Lock order: the space lock, to agree on which segments there are and to pin those that may have what is wanted; nothing
is read under it. While a segment is read it is pinned, so neither compaction nor close can take it away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from flash_kv.engine.change import Change
from flash_kv.engine.changes_cy import ChangeReader
from flash_kv.errors import ChangesLostError, CorruptionError, naming_place
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.db import DB
    from flash_kv.engine.store_cy import SegmentPin

RECORDS_MAX = 1000
BYTES_MAX = 1024**2
# More than any value has.
ANY_SIZE = 2**32


class Extent(NamedTuple):
    """A segment and what its counters said at one moment."""

    segment: Segment
    used: int
    min_lsn: int
    max_lsn: int

    @property
    def is_written(self) -> bool:
        """By the writer, so that its LSNs rise without a gap."""
        return self.segment.origin == "writer"


class Changes:
    """A reader of the changes of a store, from one LSN on; made by `DB.changes`.

    Iterating gives one `Change` after the other and ends where the log ends; iterating again goes on from there.
    `read` gives several at once. It holds nothing between two calls, so it need not be closed, and compaction does not
    wait for it. It belongs to one thread at a time; there may be any number of them.
    """

    def __init__(self, db: DB, since: int, value_bytes_max: int | None) -> None:
        if since < 0:
            raise ValueError(f"LSNs count from 1 on, so there is nothing since {since}")
        self._db = db
        self._reader = ChangeReader(db, since)
        self._value_bytes_max = ANY_SIZE if value_bytes_max is None else value_bytes_max
        db.check_open()
        last_lsn = committed_lsn(db)
        if since > last_lsn:
            raise ChangesLostError(db.path, since, last_lsn, is_ahead=True)

    @property
    def lsn(self) -> int:
        """The LSN of the change that was given last: to resume from. Commits that were withdrawn count too."""
        return self._reader.next_lsn - 1

    def __iter__(self) -> Iterator[Change]:
        while found := self.read():
            yield from found

    def read(self, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> list[Change]:
        """The changes that come next; an empty list when there is none yet.

        A few more than `records_max`, or than fit `bytes_max` bytes of log, so that a batch is given whole. Raises
        ChangesLostError, CorruptionError (a record is damaged), StorageError (it could not be read), ClosedError and
        ForkedError.
        """
        self._db.check_open()
        with naming_place(self._db.path, "read changes of"):
            while self._reader.next_lsn <= committed_lsn(self._db):
                if is_found := self._reader.segment == 0:
                    self._find()
                if found := self._read_segment(records_max, bytes_max, is_found):
                    return found
        return []

    def _read_segment(self, records_max: int, bytes_max: int, is_found: bool) -> list[Change]:
        """What the segment has. Without anything it is left, unless a withdrawn commit was passed.

        `is_found`: it was just found to have the next change, so it does, or it is damaged.
        """
        db, reader = self._db, self._reader
        segment_id, before = reader.segment, reader.next_lsn
        pin = db._pin(segment_id)
        if pin is None:
            # Compacted away since the last call.
            reader.leave()
            return []
        try:
            used = db._segment_counts(segment_id)["used"]
            found = reader.read(used, records_max, bytes_max, self._value_bytes_max)
        except ValueError as error:
            raise CorruptionError(db._segment_path(segment_id), reader.place, str(error)) from error
        finally:
            pin.release()
        if not found and reader.next_lsn == before:
            if is_found:
                raise CorruptionError(
                    db._segment_path(segment_id), reader.place, "a batch without the records that it counts"
                )
            reader.leave()
        return found

    def _find(self) -> None:
        """Go to the segment that has the next LSN. ChangesLostError when none has it."""
        wanted = self._reader.next_lsn
        extents = self._pinned_extents(wanted)
        try:
            for one, _ in extents:
                if self._is_in(one):
                    return
        finally:
            for _, pin in extents:
                pin.release()
        raise ChangesLostError(self._db.path, wanted - 1, self._oldest_lsn())

    def _is_in(self, one: Extent) -> bool:
        try:
            return self._reader.find(one.segment.segment_id, one.used)
        except ValueError as error:
            raise CorruptionError(one.segment.path, self._reader.place, str(error)) from error

    def _pinned_extents(self, wanted: int) -> list[tuple[Extent, SegmentPin]]:
        """The segments that may have this LSN, pinned, the likeliest first."""
        with self._db._segments.space_lock:
            self._db.check_open()
            found = [one for one in self._extents() if one.min_lsn <= wanted <= one.max_lsn]
            # A segment of the writer has all that follows; of copies, those that go on longest.
            found.sort(key=lambda one: (one.is_written, one.max_lsn), reverse=True)
            if not found:
                found = self._with_withdrawn(wanted)
            pinned = [(one, self._db._pin(one.segment.segment_id)) for one in found]
            return [(one, pin) for one, pin in pinned if pin is not None]

    def _with_withdrawn(self, wanted: int) -> list[Extent]:
        """Those that may have the LSN in a withdrawn commit, which the counters leave out."""
        written = [one for one in self._extents() if one.is_written and one.max_lsn < wanted]
        return sorted(written, key=lambda one: one.max_lsn, reverse=True)[:1] + [
            one for one in written if one.max_lsn == 0
        ]

    def _extents(self) -> list[Extent]:
        """All segments with records. Requires: space lock held."""
        segments = self._db._segments
        retired = [segment for segment, _ in segments.retired]
        found = []
        for segment in [*segments.open.values(), *retired]:
            if segment.segment_id in segments.unlisted:
                continue  # a compaction is filling it; its inputs are there as well
            counts = self._db._segment_counts(segment.segment_id)
            if counts["used"] > SEGMENT_HEADER_SIZE:
                found.append(Extent(segment, counts["used"], counts["min_lsn"], counts["max_lsn"]))
        return found

    def _oldest_lsn(self) -> int:
        """The lowest `since` from which on the segments of the writer have everything."""
        with self._db._segments.space_lock:
            self._db.check_open()
            last_lsn = committed_lsn(self._db)
            written = [one for one in self._extents() if one.is_written and one.max_lsn]
        oldest = last_lsn
        for one in sorted(written, key=lambda one: one.max_lsn, reverse=True):
            if one.max_lsn < oldest:
                break
            oldest = one.min_lsn - 1
        return oldest


def committed_lsn(db: DB) -> int:
    """The newest LSN, asked for under the write lock: `last_lsn` may be one that a failing write takes back."""
    return int(db._log_end()[4])


class Followed:
    """The part of `DB` that lets its changes be followed."""

    def changes(self, since: int = 0, *, value_bytes_max: int | None = None) -> Changes:
        """The committed puts and deletes after the LSN `since`, in the order of their LSNs, out of the log.

        Batches are given whole as long as compaction has not copied them. Values of more than `value_bytes_max` bytes
        are left out. ChangesLostError, here or while reading, when compaction has removed some of what was asked for.

        What was given survives the death of the process, with the same LSNs. After a power cut the store may have lost
        what was not synced, though it was given here, and uses those LSNs again: where that matters, take only what is
        not above `stats().synced_lsn`, or open the store with durability="always".
        """
        return Changes(cast("DB", self), since, value_bytes_max)
