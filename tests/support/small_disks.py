"""Small file systems to fill up, and how stores are filled and thinned out on them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flash_kv import DB, StoreFullError
from support.workload import Model


@contextmanager
def tmpfs(directory: Path, size: int) -> Iterator[Path]:
    """A file system in memory, mounted on the new directory `directory`; the test is skipped where that cannot be."""
    with _mounted(directory, "-t", "tmpfs", "-o", f"size={size}", "none"):
        yield directory


@contextmanager
def ext4(directory: Path, size: int) -> Iterator[Path]:
    """An ext4 in a file beside `directory`, mounted there through a loop device; skipped where that cannot be."""
    image = directory.with_suffix(".ext4")
    with image.open("wb") as file:
        # Not sparse: it must be this disk that is full, and not the one below it.
        os.posix_fallocate(file.fileno(), 0, size)
    _run_or_skip("make an ext4", "mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    with _mounted(directory, "-o", "loop", str(image)):
        yield directory
    image.unlink()


@contextmanager
def _mounted(directory: Path, *arguments: str) -> Iterator[None]:
    directory.mkdir()
    _run_or_skip("mount a small file system", "mount", *arguments, str(directory))
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def _run_or_skip(what: str, *command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"this machine cannot {what}: there is no {command[0]}")
    if done.returncode:
        pytest.skip(f"this machine cannot {what}: {done.stderr.strip()}")


def fill(db: DB, model: Model, number: int, value_bytes: int) -> int:
    """Put until the disk is full; the next number."""
    while True:
        key, value = b"%06d" % number, b"%d " % number * (value_bytes // 8)
        try:
            db.put(key, value)
        except StoreFullError as error:
            assert error.errno == errno.ENOSPC
            assert error.path
            assert db.get(key) is None
            return number
        model[key] = value
        number += 1


def thin_out(db: DB, model: Model) -> None:
    """Delete every second key. When even deletes find no space, compaction has to make some."""
    for key in list(model)[::2]:
        try:
            assert db.delete(key)
        except StoreFullError:
            assert db[key] == model[key]
            assert db.compact().bytes_reclaimed > 0
            assert db.delete(key)
        del model[key]
