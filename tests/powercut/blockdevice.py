"""A block device that remembers everything: each write and each flush, in order, with what was promised at that time.

A child process serves one file over FUSE, speaking the kernel's protocol itself (linux/fuse.h), so nothing has to be
installed. A loop device over that file is what the file system under test is made on. The file is served with direct
I/O: what the loop device writes arrives at once, and a flush of the device arrives as an fsync of the file.

The server must be a process of its own: a store into a mapping may wait for the file system, which waits for the
device, and if the same interpreter had to answer for the device it would wait for itself.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

MAX_WRITE = 128 * 1024
MS_NOSUID_NODEV = 2 | 4
MNT_DETACH = 2
ROOT_MODE = 0o100600

# Operations of the protocol that a loop device needs.
FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 2, 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 18, 20, 25, 26, 36, 38, 42
SILENT = {FORGET, BATCH_FORGET, INTERRUPT}

FOPEN_DIRECT_IO = 1
FUSE_MAX_PAGES = 1 << 22

REQUEST = struct.Struct("<IIQQIIIHH")
REPLY = struct.Struct("<IiQ")
INIT_REPLY = struct.Struct("<IIIIHHIIHHI7I")
ATTRIBUTES = struct.Struct("<QII6Q10I")
# In the file of the log: promised, offset, size; then the bytes. A flush has the size 0.
ENTRY = struct.Struct("<QQI")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Entry:
    """A write, or a flush (no bytes)."""

    promised: int
    """The number on the counter when it came: what was promised before the device had this."""
    offset: int
    data: bytes

    @property
    def stored_bytes(self) -> int:
        """Its size in the log."""
        return ENTRY.size + len(self.data)


class Counter:
    """A number that one process sets and another reads; they share the descriptor `fd`."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.memfd_create("promised") if fd is None else fd
        os.ftruncate(self.fd, mmap.PAGESIZE)
        self._memory = mmap.mmap(self.fd, mmap.PAGESIZE)
        # Whole words: packing it byte by byte could be seen half done, as more than was promised.
        self._words = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)

    @property
    def value(self) -> int:
        return self._words[0]

    def set(self, number: int) -> None:
        self._words[0] = number


class _Server:
    """Answers the kernel until the file is unmounted. Lives in the child."""

    def __init__(self, fd: int, size: int, log: int, counter: Counter) -> None:
        self._fd = fd
        self._content = mmap.mmap(-1, size)
        self._log = log
        self._counter = counter

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._fd, MAX_WRITE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                raise
            header = REQUEST.unpack_from(request)
            operation, unique = header[1], header[2]
            if operation in SILENT:
                continue
            code, answer = self._answer(operation, memoryview(request)[REQUEST.size :])
            try:
                os.writev(self._fd, [REPLY.pack(REPLY.size + len(answer), -code, unique), answer])
            except OSError as error:
                # The call that asked may have been interrupted meanwhile.
                if error.errno != errno.ENOENT:
                    raise

    def _answer(self, operation: int, body: memoryview) -> tuple[int, bytes]:
        if operation == INIT:
            return 0, INIT_REPLY.pack(7, 31, 0, FUSE_MAX_PAGES, 16, 12, MAX_WRITE, 1, 32, 0, 0, *[0] * 7)
        if operation in (GETATTR, SETATTR):
            return 0, self._attributes()
        if operation == OPEN:
            return 0, struct.pack("<QII", 0, FOPEN_DIRECT_IO, 0)
        if operation == READ:
            offset, size = struct.unpack_from("<QI", body, 8)
            return 0, self._content[offset : offset + size]
        if operation == WRITE:
            offset, size = struct.unpack_from("<QI", body, 8)
            return 0, self._write(offset, bytes(body[40 : 40 + size]))
        if operation == FSYNC:
            os.write(self._log, ENTRY.pack(self._counter.value, 0, 0))
            return 0, b""
        if operation == STATFS:
            return 0, struct.pack("<5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)
        if operation in (FLUSH, RELEASE, DESTROY):
            return 0, b""
        return errno.ENOSYS, b""

    def _attributes(self) -> bytes:
        size = len(self._content)
        times = (0, 0, 0, 0, 0, 0)
        # ino, size, blocks, three times; their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags.
        return ATTRIBUTES.pack(
            3600, 0, 0, 1, size, size // 512, *times[:3], *times[:3], ROOT_MODE, 1, 0, 0, 0, 4096, 0
        )

    def _write(self, offset: int, data: bytes) -> bytes:
        os.writev(self._log, [ENTRY.pack(self._counter.value, offset, len(data)), data])
        self._content[offset : offset + len(data)] = data
        return struct.pack("<II", len(data), 0)


class RecordingDisk:
    """The file `directory`/disk of `size` bytes, served by a child; what it was told is in `directory`/log."""

    def __init__(self, directory: Path, size: int, counter: Counter) -> None:
        self.path = directory / "disk"
        self.log_path = directory / "log"
        self.size = size
        self.path.touch()
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={fd},rootmode={ROOT_MODE:o},user_id=0,group_id=0,max_read={MAX_WRITE}"
        if _libc.mount(b"blocklog", bytes(self.path), b"fuse", MS_NOSUID_NODEV, options.encode()) != 0:
            code = ctypes.get_errno()
            os.close(fd)
            raise OSError(code, f"cannot mount over FUSE: {os.strerror(code)}", str(self.path))
        try:
            command = [sys.executable, __file__, str(fd), str(size), str(self.log_path), str(counter.fd)]
            self._server = subprocess.Popen(command, pass_fds=(fd, counter.fd))
        finally:
            os.close(fd)

    def __enter__(self) -> RecordingDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmount and wait for the server. Requires: no loop device uses the file any more."""
        if _libc.umount2(bytes(self.path), MNT_DETACH) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot unmount: {os.strerror(code)}", str(self.path))
        if (status := self._server.wait()) != 0:
            raise RuntimeError(f"the server of {self.path} ended with {status}")


def read_log(path: Path) -> Iterator[Entry]:
    """What the device was told, in order."""
    with open(path, "rb") as file:
        while header := file.read(ENTRY.size):
            promised, offset, size = ENTRY.unpack(header)
            yield Entry(promised, offset, file.read(size))


def _serve(fd: str, size: str, log_path: str, counter: str) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _Server(int(fd), int(size), log, Counter(int(counter))).run()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
