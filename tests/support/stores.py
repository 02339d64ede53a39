"""Small stores to back up, to damage and to check, and what there is of one on disk while it is open.

The background thread of an open store writes files under temporary names, renames them and removes what is compacted.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flash_kv import DB
from flash_kv.log.names import INDEX, TEMPORARY_PREFIX

OFTEN: dict[str, Any] = {
    "segment_bytes_max": 65536,
    "reserve_bytes": 0,
    "compaction_interval_s": 0.005,
    "compaction_dead_bytes": 4096,
    "compaction_segment_bytes_min": 65536,
}
"""Options of a store that is compacted all the time."""


def fill(db: DB, count: int = 300) -> None:
    """Some segments of 64 KiB, with overwritten and deleted keys and a batch; count + 2 records, 200 keys."""
    for i in range(count):
        db[f"key {i % 200}"] = b"%d " % i * 100
    with db.batch() as batch:
        batch["in"] = b"a batch"
        del batch["key 7"]


def settle(db: DB) -> None:
    """Have all that is written in sealed segments, so that nothing is done in the background."""
    db._segments.rotate()
    db._segments.seal_rotated()
    db._segments.write_missing_hints()


def store_files(directory: Path) -> list[Path]:
    """The files of a store that are there to stay, for a while at least: temporaries left out."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith(TEMPORARY_PREFIX))


def disk_bytes(directory: Path) -> int:
    """What the files of a store take on disk."""
    size = 0
    for path in store_files(directory):
        try:
            size += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # removed meanwhile
    return size


def index_file_bytes(db: DB) -> int:
    """What the file of an index on disk takes: its tree, and what its last checkpoints have of it."""
    path = db.path / INDEX
    return path.stat().st_blocks * 512 if path.exists() else 0


def crash_image(db: DB, target: Path) -> Path:
    """The directory of an open store as a kill at this moment would leave it, copied to `target`."""
    with db._index_keeper._lock, db._segments._seal_lock, db._segments.space_lock:
        # What is under a temporary name may have another one before it is copied, and a copy of an index file that is
        # brought to another checkpoint meanwhile is that of no moment.
        shutil.copytree(db.path, target, ignore=shutil.ignore_patterns(TEMPORARY_PREFIX + "*"))
    return target
