"""LevelDB through plyvel, with the bloom filter, a block cache larger than the data and no compression.

LevelDB hands each record of its log to write(2) before it returns, so a killed process loses nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store

BLOCK_CACHE_BYTES = 1024**3
WRITE_BUFFER_BYTES = 64 * 1024**2


def _open(path: Path, *, sync: bool = False) -> Handle:
    plyvel: Any = importlib.import_module("plyvel")
    db = plyvel.DB(
        str(path),
        create_if_missing=True,
        compression=None,
        bloom_filter_bits=10,
        lru_cache_size=BLOCK_CACHE_BYTES,
        write_buffer_size=WRITE_BUFFER_BYTES,
    )
    get = db.get

    def batch(pairs: Pairs) -> None:
        with db.write_batch(sync=sync) as write_batch:
            put = write_batch.put
            for key, value in pairs:
                put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    return Handle(
        put=partial(db.put, sync=True) if sync else db.put,
        get=get,
        get_missing=get,
        delete=partial(db.delete, sync=True) if sync else db.delete,
        put_many=batch,
        batch=batch,
        get_many=get_many,
        items=db.iterator,
        close=db.close,
        settle=db.compact_range,
        compact=db.compact_range,
    )


PLYVEL = Store(
    name="plyvel",
    module="plyvel",
    distribution="plyvel",
    settings="sync=False, bloom filter 10 bits, 1 GiB block cache, 64 MiB write buffer, no compression",
    survives="process death: yes; power cut: what was synced",
    read_check="block checksums only when a block is read into the cache, and only with verify_checksums",
    open=_open,
)
PLYVEL_SYNC = replace(
    PLYVEL,
    name="plyvel-sync",
    settings=PLYVEL.settings.replace("sync=False", "sync=True"),
    promise="power",
    survives="process death: yes; power cut: yes",
    open=partial(_open, sync=True),
)
