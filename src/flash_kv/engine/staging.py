"""A new directory that appears whole or not at all: where a backup or a repair is put together.

It grows beside its destination, as `tmp-<purpose>-<pid>-<name>`, and gets its name by one rename at the end.
An exception removes it; what a killed process left is removed by the next one with the same purpose and
destination.

Invariants: the destination does not exist before the rename; only files with names of ours are ever removed
(names.py), and none of a directory that somebody holds the lock of.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import TracebackType

from flash_kv.errors import FlashKVError, StorageError, StrPath, storage_error
from flash_kv.io.lockfile import LockFile, acquire
from flash_kv.io.system import System
from flash_kv.log.names import TEMPORARY_PREFIX, parse


class Staging:
    """The directory in the making, `path`, as a context manager; `publish` gives it its name, `dest`."""

    def __init__(self, system: System, dest: StrPath, purpose: str, *, apart_from: Path) -> None:
        """StorageError when `dest` exists (EEXIST) or lies in the directory `apart_from` (EINVAL)."""
        self._system = system
        self._purpose = purpose
        self.dest = Path(os.path.abspath(os.fspath(dest)))
        if os.path.lexists(self.dest):
            raise StorageError(errno.EEXIST, self.dest, f"create the {purpose}")
        parent = self.dest.parent.resolve()
        if apart_from.resolve() in (parent, *parent.parents):
            raise StorageError(errno.EINVAL, self.dest, f"create a {purpose} inside the store itself")
        self.path = self.dest.parent / f"{TEMPORARY_PREFIX}{purpose}-{os.getpid()}-{self.dest.name}"
        self._lock: LockFile | None = None
        self._is_published = False

    def __enter__(self) -> Staging:
        try:
            self._remove_leftovers()
            self._system.make_directory(self.path)
        except FlashKVError:
            raise
        except OSError as error:
            raise storage_error(error, path=self.path, operation="create") from error
        return self

    def _remove_leftovers(self) -> None:
        pattern = re.compile(
            re.escape(TEMPORARY_PREFIX + self._purpose) + "-[0-9]+-" + re.escape(self.dest.name)
        )
        for name in self._system.list_directory(self.dest.parent):
            path = self.dest.parent / name
            # A link would lead to a directory that is none of ours.
            if pattern.fullmatch(name) and path.is_dir() and not path.is_symlink():
                self._remove_leftover(path)

    def _remove_leftover(self, path: Path) -> None:
        """LockedError when somebody is still at work there."""
        try:
            lock = acquire(self._system, path)
            try:
                _remove(self._system, path)
            finally:
                lock.release()
        except FlashKVError:
            raise
        except OSError as error:
            operation = f"remove what an interrupted {self._purpose} left"
            raise storage_error(error, path=path, operation=operation) from error

    def lock(self) -> None:
        """Keep others from taking this directory for a leftover. An open store in it does as much."""
        if self._lock is None:
            self._lock = acquire(self._system, self.path)

    def publish(self) -> None:
        """Make the directory durable and give it its name. Its files have been synced by their makers."""
        try:
            self.lock()
            self._system.sync_directory(self.path)
            # The rename would replace an empty directory, and nothing else.
            self._system.rename(self.path, self.dest)
            self._is_published = True
            self._system.sync_directory(self.dest.parent)
        except FlashKVError:
            raise
        except OSError as error:
            raise storage_error(error, path=self.dest, operation=f"finish the {self._purpose}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._is_published:
                _remove(self._system, self.path)
        except OSError as cleanup_error:
            if error is None:
                raise storage_error(cleanup_error, path=self.path, operation="remove") from cleanup_error
            error.add_note(f"{self.path} is left behind: {cleanup_error}")
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is None:
            return
        try:
            self._lock.release()
        except OSError as error:
            raise storage_error(error, path=self._lock.path, operation="unlock") from error


def _remove(system: System, path: Path) -> None:
    """Remove a directory of our making; OSError when there is anything else in it."""
    for name in system.list_directory(path):
        if parse(name) is not None:
            system.unlink(path / name)
    system.remove_directory(path)
