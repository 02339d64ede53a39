"""LMDB through py-lmdb, one transaction per operation.

`sync=False, metasync=False` is the kill-safe setting that costs least: a commit is in the page cache, so a
killed process loses nothing, while a power cut may even damage the file (LMDB's own words). `writemap=True`
writes through the mapping, `lmdb-pwrite` with pwrite; the first was ahead in every write tried. The lock
file stays on, because several processes may open ours too. A read transaction kept open would save 0.1 to 0.2
us per get and read one old state for ever, which is no `get`; `get_many` does use one for its 1,000 keys.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, reader, sync_file

MAP_BYTES = 64 * 1024**3
"""Address space and sparse file size, not disk: LMDB can't grow its map while it runs."""


def _opener(*, writemap: bool, sync: bool) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        lmdb: Any = importlib.import_module("lmdb")
        env = lmdb.open(
            str(path), map_size=MAP_BYTES, writemap=writemap, sync=sync, metasync=sync, readahead=False
        )
        return _handle(env, path)

    return open_store


def _open_reader(path: Path) -> Handle:
    lmdb: Any = importlib.import_module("lmdb")
    env = lmdb.open(str(path), map_size=MAP_BYTES, readonly=True, readahead=False)
    begin = env.begin
    return reader(lambda key: begin().get(key), env.close)


def _handle(env: Any, path: Path) -> Handle:
    begin = env.begin

    def put(key: bytes, value: bytes) -> None:
        with begin(write=True) as txn:
            txn.put(key, value)

    def get(key: bytes) -> bytes | None:
        # The transaction ends when its object goes, which is faster than `with` and no less correct.
        return begin().get(key)  # type: ignore[no-any-return]

    def delete(key: bytes) -> None:
        with begin(write=True) as txn:
            txn.delete(key)

    def put_many(pairs: Pairs) -> None:
        with begin(write=True) as txn:
            txn.cursor().putmulti(pairs)

    def batch(pairs: Pairs) -> None:
        with begin(write=True) as txn:
            put_in = txn.put
            for key, value in pairs:
                put_in(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        with begin() as txn:
            return list(map(txn.get, keys))

    def items() -> Iterator[tuple[bytes, bytes]]:
        # The cursor keeps its transaction, which ends with it.
        return iter(begin().cursor())

    def reverse() -> Iterator[tuple[bytes, bytes]]:
        return iter(begin().cursor().iterprev())

    def scan_from(key: bytes, count: int) -> Pairs:
        with begin() as txn, txn.cursor() as cursor:
            # A cursor that found nothing would begin at the first key.
            if not cursor.set_range(key):
                return []
            return [pair for pair, _ in zip(cursor, range(count), strict=False)]

    def prefix(prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with begin() as txn, txn.cursor() as cursor:
            if cursor.set_range(prefix):
                yield from takewhile(lambda pair: pair[0].startswith(prefix), cursor)

    def compact() -> None:
        # LMDB compacts by copying to a new environment (mdb_copy -c), which is not synced by itself.
        copy = path / "compacted"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        env.copy(str(copy), compact=True)
        sync_file(copy / "data.mdb")

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=delete,
        put_many=put_many,
        batch=batch,
        get_many=get_many,
        items=items,
        reverse=reverse,
        scan_from=scan_from,
        prefix=prefix,
        close=env.close,
        compact=compact,
    )


def _store(name: str, *, writemap: bool, sync: bool = False) -> Store:
    return Store(
        name=name,
        module="lmdb",
        distribution="lmdb",
        settings=f"writemap={writemap}, sync={sync}, metasync={sync}, readahead=False, "
        "one transaction per operation, one for a batch",
        promise="power" if sync else "process",
        survives="process death and power cut: yes"
        if sync
        else "process death: yes; power cut: may damage the file (sync=False)",
        read_check="none",
        open=_opener(writemap=writemap, sync=sync),
        open_reader=None if sync else _open_reader,
        has_readers_beside_writer=True,
    )


LMDB = _store("lmdb", writemap=True)
LMDB_PWRITE = _store("lmdb-pwrite", writemap=False)
LMDB_SYNCED = _store("lmdb-sync", writemap=False, sync=True)
