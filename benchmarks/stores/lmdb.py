"""LMDB through py-lmdb, one transaction per operation.

`sync=False, metasync=False` is the kill-safe setting that costs least: a commit is in the page cache, so a
killed process loses nothing, while a power cut may even damage the file (LMDB's own words). `writemap=True`
writes through the mapping, `lmdb-pwrite` with pwrite; the first was ahead in every write tried. The lock
file stays on, because several processes may open ours too. A read transaction kept open would save 0.1 to 0.2
us per get and read one old state for ever, which is no `get`; `get_many` does use one for its 1,000 keys.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store

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

    def compact() -> None:
        # LMDB compacts by copying to a new environment (mdb_copy -c), which is not synced by itself.
        copy = path / "compacted"
        copy.mkdir(exist_ok=True)
        env.copy(str(copy), compact=True)
        with (copy / "data.mdb").open("rb") as file:
            os.fsync(file.fileno())

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=delete,
        put_many=put_many,
        batch=batch,
        get_many=get_many,
        items=items,
        close=env.close,
        compact=compact,
    )


def _store(name: str, *, writemap: bool, sync: bool = False) -> Store:
    return Store(
        name=name,
        module="lmdb",
        distribution="lmdb",
        settings=f"writemap={writemap}, sync={sync}, metasync={sync}, readahead=False, "
        "one transaction per operation",
        promise="power" if sync else "process",
        survives=f"process death: yes; power cut: {'yes' if sync else 'may damage the file (sync=False)'}",
        read_check="none",
        open=_opener(writemap=writemap, sync=sync),
    )


LMDB = _store("lmdb", writemap=True)
LMDB_PWRITE = _store("lmdb-pwrite", writemap=False)
LMDB_SYNC = _store("lmdb-sync", writemap=True, sync=True)
LMDB_PWRITE_SYNC = _store("lmdb-pwrite-sync", writemap=False, sync=True)
