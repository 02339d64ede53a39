"""SQLite as a key-value store: one table of blobs keyed by a blob, WITHOUT ROWID, in WAL mode; a commit per operation.

`synchronous=NORMAL` keeps every commit when the process dies, and may lose the newest ones in a power cut; `FULL` syncs
each. The statements are prepared once by the module's own cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.stores.base import Handle, Pairs, Promise, Store

CACHE_KIB = 1024**2
_PUT = "INSERT INTO kv VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_GET = "SELECT value FROM kv WHERE key = ?"


def _opener(synchronous: str) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        # Autocommit: each statement is a transaction of its own unless one was begun.
        connection = sqlite3.connect(path / "kv.sqlite", isolation_level=None, check_same_thread=False)
        run = connection.execute
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA synchronous = {synchronous}")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        run("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

        def put(key: bytes, value: bytes) -> None:
            run(_PUT, (key, value))

        def get(key: bytes) -> bytes | None:
            row = run(_GET, (key,)).fetchone()
            return None if row is None else row[0]

        def delete(key: bytes) -> None:
            run("DELETE FROM kv WHERE key = ?", (key,))

        def put_many(pairs: Pairs) -> None:
            run("BEGIN")
            connection.executemany(_PUT, pairs)
            run("COMMIT")

        def batch(pairs: Pairs) -> None:
            run("BEGIN")
            for pair in pairs:
                run(_PUT, pair)
            run("COMMIT")

        def get_many(keys: list[bytes]) -> list[bytes | None]:
            return list(map(get, keys))

        def items() -> Iterator[tuple[bytes, bytes]]:
            return run("SELECT key, value FROM kv ORDER BY key")

        def compact() -> None:
            run("VACUUM")
            run("PRAGMA wal_checkpoint(TRUNCATE)")

        return Handle(
            put=put,
            get=get,
            get_missing=get,
            delete=delete,
            put_many=put_many,
            batch=batch,
            get_many=get_many,
            items=items,
            close=connection.close,
            compact=compact,
        )

    return open_store


def _store(name: str, synchronous: str, promise: Promise, survives: str) -> Store:
    return Store(
        name=name,
        module="sqlite3",
        distribution=None,
        settings=f"SQLite {sqlite3.sqlite_version}, WAL, synchronous={synchronous}, 1 GiB cache, "
        "one commit per operation",
        promise=promise,
        survives=survives,
        read_check="none",
        open=_opener(synchronous),
    )


SQLITE = _store(
    "sqlite3", "NORMAL", "process", "process death: yes; power cut: what was checkpointed or synced"
)
SQLITE_FULL = _store("sqlite3-full", "FULL", "power", "process death: yes; power cut: yes")
