"""dbm.sqlite3 of Python 3.13 and later: the standard library's own key-value store that survives a kill."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store


def _open(path: Path) -> Handle:
    module: Any = importlib.import_module("dbm.sqlite3")
    db = module.open(str(path / "dbm.sqlite"), "c")
    put, get = db.__setitem__, db.get

    def put_many(pairs: Pairs) -> None:
        for key, value in pairs:
            put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    def items() -> Iterable[tuple[bytes, bytes]]:
        return ((key, db[key]) for key in db.keys())  # noqa: SIM118 - it has no iteration of its own

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=db.__delitem__,
        put_many=put_many,
        batch=put_many,
        get_many=get_many,
        items=items,
        close=db.close,
        compact=db.reorganize if hasattr(db, "reorganize") else None,
    )


DBM_SQLITE = Store(
    name="dbm.sqlite3",
    module="dbm.sqlite3",
    distribution=None,
    settings="dbm.sqlite3.open(path, 'c'), one commit per operation",
    survives="process death: yes; power cut: what SQLite has synced",
    read_check="none",
    open=_open,
    is_ordered=False,
    has_batch=False,
)
