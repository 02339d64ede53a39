"""UnQLite, one commit per operation: without one, what was stored is in the process's memory only.

It hands out keys as text in `items`; the adapter encodes them, as its user would have to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store


def _open(path: Path) -> Handle:
    unqlite: Any = importlib.import_module("unqlite")
    db = unqlite.UnQLite(str(path / "kv.unqlite"))
    get, store, commit, remove = db.fetch, db.store, db.commit, db.delete

    def put(key: bytes, value: bytes) -> None:
        store(key, value)
        commit()

    def get_missing(key: bytes) -> bytes | None:
        try:
            return get(key)  # type: ignore[no-any-return]
        except KeyError:
            return None

    def delete(key: bytes) -> None:
        remove(key)
        commit()

    def put_many(pairs: Pairs) -> None:
        for key, value in pairs:
            store(key, value)
        commit()

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    def items() -> Iterable[tuple[bytes, bytes]]:
        return ((key.encode("utf-8"), value) for key, value in db.items())

    return Handle(
        put=put,
        get=get,
        get_missing=get_missing,
        delete=delete,
        put_many=put_many,
        batch=put_many,
        get_many=get_many,
        items=items,
        close=db.close,
    )


UNQLITE = Store(
    name="unqlite",
    module="unqlite",
    distribution="unqlite",
    settings="defaults, one commit per operation",
    promise="power",
    survives="process death: yes; power cut: yes, by its journal (a commit syncs)",
    read_check="none",
    open=_open,
    is_ordered=False,
)
