"""The segments of an open store: which there are, which one is active, and what the manifest says of them.

Owns the manifest and every open `Segment`. A segment's life: created (listed in the manifest, durable, empty), active
(written to), rotated (full, waiting to be sealed), sealed (cut, synced, hint written, listed with its size), retired
(compacted away: unlinked, still mapped while a snapshot reads it), closed.

Lock order: the seal lock (one sealing at a time), then `space_lock` (guards everything here) or the sync lock
(durability.py), never one inside the other, then the write lock.

Invariants: a segment is in the durable manifest before a record is written to it, so every acknowledged
record is found; a file is removed only after a manifest without it is durable.
"""

from __future__ import annotations

import errno
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.engine.reserve import Reserve
from flash_kv.errors import CorruptionError, FlashKVError, StorageError, StoreFullError, storage_error
from flash_kv.io.system import System
from flash_kv.log.hint_file import write_hint
from flash_kv.log.hints_cy import HintRun, build_hint
from flash_kv.log.manifest import Manifest, Origin, SegmentEntry, read_manifest, write_manifest
from flash_kv.log.names import SEGMENT_ID_MAX, hint_name
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.scan_cy import scan_segment
from flash_kv.log.segment import Segment, create_segment
from flash_kv.options import Options, parse_durability

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

# Pages brought into memory by one call, some 100 us.
POPULATE_BYTES = 1024**2


