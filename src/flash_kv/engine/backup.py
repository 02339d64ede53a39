"""Backup: the store as of one moment, in a new directory that opens as a store by itself.

The active segment is sealed first, so that nearly all of the log is in files that never change again. Those
are hard-linked while the space lock is held: compaction unlinks segments, and a second name keeps them. What
cannot be linked (another file system, a segment that writers began meanwhile) is copied afterwards, from the
open segment and not by its name, with a snapshot open so that it stays mapped; writers go on all the while.

Invariants: the copy holds every record up to one LSN and none behind it; it has the same store id, segment
ids and epochs, for the checksums are seeded with them; it is durable when it gets its name.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.engine.content import read_content
from flash_kv.engine.moment import Moment, Part, moment_of
from flash_kv.engine.reports import BackupReport
from flash_kv.engine.staging import Staging
from flash_kv.errors import ClosedError, FlashKVError, StorageError, StoreFullError, StrPath, storage_error
from flash_kv.log.hint_file import write_hint
from flash_kv.log.hints_cy import build_hint
from flash_kv.log.manifest import Manifest, SegmentEntry, write_manifest
from flash_kv.log.names import hint_name, segment_name
from flash_kv.log.scan_cy import scan_segment
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

COPY_BYTES = 4 * 1024**2


def backup(db: DB, dest: StrPath, progress: Callable[[int, int], object] | None = None) -> BackupReport:
    """Copy `db` as it is now to the new directory `dest`; `progress` as for `DB.backup`.

    StorageError when `dest` exists, lies inside the store or cannot be written, StoreFullError when its disk
    is full, LockedError while another backup to `dest` is running; none of them leaves anything behind.
    """
    started = time.monotonic()
    with Staging(db._system, dest, "backup", apart_from=db.path) as staging:
        run = _Backup(db, staging, progress)
        try:
            staging.lock()
            run.seal_active()
            moment = run.take()
            run.tell()
            run.finish()
        except FlashKVError:
            raise
        except OSError as error:
            raise storage_error(error, path=staging.dest, operation="write the backup") from error
        staging.publish()
    return BackupReport(
        path=staging.dest,
        segments=run.segments,
        bytes_linked=run.bytes_linked,
        bytes_copied=run.bytes_copied,
        keys=moment.keys,
        duration_s=time.monotonic() - started,
    )


class _Backup:
    """One call's work in its staging directory."""

    def __init__(self, db: DB, staging: Staging, progress: Callable[[int, int], object] | None) -> None:
        self._db = db
        self._progress = progress
        self._bytes_done = 0
        self._bytes_total = 0
        self._system = db._system
        self._directory = staging.path
        self._entries: list[SegmentEntry] = []
        self.segments = 0
        self.bytes_linked = 0
        self.bytes_copied = 0

    def seal_active(self) -> None:
        """Seal what has been written, so that it can be linked, if this store is written to at all."""
        segments = self._db._segments
        if self._db._state():
            return
        try:
            segments.rotate()
            segments.seal_rotated()
            segments.write_missing_hints()
        except (StoreFullError, StorageError):
            # A disk that is full or failing is no reason to have no backup elsewhere: what is not sealed is
            # copied. A failed sync has poisoned the store, and the next write says so.
            return

    def take(self) -> Moment:
        """Link or copy the whole log of one moment."""
        segments = self._db._segments
        unlinked = []
        # Opened before the moment: whatever compaction retires from then on stays mapped until it is copied.
        with self._db.snapshot():
            with segments.space_lock:
                self._db.check_open()
                moment = moment_of(self._db)
                self._manifest = Manifest(
                    store_id=segments.store_id,
                    hash_key=segments.hash_key,
                    epoch=segments.epoch,
                    next_segment_id=segments.next_segment_id,
                    last_lsn=moment.last_lsn,
                    codecs=segments.codecs,
                    segments=(),
                )
                for part in moment.parts:
                    if part.is_empty:
                        continue
                    if not part.is_sealed or not self._link(part):
                        unlinked.append(part)
            self._bytes_total = sum(part.end for part in moment.parts if not part.is_empty)
            self._bytes_done = self._bytes_total - sum(part.end for part in unlinked)
            for part in unlinked:
                self._copy(part)
        return moment

    def tell(self) -> None:
        """Say how far it is. Never under a lock: who is told may take its time, or end the backup."""
        if self._progress is not None:
            self._progress(self._bytes_done, self._bytes_total)

    def finish(self) -> None:
        """Write the manifest, last: a directory without one is no store."""
        self.segments = len(self._entries)
        entries = sorted(self._entries, key=lambda entry: entry.segment_id)
        write_manifest(self._system, self._directory, replace(self._manifest, segments=tuple(entries)))

    # -- sealed segments, by a second name. Requires: space lock held

    def _link(self, part: Part) -> bool:
        """False when the file system does not link these two places; the segment is as durable as it was."""
        target = self._directory / segment_name(part.segment.segment_id)
        try:
            self._system.link(part.segment.path, target)
        except OSError:
            # Whatever the reason, a copy does the same; if that fails too, its error is the one to report.
            return False
        self.bytes_linked += part.end
        self._entries.append(part.entry)
        hint = self._db.path / hint_name(part.segment.segment_id)
        try:
            self._system.link(hint, self._directory / hint.name)
            self.bytes_linked += self._system.file_size(hint)
        except OSError:
            # Without its hint a segment is scanned at the next open, that is all.
            return True
        return True

    # -- the rest, by its bytes

    def _copy(self, part: Part) -> None:
        path = self._directory / segment_name(part.segment.segment_id)
        fd = self._system.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        try:
            for offset in range(0, part.end, COPY_BYTES):
                self.tell()
                piece = _read(self._db, part.segment, offset, min(COPY_BYTES, part.end - offset))
                self._system.write_at(fd, piece, offset)
                self._bytes_done += len(piece)
            self._system.sync_file(fd)
            self.bytes_copied += part.end
            if part.is_sealed:
                self._entries.append(part.entry)
                self._copy_hint(part.segment.segment_id)
            else:
                self._seal_copy(part, path)
        finally:
            self._system.close(fd)

    def _copy_hint(self, segment_id: int) -> None:
        source = self._db.path / hint_name(segment_id)
        target = self._directory / source.name
        try:
            self._system.copy_file(source, target)
        except FileNotFoundError:
            # There was none, or compaction has removed it: the next open scans the segment.
            return
        fd = self._system.open(target, os.O_RDWR | os.O_NOFOLLOW)
        try:
            self._system.sync_file(fd)
        finally:
            self._system.close(fd)
        self.bytes_copied += self._system.file_size(target)

    def _seal_copy(self, part: Part, path: Path) -> None:
        """List the copy of a segment that was written to as sealed at its last record, with a hint."""
        content = read_content(self._system, path, is_mapped=self._db.options.io == "mmap")
        try:
            scan = scan_segment(
                content.source,
                part.end,
                store_id=self._manifest.store_id,
                segment_id=part.segment.segment_id,
                epoch=part.segment.epoch,
                is_sealed=True,
                is_ordered=part.segment.origin == "writer",
            )
            scan.require_sound(part.segment.path)
            run = build_hint(scan)
        finally:
            content.close()
        write_hint(self._system, self._directory, part.segment.segment_id, run)
        self._entries.append(
            replace(
                part.entry,
                sealed_bytes=part.end,
                min_lsn=run.min_lsn,
                max_lsn=run.max_lsn,
                records=run.value_records + run.tombstones,
                tombstones=run.tombstones,
            )
        )


def _read(db: DB, segment: Segment, offset: int, size: int) -> bytes:
    """Bytes of an open segment; ClosedError when another thread closes the store meanwhile."""
    mapping, fd = segment.mapping, segment.fd
    if mapping is not None:
        try:
            return mapping.read(offset, size)
        except ValueError:
            raise ClosedError(db.path) from None
    try:
        data = db._system.read_at(fd, size, offset)
    except OSError:
        # A closed descriptor says so too.
        db.check_open()
        raise
    # Closing takes the number out of the segment first: while it is there, it was this file that was read.
    if segment.fd != fd:
        raise ClosedError(db.path)
    if len(data) != size:
        raise StorageError(errno.EIO, segment.path, f"read {size} bytes at offset {offset} of")
    return data
