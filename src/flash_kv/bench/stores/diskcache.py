"""diskcache, told never to evict: SQLite in WAL mode, with values from 32 KiB on in files of their own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Store, each_of, one_by_one, reader

SIZE_BYTES_MAX = 1 << 42


def _open(path: Path) -> Handle:
    diskcache: Any = importlib.import_module("diskcache")
    cache = diskcache.Cache(str(path), eviction_policy="none", cull_limit=0, size_limit=SIZE_BYTES_MAX)
    put, get = cache.set, cache.get
    put_each = one_by_one(put)

    def put_many(pairs: list[tuple[bytes, bytes]]) -> None:
        with cache.transact():
            put_each(pairs)

    def pairs_of(keys: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
        return ((key, get(key)) for key in keys)

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=cache.delete,
        put_many=put_many,
        batch=put_many,
        get_many=each_of(get),
        items=lambda: pairs_of(cache.iterkeys()),
        reverse=lambda: pairs_of(cache.iterkeys(reverse=True)),
        close=cache.close,
    )


def _open_reader(path: Path) -> Handle:
    diskcache: Any = importlib.import_module("diskcache")
    cache = diskcache.Cache(str(path))
    return reader(cache.get, cache.close)


DISKCACHE = Store(
    name="diskcache",
    module="diskcache",
    distribution="diskcache",
    settings='eviction_policy="none", cull_limit=0, else as it comes (WAL, synchronous=NORMAL)',
    promise="process",
    survives="process death: yes; power cut: what was checkpointed",
    read_check="none",
    open=_open,
    open_reader=_open_reader,
    has_readers_beside_writer=True,
)
