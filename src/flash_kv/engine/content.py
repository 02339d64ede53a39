"""The files of a store that may be damaged, read without believing or changing anything.

What the disk cannot read is damage like any other: every byte is read through a system call first, because in
a mapping an unreadable sector would be a SIGBUS.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flash_kv.engine.reports import Damage
from flash_kv.errors import FlashKVError, StoreNotFoundError, storage_error
from flash_kv.io.lockfile import LockFile, acquire_shared
from flash_kv.io.mapping_cy import Mapping
from flash_kv.io.system import System
from flash_kv.log.names import LOCK, parse
from flash_kv.log.scan_cy import SEGMENT_SIZE_MAX

CHUNK_BYTES = 1024**2
SECTOR_BYTES = 4096

# What a file of a damaged store may answer when it is opened. Any other refusal (EACCES, EMFILE) is the
# caller's to solve.
_DAMAGED = {
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENODEV,
    errno.EBADMSG,
    errno.ESTALE,
    getattr(errno, "EUCLEAN", errno.EIO),
}


@contextmanager
def locked_names(system: System, directory: Path) -> Iterator[list[str]]:
    """The names in a store's directory, with writers kept out.

    StoreNotFoundError, LockedError, StorageError.
    """
    names = _names(system, directory)
    # A writer never removes LOCK, so without one there is no writer; and none is made, for nothing here is
    # changed.
    lock = _lock(system, directory) if LOCK in names else None
    try:
        # Again: a writer may have been at work until the lock was taken.
        yield _names(system, directory)
    finally:
        if lock is not None:
            try:
                lock.release()
            except OSError as error:
                raise storage_error(error, path=directory / LOCK, operation="unlock") from error


def _names(system: System, directory: Path) -> list[str]:
    try:
        names = system.list_directory(directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFoundError(directory) from error
    except OSError as error:
        raise storage_error(error, path=directory, operation="list") from error
    kinds = {found.kind for found in map(parse, names) if found is not None}
    if not kinds & {"manifest", "segment", "hint"}:
        raise StoreNotFoundError(directory)
    return names


def _lock(system: System, directory: Path) -> LockFile | None:
    try:
        return acquire_shared(system, directory)
    except FlashKVError:
        raise
    except OSError as error:
        raise storage_error(error, path=directory / LOCK, operation="lock") from error


class Content:
    """The bytes of one file: mapped, or a copy where some cannot be read, with zeros in their place.

    `is_borrowed`: the mapping is somebody else's to close.
    """

    def __init__(
        self, source: Mapping | bytes | bytearray, damages: list[Damage], *, is_borrowed: bool = False
    ) -> None:
        self.source = source
        self._is_borrowed = is_borrowed
        self.size = source.size if isinstance(source, Mapping) else len(source)
        self.damages = damages

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes: fewer at the end."""
        size = max(min(size, self.size - offset), 0)
        if isinstance(self.source, Mapping):
            return self.source.read(offset, size)
        return bytes(self.source[offset : offset + size])

    def is_blank(self, offset: int) -> bool:
        """Whether only zeros follow."""
        starts = range(offset, self.size, CHUNK_BYTES)
        return not any(self.read(start, CHUNK_BYTES).strip(b"\0") for start in starts)

    def close(self) -> None:
        if isinstance(self.source, Mapping) and not self._is_borrowed:
            self.source.close()


def read_content(
    system: System, path: Path, *, limit: int = SEGMENT_SIZE_MAX, is_mapped: bool = True
) -> Content:
    """The first `limit` bytes of a file; what cannot be read is in `damages`. OSError when it cannot be opened."""
    fd = system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = min(os.fstat(fd).st_size, limit)
        damages = _unreadable(system, fd, path, size)
        if damages:
            return Content(_readable(system, fd, size, damages), damages)
        if is_mapped and size:
            try:
                return Content(system.map(fd, size, False), [])
            except OSError as error:
                if error.errno not in (errno.ENODEV, errno.EACCES, errno.EPERM, errno.ENOMEM):
                    raise
        return Content(system.read_at(fd, size, 0), [])
    finally:
        system.close(fd)


def _unreadable(system: System, fd: int, path: Path, size: int) -> list[Damage]:
    """Read everything once; what the system refuses, in whole sectors, neighbours together."""
    damages: list[Damage] = []
    for chunk in range(0, size, CHUNK_BYTES):
        if _refusal(system, fd, chunk, min(CHUNK_BYTES, size - chunk)) is None:
            continue
        for start in range(chunk, min(chunk + CHUNK_BYTES, size), SECTOR_BYTES):
            end = min(start + SECTOR_BYTES, size)
            refusal = _refusal(system, fd, start, end - start)
            if refusal is None:
                continue
            begin = start
            if damages and damages[-1].offset + damages[-1].size == start:
                begin = damages.pop().offset
            damages.append(
                Damage(
                    path=path, offset=begin, size=end - begin, reason=f"it cannot be read: {refusal.strerror}"
                )
            )
    return damages


def _refusal(system: System, fd: int, offset: int, size: int) -> OSError | None:
    try:
        system.read_at(fd, size, offset)
    except OSError as error:
        return error
    return None


def _readable(system: System, fd: int, size: int, damages: list[Damage]) -> bytearray:
    """A copy of the file without the places in `damages`."""
    whole = bytearray(size)
    offset = 0
    for damage in damages:
        data = system.read_at(fd, damage.offset - offset, offset)
        whole[offset : offset + len(data)] = data
        offset = damage.offset + damage.size
    data = system.read_at(fd, size - offset, offset)
    whole[offset : offset + len(data)] = data
    return whole


def refused(error: OSError, path: Path) -> Damage:
    """A file that cannot be opened, as damage, or raised as StorageError when it is not the file's fault."""
    if error.errno not in _DAMAGED:
        raise storage_error(error, path=path, operation="open") from error
    return Damage(path=path, offset=0, size=0, reason=f"it cannot be opened: {error.strerror}")
