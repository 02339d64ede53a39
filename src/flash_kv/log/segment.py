"""One segment file: made, opened, grown, sealed.

Layout (docs/format.md): a header of 64 bytes, then records back to back, then, while the segment is unsealed,
zeros up to what has been allocated. An active segment is mapped once for all it may become (`capacity`),
beyond the end of the file; only the part below `allocated` is ever touched, and that has its blocks on disk,
so a full disk is an error of `allocate` and never a SIGBUS.

Invariants: a sealed file never changes again, so it can be hard-linked; the mapping and descriptor live until `close`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from flash_kv.errors import CorruptionError, FormatVersionError, storage_error
from flash_kv.io.mapping_cy import Mapping
from flash_kv.io.system import System
from flash_kv.log.manifest import FORMAT_VERSION, Origin
from flash_kv.log.names import segment_name
from flash_kv.log.records import (
    ORIGIN_COMPACTION,
    ORIGIN_WRITER,
    SEGMENT_HEADER_SIZE,
    SegmentHeaderError,
    check_segment_header,
    make_segment_header,
)

PAGE_BYTES = 4096
# Growth of a segment: what it has already, but at least and at most this much at a time.
GROWTH_BYTES_MIN = 256 * 1024
GROWTH_BYTES_MAX = 16 * 1024**2
# Written ahead of use at a time, where commits are synced.
ZEROS = memoryview(bytes(1024**2))


def round_up(size: int) -> int:
    """`size` in whole pages."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES


@dataclass(eq=False)
class Segment:
    """An open segment file."""

    system: System
    directory: str
    segment_id: int
    epoch: int
    origin: Origin
    fd: int
    """-1 once a sealed segment is only read through its mapping."""
    mapping: Mapping | None
    """None with io="file"."""
    capacity: int
    allocated: int
    sealed_bytes: int | None = None
    synced_bytes: int = SEGMENT_HEADER_SIZE
    """Everything before is durable."""
    populated: int = 0
    """Pages before are in memory."""
    written_back: int = 0
    """The disk has been asked to write what is before."""
    is_zeroed: bool = False
    """Zeros are written, not only blocks allocated, before records are."""

    @property
    def path(self) -> str:
        """The file."""
        return os.path.join(self.directory, segment_name(self.segment_id))

    def grow(self, wanted: int, is_sparing: bool = False) -> None:
        """Allocate up to at least `wanted` bytes, further where there is room and nothing is spared for others.

        StoreFullError, StorageError.
        """
        step = min(max(self.allocated, GROWTH_BYTES_MIN), len(ZEROS) if self.is_zeroed else GROWTH_BYTES_MAX)
        enough = round_up(wanted)
        generous = min(round_up(max(wanted, self.allocated + step)), max(self.capacity, enough))
        try:
            self._allocate(enough if is_sparing else generous)
        except OSError:
            # Not all of it is there; the record itself may still fit.
            try:
                self._allocate(enough)
            except OSError as error:
                raise storage_error(error, path=self.path, operation="allocate") from error

    def _allocate(self, end: int) -> None:
        self.system.allocate(self.fd, self.allocated, end - self.allocated)
        if self.is_zeroed:
            for offset in range(self.allocated, end, len(ZEROS)):
                self.system.write_at(self.fd, ZEROS[: end - offset], offset)
            self.system.sync_file(self.fd)
        self.allocated = end

    def sync(self, end: int) -> None:
        """Make what was written up to `end` durable. OSError as the system gave it."""
        if end > self.synced_bytes:
            self.system.sync_data(self.fd)
            self.synced_bytes = end

    def populate(self, start: int, end: int) -> None:
        """Have the pages of this range in memory and writable, so that no write waits for them one by one."""
        if self.mapping is None:
            return
        first = start // PAGE_BYTES * PAGE_BYTES
        try:
            self.mapping.advise_populate_write(first, min(round_up(end), self.allocated) - first)
        except (OSError, ValueError, IndexError):
            # Advice only: the segment was sealed, cut or closed meanwhile, or memory is short; writes then
            # fault pages in.
            return

    def seal(self, end: int) -> None:
        """Cut the file at `end` and make it durable. OSError as the system gave it."""
        self.system.truncate(self.fd, end)
        self.system.sync_file(self.fd)
        self.sealed_bytes = self.allocated = end

    def release_descriptor(self) -> None:
        """A sealed, mapped segment needs no descriptor: thousands of segments must not use them up."""
        if self.mapping is not None and self.fd >= 0:
            self._close_descriptor()

    def _close_descriptor(self) -> None:
        fd, self.fd = self.fd, -1
        try:
            self.system.close(fd)
        except OSError as error:
            raise storage_error(error, path=self.path, operation="close") from error

    def source(self) -> Mapping | bytes:
        """The content up to `sealed_bytes` or what is allocated: the mapping, or a copy with io="file"."""
        if self.mapping is not None:
            return self.mapping
        try:
            return self.system.read_at(self.fd, self.readable_bytes, 0)
        except OSError as error:
            raise storage_error(error, path=self.path, operation="read") from error

    @property
    def readable_bytes(self) -> int:
        """How far the file may be read."""
        return self.allocated if self.sealed_bytes is None else self.sealed_bytes

    def close(self) -> None:
        """Unmap and close. Nothing may read from it any more."""
        try:
            if self.mapping is not None:
                self.mapping.close()
        finally:
            if self.fd >= 0:
                self._close_descriptor()


