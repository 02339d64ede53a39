"""Small stores to back up, to damage and to check."""

from __future__ import annotations

from flash_kv import DB


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
