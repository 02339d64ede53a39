"""SQLite, by the module sqlite3 and by dbm.sqlite3, which Python has from 3.13 on.

`synchronous=OFF` in WAL mode hands every commit to write(2) and syncs nothing: a killed process loses nothing. `FULL`
syncs the WAL with each commit. One connection for each thread, autocommit, a transaction for a batch; VACUUM compacts.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, each_of, one_by_one, reader, sync_file

FILE = "kv.sqlite"
CACHE_KIB = 1024**2
_PUT = "INSERT INTO kv VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value"
_GET = "SELECT value FROM kv WHERE key = ?"


def _opener(synchronous: str) -> Callable[[Path], Handle]:
    return lambda path: _open(path, synchronous)


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    db = sqlite3.connect(path / FILE, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=WAL", f"synchronous={synchronous}", f"cache_size=-{CACHE_KIB}"):
        db.execute(f"PRAGMA {setting}")
    return db


def _get_of(db: sqlite3.Connection) -> Callable[[bytes], bytes | None]:
    execute = db.execute

    def get(key: bytes) -> bytes | None:
        row = execute(_GET, (key,)).fetchone()
        return None if row is None else row[0]

    return get


def _open_reader(path: Path) -> Handle:
    db = _connect(path, "OFF")
    get = _get_of(db)
    return reader(get, db.close)


def _open(path: Path, synchronous: str) -> Handle:
    db = _connect(path, synchronous)
    of_threads: dict[int, sqlite3.Connection] = {}
    db.execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    execute = db.execute

    def put(key: bytes, value: bytes) -> None:
        execute(_PUT, (key, value))

    get = _get_of(db)

    def get_of_thread(number: int) -> Callable[[bytes], bytes | None]:
        if number not in of_threads:
            of_threads[number] = _connect(path, synchronous)
        return _get_of(of_threads[number])

    def close() -> None:
        for connection in (*of_threads.values(), db):
            connection.close()

    def compact() -> None:
        execute("VACUUM")
        execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sync_file(path / FILE)

    def put_many(pairs: Pairs) -> None:
        execute("BEGIN")
        db.executemany(_PUT, pairs)
        execute("COMMIT")

    def batch(pairs: Pairs) -> None:
        execute("BEGIN")
        for pair in pairs:
            execute(_PUT, pair)
        execute("COMMIT")

    def scan_from(key: bytes, count: int) -> Pairs:
        return execute(
            "SELECT key, value FROM kv WHERE key >= ? ORDER BY key LIMIT ?", (key, count)
        ).fetchall()

    def prefix(prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        # The keys of the benchmarks are digits, so nothing but them lies below the prefix with this behind it.
        return execute(
            "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + b"\xff")
        )

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=lambda key: execute("DELETE FROM kv WHERE key = ?", (key,)),
        put_many=put_many,
        batch=batch,
        get_many=each_of(get),
        items=lambda: execute("SELECT key, value FROM kv ORDER BY key"),
        reverse=lambda: execute("SELECT key, value FROM kv ORDER BY key DESC"),
        scan_from=scan_from,
        prefix=prefix,
        close=close,
        compact=compact,
        get_of_thread=get_of_thread,
    )


def _store(name: str, synchronous: str) -> Store:
    is_synced = synchronous == "FULL"
    return Store(
        name=name,
        module="sqlite3",
        distribution=None,
        settings=f"SQLite {sqlite3.sqlite_version}, WAL, synchronous={synchronous}, 1 GiB cache, WITHOUT ROWID",
        promise="power" if is_synced else "process",
        survives="process death and power cut: yes"
        if is_synced
        else "process death: yes; power cut: may damage the file (synchronous=OFF)",
        read_check="none",
        open=_opener(synchronous),
        open_reader=None if is_synced else _open_reader,
        has_readers_beside_writer=True,
    )


def _open_dbm(path: Path) -> Handle:
    dbm_sqlite3: Any = importlib.import_module("dbm.sqlite3")
    db = dbm_sqlite3.open(path / "kv.dbm", "c")
    return Handle(
        put=db.__setitem__,
        get=db.__getitem__,
        get_missing=db.get,
        delete=db.__delitem__,
        put_many=one_by_one(db.__setitem__),
        batch=one_by_one(db.__setitem__),
        get_many=each_of(db.__getitem__),
        items=db.items,
        close=db.close,
    )


SQLITE = _store("sqlite3", "OFF")
SQLITE_SYNCED = _store("sqlite3-sync", "FULL")
DBM_SQLITE = Store(
    name="dbm.sqlite3",
    module="dbm.sqlite3",
    distribution=None,
    settings="as it comes",
    promise="process",
    survives="process death: yes; power cut: may damage the file (synchronous=OFF)",
    read_check="none",
    open=_open_dbm,
    is_ordered=False,
    is_thread_safe=False,
    has_batch=False,
)
