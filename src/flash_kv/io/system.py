"""The one table for everything that touches the operating system.

The rest of FlashKV calls the file system, the clock and the lock through an instance of `System` and never
through `os`, so that a subclass can fail a call (`faulty.FaultySystem`), record it, or simulate a power cut.

Rules: every method is one small operation; it raises OSError as the system reports it and retries nothing but
an interrupted call; "write" and "read" mean all of it. The one thing that does not pass through here is what
is stored into a mapping: that is memory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time

from flash_kv.errors import StrPath
from flash_kv.io.mapping_cy import Mapping, map_file

# The largest piece of one read or copy: memory grows with what is there, not with what was asked for.
CHUNK_BYTES = 4 * 1024**2

# macOS: fsync leaves the data in the drive's cache; this command does not.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

# File systems that cannot preallocate say one of these.
_CANNOT_ALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV}


class System:
    """The real one. Paths are str or os.PathLike, sizes and offsets bytes; descriptors are closed on exec."""

    # Files

    def open(self, path: StrPath, flags: int, mode: int = 0o600) -> int:
        """A new descriptor; `flags` as for os.open."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def open_nameless(self) -> int:
        """A new, empty file that ends with its descriptor, among the temporary ones: for what outlives no process."""
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())

    def close(self, fd: int) -> None:
        os.close(fd)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        """Give the range blocks of its own and let the file reach its end; what the range holds stays.

        Afterwards a write to the range, also through a mapping, never lacks space. On an error (ENOSPC) the
        file has the size it had, and nothing stays allocated behind it.
        """
        size_before = os.fstat(fd).st_size
        try:
            self._allocate(fd, offset, size)
        except OSError:
            os.ftruncate(fd, size_before)
            raise

    def truncate(self, fd: int, size: int) -> None:
        """Make the file `size` bytes long; what is added reads as zeros and has no blocks."""
        os.ftruncate(fd, size)

    def write_at(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`. After an error any part of it may have been written."""
        with memoryview(data).cast("B") as rest:
            done = 0
            while done < len(rest):
                done += os.pwrite(fd, rest[done:], offset + done)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """The `size` bytes at `offset`; fewer only where the file ends."""
        pieces: list[bytes] = []
        done = 0
        while done < size:
            piece = os.pread(fd, min(size - done, CHUNK_BYTES), offset + done)
            if not piece:
                break
            pieces.append(piece)
            done += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sync_data(self, fd: int) -> None:
        """Return once the file's bytes, and the size needed to read them, survive a power cut."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fdatasync(fd)

    def sync_file(self, fd: int) -> None:
        """Return once the file's bytes and all its metadata survive a power cut."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fsync(fd)

    def write_back(self, fd: int, offset: int, size: int) -> None:
        """Begin to write the range to disk, so that a sync later has less to wait for. Advice: waits for nothing."""
        if hasattr(os, "posix_fadvise"):
            # On Linux this is how to ask for it without a call of the kernel's own: pages that are being written or
            # are mapped stay in memory.
            os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)

    def map(self, fd: int, size: int, writable: bool) -> Mapping:
        """The first `size` bytes of the file as shared memory; they have to be allocated."""
        return map_file(fd, size, writable)

    def file_size(self, path: StrPath) -> int:
        return os.stat(path).st_size

    def allocated_bytes(self, path: StrPath) -> int:
        """What the file takes on disk: less than its size where it has holes, more where preallocated."""
        return os.stat(path).st_blocks * 512

    # Names and directories

    def sync_directory(self, path: StrPath) -> None:
        """Return once names created, renamed and removed in the directory survive a power cut."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _FULL_SYNC is not None:
                fcntl.fcntl(fd, _FULL_SYNC)
            else:
                os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, src: StrPath, dst: StrPath) -> None:
        """Atomic; replaces `dst`."""
        os.rename(src, dst)

    def unlink(self, path: StrPath) -> None:
        os.unlink(path)

    def link(self, src: StrPath, dst: StrPath) -> None:
        """A second name for the same file; FileExistsError when `dst` exists."""
        os.link(src, dst)

    def copy_file(self, src: StrPath, dst: StrPath) -> None:
        """Copy the bytes of `src` to the new file `dst`, in the kernel where it can; the caller syncs it.

        FileExistsError when `dst` exists; after any other error `dst` is gone again.
        """
        source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _copy_all(source, target)
            except BaseException:
                os.unlink(dst)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def make_directory(self, path: StrPath, mode: int = 0o700) -> None:
        """FileExistsError when there is something; parents are not created."""
        os.mkdir(path, mode)

    def remove_directory(self, path: StrPath) -> None:
        """OSError (ENOTEMPTY) unless it is empty."""
        os.rmdir(path)

    def is_directory(self, path: StrPath) -> bool:
        """Whether there is a directory of this name; OSError when that cannot be told."""
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise

    def list_directory(self, path: StrPath) -> list[str]:
        """The names in the directory, sorted."""
        return sorted(os.listdir(path))

    def free_bytes(self, path: StrPath) -> int:
        """What an ordinary user may still write to the file system that holds `path`."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    # Locks: on the open file, so that they end with the process, and a forked child shares them.

    def lock(self, fd: int) -> bool:
        """Take the exclusive lock if nobody holds any; never waits."""
        return _try_lock(fd, fcntl.LOCK_EX)

    def lock_shared(self, fd: int) -> bool:
        """Take a shared lock unless somebody holds the exclusive one; never waits."""
        return _try_lock(fd, fcntl.LOCK_SH)

    def unlock(self, fd: int) -> None:
        """Give the lock back, also for every duplicate of the descriptor."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    # Time and chance

    def now_ns(self) -> int:
        """Nanoseconds since 1970; may jump in both directions."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def boot_id(self) -> str:
        """A name for this run of the operating system; "" where it has none: trust nothing across opens."""
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read(64).strip()
        except FileNotFoundError:
            return ""

    def random_bytes(self, size: int) -> bytes:
        """Unpredictable bytes, for the ids and hash keys of new stores."""
        return os.urandom(size)

    def _allocate(self, fd: int, offset: int, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(fd, offset, size)
                return
            except OSError as error:
                if error.errno not in _CANNOT_ALLOCATE or offset < 0 or size <= 0:
                    raise
        # Writing is the only other way to own the blocks: what is there again, zeros behind it.
        for start in range(offset, offset + size, CHUNK_BYTES):
            count = min(CHUNK_BYTES, offset + size - start)
            System.write_at(self, fd, System.read_at(self, fd, count, start).ljust(count, b"\0"), start)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _copy_all(source: int, target: int) -> None:
    """By copy_file_range (shares blocks where the file system can), else through memory."""
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(source, target, 2**30):
                pass
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    # Both descriptors stand where the copy in the kernel ended: at the end, or where it gave up.
    while piece := os.read(source, CHUNK_BYTES):
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(target, rest) :]


REAL = System()
