"""The segments of an open store: room for writes, sealing, what compaction puts in the place of what, the end.

`SegmentList` (segment_list.py) owns the manifest and every open `Segment`. A segment's life: created (listed
in the manifest, durable, empty), active (written to), rotated (full, waiting to be sealed), sealed (cut,
synced, listed with its size, then given a hint file), retired (compacted away: unlinked, still mapped while a snapshot
reads it), closed.

Lock order: the seal lock (one sealing at a time) or the hint lock (one hint file at a time), then `space_lock`
(guards the lists, the manifest and the reserve), then the sync lock (durability.py), then the write lock.

Invariants: a segment is in the durable manifest before a record is written to it, so every acknowledged
record is found; a file is removed only after a manifest without it is durable.
"""

from __future__ import annotations

import errno
import os
import time
from functools import partial

from flash_kv.engine.segment_list import SegmentList
from flash_kv.engine.steps import call_all
from flash_kv.errors import StorageError, StoreFullError, storage_error
from flash_kv.log.hint_file import write_hint
from flash_kv.log.hints_cy import HintRun, build_hint
from flash_kv.log.manifest import SegmentEntry
from flash_kv.log.names import hint_name
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.scan_cy import scan_segment
from flash_kv.log.segment import Segment

# Pages brought into memory by one call, some 100 us: one huge page where there are such.
POPULATE_BYTES = 2 * 1024**2
# Some thousand of the smallest records.
WAKE_BYTES = 512 * 1024


