"""RocksDB through rocksdict in raw mode (bytes in, bytes out), tuned for data that fits the block cache.

Its write-ahead log is on and written with write(2) at each put, so a killed process loses nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, reader

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


def _opener(*, sync: bool) -> Callable[[Path], Handle]:
    return lambda path: _open(path, sync=sync)


def _open_reader(path: Path) -> Handle:
    rocksdict: Any = importlib.import_module("rocksdict")
    access = rocksdict.AccessType.read_only()
    db = rocksdict.Rdict(str(path), _options(rocksdict), access_type=access)
    return reader(db.get, db.close)


def _open(path: Path, *, sync: bool) -> Handle:
    rocksdict: Any = importlib.import_module("rocksdict")
    db = rocksdict.Rdict(str(path), _options(rocksdict))
    if sync:
        written = rocksdict.WriteOptions()
        written.sync = True
        db.set_write_options(written)
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

    def reverse() -> Iterable[tuple[bytes, bytes]]:
        return db.items(backwards=True)  # type: ignore[no-any-return]

    def scan_from(key: bytes, count: int) -> Pairs:
        return [pair for pair, _ in zip(db.items(from_key=key), range(count), strict=False)]

    def prefix(prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        return takewhile(lambda pair: pair[0].startswith(prefix), db.items(from_key=prefix))

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
        reverse=reverse,
        scan_from=scan_from,
        prefix=prefix,
        close=db.close,
        settle=settle,
        compact=compact,
    )


def _store(name: str, *, sync: bool) -> Store:
    return Store(
        name=name,
        module="rocksdict",
        distribution="rocksdict",
        settings=f"raw mode, WAL on, sync={sync}, bloom filter 10 bits, hash index in blocks, 1 GiB block cache, "
        "no compression",
        promise="power" if sync else "process",
        survives="process death and power cut: yes"
        if sync
        else "process death: yes; power cut: what was synced",
        read_check="block checksum when a block is read into the cache",
        open=_opener(sync=sync),
        open_reader=None if sync else _open_reader,
    )


ROCKSDICT = _store("rocksdict", sync=False)
ROCKSDICT_SYNCED = _store("rocksdict-sync", sync=True)
