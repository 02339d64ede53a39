"""Which segments an open store has, and the manifest that says so.

Lock order, invariants and the life of a segment: segment_set.py, where what is done with them stands.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from flash_kv.engine.part import Part
from flash_kv.engine.reserve import Reserve
from flash_kv.engine.steps import call_all
from flash_kv.errors import ClosedError, FlashKVError, StorageError, StoreFullError, StrPath, storage_error
from flash_kv.io.mapping_cy import Mapping
from flash_kv.io.system import System
from flash_kv.log.manifest import Manifest, Origin, SegmentEntry, read_manifest, write_manifest
from flash_kv.log.names import SEGMENT_ID_MAX, hint_name
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.segment import Segment, create_segment
from flash_kv.options import Options, parse_durability

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class SegmentList(Part):
    """All segments of one store and their manifest."""

    def __init__(
        self, system: System, directory: StrPath, options: Options, manifest: Manifest, store: DB
    ) -> None:
        super().__init__(store)
        self.system = system
        # Not a Path: to join one takes as long as to open a file.
        self.directory = os.fspath(directory)
        self.options = options
        self.reserve = Reserve(system, self.directory, options.reserve_bytes)
        self.store_id = manifest.store_id
        self.hash_key = manifest.hash_key
        self.epoch = manifest.epoch
        self.next_segment_id = manifest.next_segment_id
        self.last_lsn = manifest.last_lsn
        self.codecs = manifest.codecs
        self.entries: dict[int, SegmentEntry] = {entry.segment_id: entry for entry in manifest.segments}
        self.open: dict[int, Segment] = {}
        self.unsealed: dict[int, Segment] = {}
        # Outputs of compactions that the manifest does not list yet; the index may point into them.
        self.unlisted: dict[int, Segment] = {}
        # Sealed segments whose hint file is still to be written.
        self.hintless: dict[int, Segment] = {}
        # Of those, the ones that a compaction is about to replace.
        self.put_off: dict[int, Segment] = {}
        # Of the hint files an open reads, until its index is loaded.
        self._hint_mappings: list[Mapping] = []
        self.spare: Segment | None = None
        self.retired: list[tuple[Segment, int]] = []
        # Those that nothing reads any more, about to be closed.
        self.released: list[Segment] = []
        # Of the retired ones, those whose files are still there.
        self.removable: list[Segment] = []
        # Guards the lists above, the manifest, the reserve. Reentrant: garbage collected while it is held may
        # finalise an object whose __del__ writes to this store.
        self.space_lock = threading.RLock()
        # One sealing at a time; taken before all other locks.
        self._seal_lock = threading.RLock()
        # One hint file is written at a time: the background thread's, a backup's, the closing thread's. As the above.
        self._hint_lock = threading.RLock()
        # Guards the closing of those released, nothing else; no lock is taken inside it.
        self._release_lock = threading.RLock()
        self._has_epoch = False
        self._has_new_names = False
        self._is_let_go = False
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

    def sealed(self) -> list[Segment]:
        """The sealed segments, oldest first."""
        with self.space_lock:
            return [
                self.open[segment_id]
                for segment_id, entry in sorted(self.entries.items())
                if entry.sealed_bytes is not None and segment_id in self.open
            ]

    def map_hint(self, fd: int, size: int) -> Mapping:
        """A hint file's content, until `release_hints`."""
        mapping = self.system.map(fd, size, False)
        self._hint_mappings.append(mapping)
        return mapping

    def release_hints(self) -> None:
        """Unmap the hint files: not left to whoever holds their runs, such as an exception's traceback."""
        mappings, self._hint_mappings = self._hint_mappings, []
        call_all([mapping.close for mapping in mappings])

    # -- the manifest

    def write_manifest(self, *, is_freeing: bool = True) -> None:
        """Make the present state durable. Requires: space lock held. StoreFullError, StorageError.

        `is_freeing`: it is a step to more free space, or to a store in good order, and may use what was set aside.
        """
        while True:
            try:
                self._write_manifest()
                return
            except StoreFullError:
                if not is_freeing or not (self.reserve.release() or self._remove_a_hint()):
                    raise

    def _remove_a_hint(self) -> bool:
        """Give up a hint file for its space: it only saves time. False when there is none."""
        for segment_id in self.entries:
            try:
                self.system.unlink(os.path.join(self.directory, hint_name(segment_id)))
                return True
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, path=self.directory, operation="unlink a hint file in") from error
        return False

    def _write_manifest(self) -> None:
        if self._is_let_go:
            # The directory may be another process's by now, and its manifest must not be replaced.
            raise ClosedError(self.directory)
        manifest = Manifest(
            store_id=self.store_id,
            hash_key=self.hash_key,
            epoch=self.epoch,
            next_segment_id=self.next_segment_id,
            last_lsn=self.last_lsn,
            codecs=self.codecs,
            segments=tuple(self.entries[segment_id] for segment_id in sorted(self.entries)),
        )
        try:
            if self._has_new_names:
                # Durability: the names of new segments first, or a power cut could leave a manifest that lists what is
                # not there.
                self.system.sync_directory(self.directory)
                self._has_new_names = False
            write_manifest(self.system, self.directory, manifest)
        except OSError as error:
            raise storage_error(error, path=self.directory, operation="replace the manifest in") from error

    # -- new segments

    def create(self, origin: Origin, wanted: int, is_sparing: bool = False) -> Segment:
        """A new registered segment with room for `wanted` bytes, not yet listed. Requires: space lock held.

        `is_sparing`: and no more than that, for the manifest which lists it needs room as well.
        """
        if self.next_segment_id > SEGMENT_ID_MAX:
            raise StorageError(errno.EOVERFLOW, self.directory, "number one more segment of")
        if not self._has_epoch:
            # A new epoch for all this opening writes: old bytes can never pass for new ones.
            self.epoch += 1
            self._has_epoch = True
        segment_id = self.next_segment_id
        self.next_segment_id += 1
        self._has_new_names = True
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
            is_sparing=is_sparing,
        )
        try:
            self.register(segment, SEGMENT_HEADER_SIZE)
        except BaseException:
            # No memory for the table; nothing else knows of the segment yet.
            self.discard(segment)
            raise
        if origin == "compaction":
            self.unlisted[segment_id] = segment
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
            self.write_manifest(is_freeing=False)
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
        try:
            self.system.unlink(segment.path)
        except OSError as error:
            raise storage_error(error, path=segment.path, operation="unlink") from error

    def forget(self, segment: Segment) -> None:
        """Close a segment without a record. Requires: space lock held."""
        for listing in (self.open, self.unsealed, self.unlisted):
            listing.pop(segment.segment_id, None)
        self.store._unregister(segment.segment_id)
        with self.store._sync_lock:
            segment.close()
