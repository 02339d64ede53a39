"""LevelDB through plyvel, with the bloom filter, a block cache larger than the data and no compression.

LevelDB hands each record of its log to write(2) before it returns, so a killed process loses nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, each_of

BLOCK_CACHE_BYTES = 1024**3
WRITE_BUFFER_BYTES = 64 * 1024**2


def _opener(*, sync: bool) -> Callable[[Path], Handle]:
    return lambda path: _open(path, sync=sync)


def _open(path: Path, *, sync: bool) -> Handle:
    plyvel: Any = importlib.import_module("plyvel")
    db = plyvel.DB(
        str(path),
        create_if_missing=True,
        compression=None,
        bloom_filter_bits=10,
        lru_cache_size=BLOCK_CACHE_BYTES,
        write_buffer_size=WRITE_BUFFER_BYTES,
    )
    get, iterator = db.get, db.iterator

    def batch(pairs: Pairs) -> None:
        with db.write_batch(sync=sync) as write_batch:
            put = write_batch.put
            for key, value in pairs:
                put(key, value)

    def scan_from(key: bytes, count: int) -> Pairs:
        return [pair for pair, _ in zip(iterator(start=key), range(count), strict=False)]

    return Handle(
        put=partial(db.put, sync=True) if sync else db.put,
        get=get,
        get_missing=get,
        delete=partial(db.delete, sync=True) if sync else db.delete,
        put_many=batch,
        batch=batch,
        get_many=each_of(get),
        items=iterator,
        reverse=lambda: iterator(reverse=True),
        scan_from=scan_from,
        prefix=lambda prefix: iterator(prefix=prefix),
        close=db.close,
        settle=db.compact_range,
        compact=db.compact_range,
    )


def _store(name: str, *, sync: bool) -> Store:
    return Store(
        name=name,
        module="plyvel",
        distribution="plyvel",
        settings=f"sync={sync}, bloom filter 10 bits, 1 GiB block cache, 64 MiB write buffer, no compression",
        promise="power" if sync else "process",
        survives="process death and power cut: yes"
        if sync
        else "process death: yes; power cut: what was synced",
        read_check="block checksums only when a block is read into the cache, and only with verify_checksums",
        open=_opener(sync=sync),
    )


PLYVEL = _store("plyvel", sync=False)
PLYVEL_SYNCED = _store("plyvel-sync", sync=True)
