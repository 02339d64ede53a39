"""RocksDB through rocksdict in raw mode (bytes in, bytes out), tuned for data that fits the block cache.

Its write-ahead log is on and written with write(2) at each put, so a killed process loses nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store

BLOCK_CACHE_BYTES = 1024**3


def _options(rocksdict: Any) -> Any:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    table.set_data_block_index_type(rocksdict.DataBlockIndexType.binary_and_hash())
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(rocksdict.DBCompressionType.none())
    options.set_block_based_table_factory(table)
    options.increase_parallelism(2)
    return options


def _open(path: Path, *, sync: bool = False) -> Handle:
    rocksdict: Any = importlib.import_module("rocksdict")
    db = rocksdict.Rdict(str(path), _options(rocksdict))
    if sync:
        write_options = rocksdict.WriteOptions()
        write_options.sync = True
        db.set_write_options(write_options)
    # Without `force` files of the last level may be left alone, and the rate would be of work not done.
    rewrite_all = rocksdict.CompactOptions()
    rewrite_all.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
    write_batch_type = rocksdict.WriteBatch

    def batch(pairs: Pairs) -> None:
        write_batch = write_batch_type(raw_mode=True)
        put = write_batch.put
        for key, value in pairs:
            put(key, value)
        db.write(write_batch)

    def compact() -> None:
        db.flush(True)
        db.compact_range(None, None, rewrite_all)

    def settle() -> None:
        db.flush(True)
        db.compact_range(None, None)

    return Handle(
        put=db.put,
        get=db.get,
        get_missing=db.get,
        delete=db.delete,
        put_many=batch,
        batch=batch,
        get_many=db.get,
        items=db.items,
        close=db.close,
        settle=settle,
        compact=compact,
    )


ROCKSDICT = Store(
    name="rocksdict",
    module="rocksdict",
    distribution="rocksdict",
    settings="raw mode, WAL on, sync off, bloom filter 10 bits, hash index in blocks, 1 GiB block cache, "
    "no compression",
    survives="process death: yes; power cut: what was synced",
    read_check="block checksum when a block is read into the cache",
    open=_open,
)
ROCKSDICT_SYNC = replace(
    ROCKSDICT,
    name="rocksdict-sync",
    settings=ROCKSDICT.settings.replace("sync off", "sync on"),
    promise="power",
    survives="process death: yes; power cut: yes",
    open=partial(_open, sync=True),
)