class SegmentSet(SegmentList):
    """The segments of one store, and what is done with them."""

    @property
    def is_mine(self) -> bool:
        """Whether this very thread is in the middle of a step: then what calls is a finaliser.

        It must neither see the step half done nor wait for the space lock with the sync lock held.
        """
        return self.space_lock._is_owned() or self.store._sync_lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    # -- room for a write

    def make_room(self, size: int, is_delete: bool) -> None:
        """Let the log take `size` more bytes. StoreFullError with nothing changed when the disk is full."""
        if self.is_mine:
            # A finaliser that writes, in the middle of a step of this thread that must not find another manifest.
            raise StorageError(errno.EDEADLK, self.directory, "make room, from a finaliser, in")
        with self.space_lock:
            # A write that waited here while the store was closed: the directory may be another process's by now.
            self.store.check_open()
            if not is_delete:
                self._require_whole_reserve()
            try:
                self._make_room(size)
            except StoreFullError:
                # What frees space may use what was set aside for it.
                if not is_delete or not self.reserve.release_half():
                    raise
                self._make_room(size, is_sparing=True)

    def _require_whole_reserve(self) -> None:
        """Space that the reserve has given away is not for puts: compaction would have none to begin with."""
        if not self.reserve.is_whole():
            self.reserve.keep()
            if not self.reserve.is_whole():
                raise StoreFullError(self.directory, "write to")

    def keep_reserve(self) -> None:
        """Have the reserve whole, if the disk has room for it by now."""
        if self.is_mine or self.store._compactor.is_mine:
            # A finaliser, in the middle of a step that may be using it.
            return
        with self.space_lock:
            self.reserve.keep()

    def _make_room(self, size: int, is_sparing: bool = False) -> None:
        segment_id, tail, limit, capacity, _, _ = self.store._log_end()
        if segment_id and tail + size <= limit:
            return
        if segment_id and tail + size <= capacity:
            active = self.open[segment_id]
            if tail + size > active.allocated:
                active.grow(tail + size)
            self.store._extend(segment_id, self._limit_for(tail + size, active))
            return
        self._rotate(size, is_sparing)

    def _rotate(self, size: int, is_sparing: bool) -> None:
        wanted = SEGMENT_HEADER_SIZE + size
        segment, self.spare = self.spare, None
        if segment is not None and segment.capacity < wanted:
            self.spare, segment = segment, None
        if segment is None:
            segment = self.create("writer", wanted, is_sparing)
            self.list_unsealed(segment)
            self.reserve.keep()
        elif segment.allocated < wanted:
            try:
                segment.grow(wanted)
            except BaseException:
                self.spare = segment
                raise
        self.store._activate(
            segment.segment_id,
            segment.mapping,
            segment.fd,
            SEGMENT_HEADER_SIZE,
            self._limit_for(wanted, segment),
            segment.capacity,
        )

    def _limit_for(self, wanted: int, active: Segment) -> int:
        """How far the writer may go before it asks again, which wakes the background: that may have to checkpoint."""
        if self.options.index != "bptree":
            return active.allocated
        return min(active.allocated, wanted + WAKE_BYTES)

    def grow_ahead(self) -> None:
        """Have the pages that come next allocated and in memory before a write gets there."""
        with self.space_lock:
            segment_id, tail, _, capacity, _, _ = self.store._log_end()
            active = self.open.get(segment_id)
            if active is None or active.is_zeroed or not self.reserve.is_whole():
                return
            before = active.allocated
            if before < capacity and before - tail <= before // 2:
                active.grow(before + 1)
                # The writer is told of half of it: when that is used up it asks again, and wakes this up for more.
                if self.options.index != "bptree":
                    self.store._extend(segment_id, (before + active.allocated) // 2)
            start, active.populated = max(tail, active.populated), active.allocated
            end = active.allocated
        for offset in range(start // POPULATE_BYTES * POPULATE_BYTES, end, POPULATE_BYTES):
            active.populate(max(offset, start), min(offset + POPULATE_BYTES, end))

    def prepare_spare(self) -> None:
        """Have the next segment ready when the active one is half full, so that no write waits for its creation."""
        with self.space_lock:
            segment_id, tail, _, capacity, _, _ = self.store._log_end()
            if not segment_id or self.spare is not None or tail * 2 < capacity:
                return
            if capacity > self.options.segment_bytes_max or not self.reserve.is_whole():
                return
            spare = self.create("writer", min(self.options.segment_bytes_max, 1 << 20))
            self.list_unsealed(spare)
            self.spare = spare

    # -- sealing

    def rotate(self) -> None:
        """Close the active segment to writes, so that it can be sealed; the next write starts a new one."""
        with self.space_lock:
            self.store._deactivate()

    def seal_rotated(self, *, is_freeing: bool = False) -> int:
        """Seal all segments that are rotated now, oldest first; how many. Writers go on meanwhile."""
        count = 0
        with self._seal_lock:
            with self.space_lock:
                full = self.rotated()
            for segment in full:
                self._seal(segment, is_freeing)
                count += 1
        return count

    def _seal(self, segment: Segment, is_freeing: bool) -> None:
        """Requires: seal lock held. Interrupted at any point, it can be done again."""
        end = self.store._segment_counts(segment.segment_id)["used"]
        if end == SEGMENT_HEADER_SIZE:
            self._drop_empty(segment)
            return
        with self.store._sync_lock:
            self.seal_file(segment, end)
        with self.space_lock:
            before = self.entries[segment.segment_id], self.last_lsn
            entry = self._sealed_entry(segment)
            try:
                self.entries[segment.segment_id] = entry
                self.last_lsn = max(self.last_lsn, entry.max_lsn)
                self.write_manifest(is_freeing=is_freeing)
            except BaseException:
                # Both: a manifest that lists it as unsealed and counts its LSNs would have the next open drop it.
                self.entries[segment.segment_id], self.last_lsn = before
                raise
            self.unsealed.pop(segment.segment_id, None)
            self.hintless[segment.segment_id] = segment
        with self.store._sync_lock:
            segment.release_descriptor()

    def _sealed_entry(self, segment: Segment) -> SegmentEntry:
        """What the manifest says of a sealed segment."""
        counts = self.store._segment_counts(segment.segment_id)
        return SegmentEntry(
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            origin=segment.origin,
            sealed_bytes=segment.sealed_bytes,
            min_lsn=counts["min_lsn"],
            max_lsn=counts["max_lsn"],
            records=counts["value_records"] + counts["tombstones"],
            tombstones=counts["tombstones"],
        )

    def _drop_empty(self, segment: Segment) -> None:
        """Take a segment without a record out of the manifest, then off the disk."""
        with self.space_lock:
            # Written also when it is not listed here any more: the manifest on disk may be an older one.
            self.entries.pop(segment.segment_id, None)
            self.write_manifest()
            self.discard(segment)

    def seal_file(self, segment: Segment, end: int) -> None:
        """Cut and sync; a failure poisons the store, for what was not synced may be gone."""
        if segment.sealed_bytes is not None:
            return
        self.store._limit(segment.segment_id, end)
        try:
            segment.seal(end)
        except OSError as error:
            self.store._poison(error)
            raise storage_error(error, path=segment.path, operation="sync") from error

    def _make_hint(self, segment: Segment) -> None:
        """Write the hint file of a sealed segment, if the disk has room for it."""
        scan = scan_segment(
            segment.source(),
            segment.readable_bytes,
            store_id=self.store_id,
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            is_sealed=True,
            # Compaction copies records with their LSNs, in any order.
            is_ordered=segment.origin == "writer",
        )
        scan.require_sound(segment.path)
        self.write_hint(segment, build_hint(scan))

    def write_hint(self, segment: Segment, run: HintRun) -> None:
        """Hints only save time: on a full disk there is none, and the next open scans the segment."""
        with self.space_lock:
            if not self.reserve.is_whole():
                self.hintless[segment.segment_id] = segment
                return
        try:
            write_hint(self.system, self.directory, segment.segment_id, run)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise storage_error(error, path=self.directory, operation="write a hint file in") from error

    # -- compaction

    def install(self, outputs: list[Segment], inputs: list[Segment]) -> None:
        """Make sealed outputs stand for `inputs`: one replaced manifest, then the inputs are unlinked."""
        with self.space_lock:
            # Requires: every output the index points into is among these or listed already (`adopt`).
            added = {segment.segment_id: self._sealed_entry(segment) for segment in outputs}
            removed = {segment.segment_id: self.entries[segment.segment_id] for segment in inputs}
            kept = {number: entry for number, entry in self.entries.items() if number not in removed}
            # In one step: a manifest with some of the inputs could lack the tombstone for a value in the others.
            self.entries = kept | added
            try:
                self.write_manifest()
            except BaseException:
                # The outputs stay listed for the next manifest: the index already points into them.
                self.entries = kept | added | removed
                raise
            for segment in outputs:
                self.hintless[segment.segment_id] = segment
                self.unlisted.pop(segment.segment_id, None)
            self._retire_replaced()

    def _retire_replaced(self) -> None:
        """Retire the segments that no manifest lists any more. Requires: space lock held. StorageError.

        Found by looking: what was interrupted here, or could not be unlinked, must not hold the tombstones' floor and
        the descriptors of all that was replaced with it until the store is closed.
        """
        retired_at = self.store._log_end()[4]
        for segment_id, segment in list(self.open.items()):
            if segment_id in self.entries or segment_id in self.unlisted or segment_id in self.unsealed:
                continue
            self.hintless.pop(segment_id, None)
            self.removable.append(segment)
            self.retired.append((segment, retired_at))
            del self.open[segment_id]
        # Once: a file that cannot be unlinked is the next open's.
        removing, self.removable = self.removable, []
        call_all([partial(self._unlink, segment) for segment in removing])

    def adopt(self, outputs: list[Segment]) -> list[Segment]:
        """Make outputs durable, for `install`; empty ones go."""
        sealed = []
        for segment in outputs:
            end = self.store._segment_counts(segment.segment_id)["used"]
            if end == SEGMENT_HEADER_SIZE:
                with self.space_lock:
                    self.discard(segment)
                continue
            self.seal_file(segment, end)
            segment.release_descriptor()
            sealed.append(segment)
        return sealed

    def put_off_hints(self, segment_ids: list[int]) -> None:
        """These segments are about to be replaced: a hint file of one would be work for nothing.

        Waits for the one that is being written, which keeps its segment from being unmapped.
        """
        with self._hint_lock, self.space_lock:
            for segment_id in segment_ids:
                if segment_id in self.hintless:
                    self.put_off[segment_id] = self.hintless.pop(segment_id)

    def resume_hints(self, segment_ids: list[int]) -> None:
        """The compaction is over; those that it has not replaced need their hint file after all."""
        with self.space_lock:
            for segment_id in segment_ids:
                segment = self.put_off.pop(segment_id, None)
                if segment is not None and segment_id in self.entries:
                    self.hintless[segment_id] = segment

    def write_missing_hints(self) -> None:
        """Write the hint files of sealed segments: they only save time, so nothing waits for them.

        On a full disk none is written; they come when there is space again.
        """
        with self._hint_lock:
            with self.space_lock:
                waiting = list(self.hintless) if self.reserve.is_whole() else []
            for segment_id in waiting:
                segment = self.hintless.get(segment_id)
                pin = self.store._pin(segment_id)
                if segment is None or pin is None:
                    self.hintless.pop(segment_id, None)
                    continue
                try:
                    self._make_hint(segment)
                finally:
                    pin.release()
                self.hintless.pop(segment_id, None)
                with self.space_lock:
                    if segment_id not in self.entries:
                        # Compacted away meanwhile.
                        self._unlink(segment)

    def _unlink(self, segment: Segment) -> None:
        for path in (segment.path, os.path.join(self.directory, hint_name(segment.segment_id))):
            try:
                self.system.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, path=path, operation="unlink") from error

    def release_retired(self) -> None:
        """Unmap retired segments that no snapshot needs any more."""
        with self.space_lock:
            self._retire_replaced()
            if not self.retired:
                return
            for _ in range(0, self.store._chain_count(), 1024):
                self.store._collapse_versions(1024)
            oldest = self.store._oldest_snapshot()
            kept = []
            for segment, retired_at in self.retired:
                is_needed = oldest is not None and oldest <= retired_at
                if is_needed or not self.store._unregister(segment.segment_id):
                    kept.append((segment, retired_at))
                else:
                    self.released.append(segment)
            self.retired = kept
        # Giving up hundreds of megabytes takes the kernel some while, for which no write has to wait.
        with self._release_lock:
            while self.released:
                segment = self.released[-1]
                segment.close()
                # By a finaliser in the middle of this it may be gone already.
                if segment in self.released:
                    self.released.remove(segment)

    # -- the end

    def close(self) -> None:
        """Seal what is open, remove the spare, leave a clean manifest."""
        try:
            self._close()
        except StoreFullError:
            # Closing needs room for a manifest only.
            if not self.reserve.release():
                raise
            self._close()

    def _close(self) -> None:
        self.rotate()
        self.seal_rotated(is_freeing=True)
        self.write_missing_hints()
        self.drop_spare()

    def drop_spare(self) -> None:
        """Give the space of the spare segment back."""
        with self.space_lock:
            if self.spare is not None:
                self._drop_empty(self.spare)
                self.spare = None

    def close_files(self) -> None:
        """Unmap and close everything, whatever state it is in."""
        with self.space_lock:
            self._is_let_go = True
            with self._release_lock:
                closing, self.released = self.released, []
            closing += [*self.open.values(), *(segment for segment, _ in self.retired)]
            self.open.clear()
            self.unsealed.clear()
            self.unlisted.clear()
            self.hintless.clear()
            self.put_off.clear()
            self.retired.clear()
            self.spare = None
            # All of them, also when closing one fails.
            for segment in closing:
                # A read that runs without the GIL ends before its pages go; no other begins in a closed store.
                while not self.store._unregister(segment.segment_id):
                    time.sleep(0.0005)
            call_all([*(segment.close for segment in closing), self.release_hints])
