"""The file LOCK: at most one writer per store.

The lock is `flock` on an open file, so it ends with its holder however that dies, and an old LOCK file means
nothing. It belongs to the open file, which a forked child shares: unlocking in the child would unlock the
parent, closing does not. LOCK is never removed: whoever removed it could lock a new file beside the holder of
the old one.

The content, one line "pid=... host=... started=...", is for people and for the text of LockedError. It is
never trusted: empty, stale or garbage, the lock decides.
"""

from __future__ import annotations

import errno
import os
import re
from datetime import UTC, datetime

from flash_kv.errors import LockedError, StrPath
from flash_kv.io.system import System

LOCK_NAME = "LOCK"

# Every line is padded to this size, so that it fits over an older one without a new block.
LINE_BYTES = 256

_LINE = re.compile(
    rb"pid=([1-9][0-9]{0,9}) host=([!-~]{1,100}) "
    rb"started=([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z) *\n"
)


class LockFile:
    """The held lock. Made by `acquire` only."""

    def __init__(self, system: System, fd: int, path: str) -> None:
        self.path = path
        self._system = system
        self._fd: int | None = fd
        self._pid = os.getpid()

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def release(self) -> None:
        """Unlock and close; in a forked child the same as `abandon`. A second call does nothing."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            # Not left to close(): a child that was forked meanwhile holds the open file too.
            if os.getpid() == self._pid:
                self._system.unlock(fd)
        finally:
            self._system.close(fd)

    def abandon(self) -> None:
        """Close without unlocking: for a forked child, whose parent goes on holding the lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._system.close(fd)


def acquire(system: System, directory: StrPath) -> LockFile:
    """Lock the store in `directory`. LockedError names the writer that has it, or says that readers have.

    OSError when LOCK cannot be used.
    """
    path = os.path.join(os.fspath(directory), LOCK_NAME)
    # O_NOFOLLOW: a link planted as LOCK would have us write outside the directory.
    fd = system.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not system.lock(fd):
            # What stands in the file is the last writer's, who may be long gone: readers write nothing down.
            if system.lock_shared(fd):
                raise LockedError(path, is_read=True)
            raise LockedError(path, *_holder(system, fd))
        _record_holder(system, fd)
    except BaseException:
        system.close(fd)
        raise
    return LockFile(system, fd, path)


def acquire_shared(system: System, directory: StrPath) -> LockFile | None:
    """Keep writers out while the store in `directory` is read; other readers may do so as well.

    LockedError names the writer; OSError when LOCK cannot be used. None when there is no LOCK and this process may not
    make one: then nobody who could write to the store has it open.
    """
    path = os.path.join(os.fspath(directory), LOCK_NAME)
    try:
        fd = system.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        try:
            fd = system.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
    try:
        if not system.lock_shared(fd):
            raise LockedError(path, *_holder(system, fd))
    except BaseException:
        system.close(fd)
        raise
    return LockFile(system, fd, path)


def _holder(system: System, fd: int) -> tuple[int, str, str] | tuple[()]:
    """What the holder wrote down: pid, host, start; nothing when it is not exactly such a line."""
    try:
        match = _LINE.fullmatch(system.read_at(fd, LINE_BYTES + 1, 0))
    except OSError:
        # The answer is "locked" in any case; who holds it is a courtesy.
        return ()
    if match is None:
        return ()
    return int(match[1]), match[2].decode("ascii"), match[3].decode("ascii")


def _record_holder(system: System, fd: int) -> None:
    host = re.sub("[^!-~]", "?", os.uname().nodename)[:100] or "?"
    started = datetime.fromtimestamp(system.now_ns() // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"pid={os.getpid()} host={host} started={started}".ljust(LINE_BYTES - 1) + "\n"
    try:
        system.write_at(fd, line.encode("ascii"), 0)
        system.truncate(fd, LINE_BYTES)
    except OSError as error:
        # A full disk must not keep anybody from opening the store to delete something: the lock is held.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
