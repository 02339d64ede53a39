"""Compaction throughput: payload bytes (keys and values) of live records rewritten and synced, per second.

The raw figure beside it reads as many bytes from a file in the page cache, writes them to a new file and
syncs that: what the disk of this machine gives to anything that rewrites data durably. Everything dirty is
synced before each of them, untimed, or the first to sync would wait for the writes of all stores.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from time import perf_counter_ns

from flash_kv.bench.dataset import Dataset
from flash_kv.bench.stores.base import Handle
from flash_kv.bench.timing import time_call_ns

RAW_COPY = "raw copy + fsync"
_CHUNK_BYTES = 1 << 20
_REWRITTEN_MIN = 0.1
"""Below this part of the live payload there was no compaction to speak of, and a rate means nothing."""


def compaction_rate(handle: Handle, directory: Path, data: Dataset) -> float | None:
    """MB of live payload per second; None when the store can't compact or found little to rewrite."""
    if handle.compact is None:
        return None
    live_bytes = data.key_count * data.payload_bytes
    before = _files(directory)
    os.sync()
    moved: list[int | None] = []
    compact = handle.compact
    elapsed_ns = time_call_ns(lambda: moved.append(compact()))
    if moved[0] is None:
        # Invariant: no store is credited with more than it wrote, nor with more than the live payload.
        after = _files(directory)
        rewritten = sum(size for file, size in after.items() if file not in before)
    else:
        rewritten = moved[0] * data.payload_bytes
    if rewritten < live_bytes * _REWRITTEN_MIN:
        return None
    return min(rewritten, live_bytes) / 1e6 / (elapsed_ns / 1e9)


def _files(directory: Path) -> dict[tuple[str, int, int], int]:
    """Sizes of the files under `directory` by path, inode and time of change: a rewritten one is new."""
    found = {}
    for path in directory.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            # A background thread of the store has just removed it, so it is none of the rewritten ones.
            continue
        if stat.S_ISREG(status.st_mode):
            found[str(path), status.st_ino, status.st_mtime_ns] = status.st_size
    return found


def raw_copy_rate(directory: Path, data: Dataset) -> float:
    """MB per second of copying the live payload's size from a cached file to a new one, synced."""
    size = data.key_count * data.payload_bytes
    source, copy = directory / "raw-source", directory / "raw-copy"
    chunk = os.urandom(_CHUNK_BYTES)
    with source.open("wb", buffering=0) as file:
        for _ in range(-(-size // _CHUNK_BYTES)):
            file.write(chunk)
        os.fsync(file.fileno())
    os.sync()
    elapsed_ns = -perf_counter_ns()
    copied = 0
    with source.open("rb", buffering=0) as read, copy.open("wb", buffering=0) as write:
        while part := read.read(_CHUNK_BYTES):
            copied += write.write(part)
        os.fsync(write.fileno())
    elapsed_ns += perf_counter_ns()
    source.unlink()
    copy.unlink()
    return copied / 1e6 / (elapsed_ns / 1e9)


def disk_bytes(directory: Path) -> int:
    """What the files under `directory` take of the disk: a sparse file counts what is allocated."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
