"""lsm-db: the log-structured tree of SQLite 4, a transaction per operation by itself.

`write_safety=1`, its default, syncs at checkpoints; 2 syncs each transaction.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Promise, Store


def _opener(write_safety: int) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        lsm: Any = importlib.import_module("lsm")
        db = lsm.LSM(str(path / "kv.lsm"), multiple_processes=False, write_safety=write_safety)
        get, put = db.fetch, db.insert

        def get_missing(key: bytes) -> bytes | None:
            try:
                return get(key)  # type: ignore[no-any-return]
            except KeyError:
                return None

        def batch(pairs: Pairs) -> None:
            with db.transaction():
                for key, value in pairs:
                    put(key, value)

        def get_many(keys: list[bytes]) -> list[bytes | None]:
            return list(map(get, keys))

        def items() -> Iterable[tuple[bytes, bytes]]:
            return iter(db)

        return Handle(
            put=put,
            get=get,
            get_missing=get_missing,
            delete=db.delete,
            put_many=batch,
            batch=batch,
            get_many=get_many,
            items=items,
            close=db.close,
        )

    return open_store


def _store(name: str, write_safety: int, promise: Promise, survives: str) -> Store:
    return Store(
        name=name,
        module="lsm",
        distribution="lsm-db",
        settings=f"multiple_processes=False, write_safety={write_safety}, one transaction per operation",
        promise=promise,
        survives=survives,
        read_check="a checksum of the log at recovery, none of the pages",
        open=_opener(write_safety),
    )


LSM_DB = _store("lsm-db", 1, "process", "process death: yes; power cut: what was synced")
LSM_DB_FULL = _store("lsm-db-full", 2, "power", "process death: yes; power cut: yes")
