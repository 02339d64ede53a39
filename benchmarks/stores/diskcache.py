"""diskcache: a cache over SQLite, values of 32 KiB and more in files of their own.

`eviction_policy="none"` and no size limit make a store of it; statistics are off, as they are by default. Keys and
values of bytes are stored as they are, anything else would be pickled. It has no batch but a transaction around
single calls.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store

SIZE_LIMIT = 2**62


def _open(path: Path) -> Handle:
    diskcache: Any = importlib.import_module("diskcache")
    cache = diskcache.Cache(str(path), eviction_policy="none", size_limit=SIZE_LIMIT)
    put, get = cache.set, cache.get

    def put_many(pairs: Pairs) -> None:
        with cache.transact():
            for key, value in pairs:
                put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    def items() -> Iterable[tuple[bytes, bytes]]:
        return ((key, cache[key]) for key in cache.iterkeys())

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=cache.delete,
        put_many=put_many,
        batch=put_many,
        get_many=get_many,
        items=items,
        close=cache.close,
    )


DISKCACHE = Store(
    name="diskcache",
    module="diskcache",
    distribution="diskcache",
    settings='eviction_policy="none", no size limit, SQLite in WAL mode with synchronous=NORMAL (its default)',
    survives="process death: yes; power cut: what was checkpointed or synced",
    read_check="none",
    open=_open,
)