def create_segment(
    system: System,
    directory: str,
    *,
    segment_id: int,
    epoch: int,
    origin: Origin,
    store_id: bytes,
    capacity: int,
    wanted: int,
    io: Literal["mmap", "file"],
    is_zeroed: bool = False,
    is_sparing: bool = False,
) -> Segment:
    """A new segment file with at least `wanted` bytes allocated; one of the writer is durable with its header.

    The directory entry is synced with the manifest that lists it. StoreFullError or StorageError leave no file behind.
    """
    path = os.path.join(directory, segment_name(segment_id))
    header = make_segment_header(
        store_id=store_id,
        segment_id=segment_id,
        epoch=epoch,
        origin=ORIGIN_COMPACTION if origin == "compaction" else ORIGIN_WRITER,
        created_ns=system.now_ns(),
    )
    capacity = max(round_up(wanted), capacity)
    try:
        # O_TRUNC, not O_EXCL: a file of this id was made by an interrupted creation and holds nothing.
        fd = system.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
    except OSError as error:
        raise storage_error(error, path=path, operation="create") from error
    segment = Segment(
        system, directory, segment_id, epoch, origin, fd, None, capacity, 0, is_zeroed=is_zeroed
    )
    try:
        segment.grow(max(wanted, SEGMENT_HEADER_SIZE), is_sparing)
        try:
            system.write_at(fd, header, 0)
            if origin == "writer":
                # Listed before it is full; what compaction makes is listed once it is sealed, which syncs all of it.
                system.sync_file(fd)
            if io == "mmap":
                segment.mapping = system.map(fd, capacity, True)
        except OSError as error:
            raise storage_error(error, path=path, operation="create") from error
    except BaseException as error:
        segment.close()
        try:
            system.unlink(path)
        except OSError as cleanup_error:
            # The next open removes it: no manifest lists it.
            error.add_note(f"{path} is left behind: {cleanup_error}")
        raise
    return segment


def open_segment(
    system: System,
    directory: str,
    *,
    segment_id: int,
    epoch: int,
    origin: Origin,
    store_id: bytes,
    sealed_bytes: int | None,
    is_writable: bool,
    io: Literal["mmap", "file"],
) -> Segment:
    """An existing segment. CorruptionError: missing, too short, or not the segment the manifest lists."""
    path = os.path.join(directory, segment_name(segment_id))
    flags = os.O_RDWR if is_writable and sealed_bytes is None else os.O_RDONLY
    try:
        fd = system.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise CorruptionError(path, 0, "the segment is missing: put it back if it is elsewhere") from error
    except OSError as error:
        raise storage_error(error, path=path, operation="open") from error
    segment = Segment(system, directory, segment_id, epoch, origin, fd, None, 0, 0, sealed_bytes)
    try:
        size = os.fstat(fd).st_size
        segment.allocated = segment.capacity = size
        if sealed_bytes is not None and size < sealed_bytes:
            raise CorruptionError(
                path, size, f"the segment was sealed at {sealed_bytes} bytes, the file ends before"
            )
        _check_header(segment, store_id)
        if io == "mmap":
            segment.mapping = system.map(fd, segment.readable_bytes, False)
            if sealed_bytes is not None:
                segment.release_descriptor()
    except OSError as error:
        segment.close()
        raise storage_error(error, path=path, operation="open") from error
    except BaseException:
        segment.close()
        raise
    return segment


def _check_header(segment: Segment, store_id: bytes) -> None:
    header = segment.system.read_at(segment.fd, SEGMENT_HEADER_SIZE, 0)
    try:
        check_segment_header(header, store_id=store_id, segment_id=segment.segment_id, epoch=segment.epoch)
    except SegmentHeaderError as error:
        if error.version is not None:
            raise FormatVersionError(segment.path, error.version, FORMAT_VERSION) from error
        raise CorruptionError(segment.path, 0, error.reason) from error