class SegmentSet:
    """All segments of one store and their manifest."""

    def __init__(
        self, system: System, directory: Path, options: Options, manifest: Manifest, store: DB
    ) -> None:
        self.system = system
        self.directory = directory
        self.options = options
        self.store = store
        self.reserve = Reserve(system, directory, options.reserve_bytes)
        self.store_id = manifest.store_id
        self.hash_key = manifest.hash_key
        self.epoch = manifest.epoch
        self.next_segment_id = manifest.next_segment_id
        self.last_lsn = manifest.last_lsn
        self.entries: dict[int, SegmentEntry] = {entry.segment_id: entry for entry in manifest.segments}
        self.open: dict[int, Segment] = {}
        self.unsealed: dict[int, Segment] = {}
        # Outputs of compactions that the manifest does not list yet; the index may point into them.
        self.unlisted: dict[int, Segment] = {}
        # Outputs whose hint file is still to be written.
        self.hintless: dict[int, Segment] = {}
        self.spare: Segment | None = None
        self.retired: list[tuple[Segment, int]] = []
        # Guards the lists above, the manifest, the reserve. Reentrant: garbage collected while it is held may
        # finalise an object whose __del__ writes to this store.
        self.space_lock = threading.RLock()
        # One sealing at a time; taken before all other locks.
        self._seal_lock = threading.RLock()
        self._has_epoch = False
        # Where commits wait for syncs, segments are written with zeros ahead of use: a sync then has no metadata to
        # commit, and data on blocks that were merely allocated has been seen lost after a sync that reported success.
        self.is_zeroing = parse_durability(options.durability).kind != "process"

    @property
    def active(self) -> Segment | None:
        """The segment that is written to. Only the writer itself knows, so it is asked."""
        return self.open.get(self.store._log_end()[0])

    def rotated(self) -> list[Segment]:
        """The unsealed segments that nothing is written to any more, oldest first. Requires: space lock held.

        Found by looking, not kept in a list of its own, so that nothing can be forgotten between two steps.
        """
        active_id = self.store._log_end()[0]
        full = [
            segment
            for segment in self.unsealed.values()
            if segment.segment_id != active_id and segment is not self.spare
        ]
        return sorted(full, key=lambda segment: self.store._segment_counts(segment.segment_id)["min_lsn"])

    # -- the manifest

    def write_manifest(self) -> None:
        """Make the present state durable. Requires: space lock held. StoreFullError, StorageError."""
        manifest = Manifest(
            store_id=self.store_id,
            hash_key=self.hash_key,
            epoch=self.epoch,
            next_segment_id=self.next_segment_id,
            last_lsn=self.last_lsn,
            segments=tuple(self.entries[segment_id] for segment_id in sorted(self.entries)),
        )
        try:
            write_manifest(self.system, self.directory, manifest)
        except OSError as error:
            raise storage_error(error, path=self.directory, operation="replace the manifest in") from error

    # -- new segments

    def create(self, origin: Origin, wanted: int) -> Segment:
        """A new registered segment with room for `wanted` bytes, not yet listed. Requires: space lock held."""
        if self.next_segment_id > SEGMENT_ID_MAX:
            raise StorageError(errno.EOVERFLOW, self.directory, "number one more segment of")
        if not self._has_epoch:
            # A new epoch for all this opening writes: old bytes can never pass for new ones.
            self.epoch += 1
            self._has_epoch = True
        segment_id = self.next_segment_id
        self.next_segment_id += 1
        segment = create_segment(
            self.system,
            self.directory,
            segment_id=segment_id,
            epoch=self.epoch,
            origin=origin,
            store_id=self.store_id,
            capacity=self.options.segment_bytes_max,
            wanted=wanted,
            io=self.options.io,
            is_zeroed=origin == "writer" and self.is_zeroing,
        )
        if origin == "compaction":
            self.unlisted[segment_id] = segment
        self.register(segment, SEGMENT_HEADER_SIZE)
        return segment

    def register(self, segment: Segment, used: int) -> None:
        """Let positions name this segment."""
        self.store._register(
            segment.segment_id,
            segment.epoch,
            self.store_id,
            segment.mapping,
            segment.fd,
            segment.readable_bytes,
            used,
        )
        self.open[segment.segment_id] = segment

    def list_unsealed(self, segment: Segment) -> None:
        """Enter a new segment of the writer in the manifest, durably. Requires: space lock held."""
        self.entries[segment.segment_id] = SegmentEntry(
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            origin=segment.origin,
            sealed_bytes=None,
            min_lsn=0,
            max_lsn=0,
            records=0,
            tombstones=0,
        )
        self.unsealed[segment.segment_id] = segment
        try:
            self.write_manifest()
        except BaseException:
            # The manifest on disk may be the new one already. Then the file stays: as one that is full but empty it
            # goes with the next sealing, once a manifest without it is durable.
            self.entries.pop(segment.segment_id, None)
            if not self._may_be_listed(segment.segment_id):
                self.discard(segment)
            raise

    def _may_be_listed(self, segment_id: int) -> bool:
        """Does the manifest on disk list this segment? True also when that cannot be told."""
        try:
            manifest = read_manifest(self.system, self.directory)
        except (OSError, FlashKVError):
            return True
        return any(entry.segment_id == segment_id for entry in manifest.segments)

    def discard(self, segment: Segment) -> None:
        """Forget and remove a segment without a record. Requires: space lock held."""
        self.forget(segment)
        self.system.unlink(segment.path)

    def forget(self, segment: Segment) -> None:
        """Close a segment without a record. Requires: space lock held."""
        for listing in (self.open, self.unsealed, self.unlisted):
            listing.pop(segment.segment_id, None)
        self.store._unregister(segment.segment_id)
        with self.store._sync_lock:
            segment.close()

    # -- room for a write

    def make_room(self, size: int, is_delete: bool) -> None:
        """Let the log take `size` more bytes. StoreFullError with nothing changed when the disk is full."""
        with self.space_lock:
            try:
                self._make_room(size)
            except StoreFullError:
                # What frees space may use what was set aside for it.
                if not is_delete or not self.reserve.release():
                    raise
                self._make_room(size)

    def _make_room(self, size: int) -> None:
        segment_id, tail, limit, capacity, _, _ = self.store._log_end()
        if segment_id and tail + size <= limit:
            return
        if segment_id and tail + size <= capacity:
            active = self.open[segment_id]
            if tail + size > active.allocated:
                active.grow(tail + size)
            self.store._extend(segment_id, active.allocated)
            return
        self._rotate(size)

    def _rotate(self, size: int) -> None:
        wanted = SEGMENT_HEADER_SIZE + size
        segment, self.spare = self.spare, None
        if segment is not None and segment.capacity < wanted:
            self.spare, segment = segment, None
        if segment is None:
            segment = self.create("writer", wanted)
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
            segment.allocated,
            segment.capacity,
        )

    def grow_ahead(self) -> None:
        """Have the pages that come next allocated and in memory before a write gets there."""
        with self.space_lock:
            segment_id, tail, _, capacity, _, _ = self.store._log_end()
            active = self.open.get(segment_id)
            if active is None or active.is_zeroed:
                return
            before = active.allocated
            if before < capacity and before - tail <= before // 2:
                active.grow(before + 1)
                # The writer is told of half of it: when that is used up it asks again, and wakes this up for more.
                self.store._extend(segment_id, (before + active.allocated) // 2)
            start, active.populated = max(tail, active.populated), active.allocated
            end = active.allocated
        for offset in range(start, end, POPULATE_BYTES):
            active.populate(offset, min(offset + POPULATE_BYTES, end))

    def prepare_spare(self) -> None:
        """Have the next segment ready when the active one is half full, so that no write waits for its creation."""
        with self.space_lock:
            segment_id, tail, _, capacity, _, _ = self.store._log_end()
            if not segment_id or self.spare is not None or tail * 2 < capacity:
                return
            if capacity > self.options.segment_bytes_max:
                return
            spare = self.create("writer", min(self.options.segment_bytes_max, 1 << 20))
            self.list_unsealed(spare)
            self.spare = spare

    # -- sealing

    def rotate(self) -> None:
        """Close the active segment to writes, so that it can be sealed; the next write starts a new one."""
        with self.space_lock:
            self.store._deactivate()

    def seal_rotated(self) -> int:
        """Seal all segments that are rotated now, oldest first; how many. Writers go on meanwhile."""
        count = 0
        with self._seal_lock:
            with self.space_lock:
                full = self.rotated()
            for segment in full:
                self._seal(segment)
                count += 1
        return count

    def _seal(self, segment: Segment) -> None:
        """Requires: seal lock held. Interrupted at any point, it can be done again."""
        end = self.store._segment_counts(segment.segment_id)["used"]
        if end == SEGMENT_HEADER_SIZE:
            self._drop_empty(segment)
            return
        with self.store._sync_lock:
            self.seal_file(segment, end)
        run = self.make_hint(segment, is_ordered=True)
        with self.space_lock:
            before = self.entries[segment.segment_id]
            self.entries[segment.segment_id] = entry_of(segment, run)
            self.last_lsn = max(self.last_lsn, run.seen_lsn)
            try:
                self.write_manifest()
            except BaseException:
                self.entries[segment.segment_id] = before
                raise
            self.unsealed.pop(segment.segment_id, None)
        with self.store._sync_lock:
            segment.release_descriptor()

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

    def make_hint(self, segment: Segment, *, is_ordered: bool) -> HintRun:
        """Write the hint file of a sealed segment, if the disk has room for it; the run it holds."""
        scan = scan_segment(
            segment.source(),
            segment.readable_bytes,
            store_id=self.store_id,
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            is_sealed=True,
            is_ordered=is_ordered,
        )
        scan.require_sound(segment.path)
        run = build_hint(scan)
        self.write_hint(segment, run)
        return run

    def write_hint(self, segment: Segment, run: HintRun) -> None:
        """Hints only save time: on a full disk there is none, and the next open scans the segment."""
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
            added = {}
            for segment in outputs:
                counts = self.store._segment_counts(segment.segment_id)
                added[segment.segment_id] = SegmentEntry(
                    segment_id=segment.segment_id,
                    epoch=segment.epoch,
                    origin=segment.origin,
                    sealed_bytes=segment.sealed_bytes,
                    min_lsn=counts["min_lsn"],
                    max_lsn=counts["max_lsn"],
                    records=counts["value_records"] + counts["tombstones"],
                    tombstones=counts["tombstones"],
                )
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
            retired_at = self.store._log_end()[4]
            for segment in inputs:
                self.hintless.pop(segment.segment_id, None)
                self.open.pop(segment.segment_id)
                self.retired.append((segment, retired_at))
                self._unlink(segment)

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

    def write_missing_hints(self) -> None:
        """Write the hint files of compaction's outputs: they only save time, so nothing waits for them."""
        for segment_id in list(self.hintless):
            segment = self.hintless.get(segment_id)
            if segment is None or not self.store._pin(segment_id):
                self.hintless.pop(segment_id, None)
                continue
            try:
                self.make_hint(segment, is_ordered=False)
            finally:
                self.store._unpin(segment_id)
            self.hintless.pop(segment_id, None)
            with self.space_lock:
                if segment_id not in self.entries:
                    # Compacted away meanwhile.
                    self._unlink(segment)

    def _unlink(self, segment: Segment) -> None:
        for path in (segment.path, self.directory / hint_name(segment.segment_id)):
            try:
                self.system.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, path=path, operation="unlink") from error

    def release_retired(self) -> None:
        """Unmap retired segments that no snapshot needs any more."""
        with self.space_lock:
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
                    segment.close()
            self.retired = kept

    def sealed(self) -> list[Segment]:
        """The sealed segments, oldest first."""
        with self.space_lock:
            return [
                self.open[segment_id]
                for segment_id, entry in sorted(self.entries.items())
                if entry.sealed_bytes is not None and segment_id in self.open
            ]

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
        self.seal_rotated()
        self.write_missing_hints()
        with self.space_lock:
            if self.spare is not None:
                self._drop_empty(self.spare)
                self.spare = None

    def close_files(self) -> None:
        """Unmap and close everything, whatever state it is in."""
        with self.space_lock:
            closing = [*self.open.values(), *(segment for segment, _ in self.retired)]
            self.open.clear()
            self.unsealed.clear()
            self.unlisted.clear()
            self.hintless.clear()
            self.retired.clear()
            self.spare = None
            # All of them, also when closing one fails.
            with ExitStack() as steps:
                for segment in closing:
                    # A read that runs without the GIL ends before its pages go; no other begins in a closed store.
                    while not self.store._unregister(segment.segment_id):
                        time.sleep(0.0005)
                    steps.callback(segment.close)


def entry_of(segment: Segment, run: HintRun) -> SegmentEntry:
    """What the manifest says of a sealed segment."""
    if segment.sealed_bytes is None:
        raise CorruptionError(segment.path, 0, "the segment is not sealed")
    return SegmentEntry(
        segment_id=segment.segment_id,
        epoch=segment.epoch,
        origin=segment.origin,
        sealed_bytes=segment.sealed_bytes,
        min_lsn=run.min_lsn,
        max_lsn=run.max_lsn,
        records=run.value_records + run.tombstones,
        tombstones=run.tombstones,
    )
