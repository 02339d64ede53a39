"""The file RESERVE: space kept allocated, for a full disk: half of it for deletes, the rest for compaction.

Invariant: while it is not whole, free space is what it has given away, and belongs to deletes and compaction. So puts
are refused, nothing is made ahead in the background (no spare segment, no hint file), and the file of the index does
not grow, until it can be whole again.

Requires, for every method: space lock held.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from flash_kv.errors import StrPath, storage_error
from flash_kv.io.system import System
from flash_kv.log.names import RESERVE


class Reserve:
    """The reserve of one store; with `size` 0 there is none."""

    def __init__(self, system: System, directory: StrPath, size: int) -> None:
        self._system = system
        self._path = os.path.join(directory, RESERVE)
        self._size = size
        self._tell: Callable[[bool], None] = lambda is_whole: None

    def tell(self, whom: Callable[[bool], None]) -> None:
        """Have `whom` know whether it is whole: now, before any of it is given away, and when it is whole again."""
        self._tell = whom
        whom(self.is_whole())

    def keep(self) -> None:
        """Have the file allocated, or half of it where the disk has no room for more."""
        for size in (self._size, self._size // 2):
            # A smaller one is what a kill in the middle of this has left.
            if self.held_bytes() >= size or self._allocate(size):
                self._tell(size == self._size)
                return

    def _allocate(self, size: int) -> bool:
        """Whether there was room."""
        try:
            fd = self._system.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            try:
                self._system.allocate(fd, 0, size)
            except OSError:
                # What there is of it stays.
                if self.held_bytes() == 0:
                    self._system.unlink(self._path)
                raise
            finally:
                self._system.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise storage_error(error, path=self._path, operation="allocate") from error
            return False
        return True

    def is_whole(self) -> bool:
        """Whether nothing of it is given away. Only then is free space for puts, and for what is made ahead."""
        return self._size == 0 or self.held_bytes() >= self._size

    def held_bytes(self) -> int:
        """What `release` would give."""
        try:
            return self._system.file_size(self._path)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise storage_error(error, path=self._path, operation="look at") from error

    def release_half(self) -> bool:
        """Give half of the space to deletes; False when it is already given.

        The rest is for the compaction after them.
        """
        if self.held_bytes() <= self._size // 2:
            return False
        self._tell(False)
        try:
            fd = self._system.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                self._system.truncate(fd, self._size // 2)
            finally:
                self._system.close(fd)
        except OSError as error:
            raise storage_error(error, path=self._path, operation="cut") from error
        return True

    def release(self) -> bool:
        """Give all the space to a step that frees more; False when it is already given."""
        self._tell(False)
        try:
            self._system.unlink(self._path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(error, path=self._path, operation="unlink") from error
        return True
