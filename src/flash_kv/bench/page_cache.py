"""Syncing a store's files before the clock starts, and taking their pages out of the system's page cache.

Cold is by posix_fadvise on each file: it needs no rights and disturbs nothing else on the machine, as dropping the
whole cache would. Written pages are synced first, because only clean ones go. What the system knows of directories
stays.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


def can_drop_pages() -> bool:
    return hasattr(os, "posix_fadvise")


def how_pages_are_dropped() -> str:
    """For the facts of a run."""
    return "posix_fadvise(DONTNEED) on each file, synced" if can_drop_pages() else "nothing, on this system"


def sync_files(directory: Path) -> None:
    """What the files below `directory` hold is on the disk, so that its writing disturbs nothing that is timed."""
    for path in directory.rglob("*"):
        _with_file(path, os.fsync)


def drop_pages(directory: Path) -> None:
    """No page of the files below `directory` is in the page cache; requires that no process maps them."""

    def drop(fd: int) -> None:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    for path in directory.rglob("*"):
        _with_file(path, drop)


def _with_file(path: Path, call: Callable[[int], object]) -> None:
    """`call` with a descriptor of a regular file; not for one that a store's background thread has just removed."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        call(fd)
    finally:
        os.close(fd)
