"""UnQLite: a commit for each operation, without which a killed process would lose it.

A commit syncs the journal and the file, so it stands among the stores that promise to survive a power cut.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Store, each_of, one_by_one


def _open(path: Path) -> Handle:
    unqlite: Any = importlib.import_module("unqlite")
    db = unqlite.UnQLite(str(path / "kv.unqlite"))
    commit, store, fetch = db.commit, db.store, db.fetch
    store_each = one_by_one(store)

    def put(key: bytes, value: bytes) -> None:
        store(key, value)
        commit()

    def get(key: bytes) -> bytes | None:
        try:
            return fetch(key)  # type: ignore[no-any-return]
        except KeyError:
            return None

    def delete(key: bytes) -> None:
        db.delete(key)
        commit()

    def put_many(pairs: list[tuple[bytes, bytes]]) -> None:
        store_each(pairs)
        commit()

    def items() -> Iterator[tuple[bytes, bytes]]:
        for key, value in db.items():
            yield key.encode() if isinstance(key, str) else key, value

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=delete,
        put_many=put_many,
        batch=put_many,
        get_many=each_of(get),
        items=items,
        close=db.close,
    )


UNQLITE = Store(
    name="unqlite",
    module="unqlite",
    distribution="unqlite",
    settings="a commit per operation, one for a batch",
    promise="power",
    survives="process death: yes; power cut: a commit syncs",
    read_check="none",
    open=_open,
    is_ordered=False,
    is_thread_safe=False,
)
