"""semidbm: a Bitcask in pure Python, one write(2) per put, an index in a dict.

It has no `get`, no batch and no many-key reads: a miss is the `KeyError` a user would have to catch, and
the many-key operations are loops. `verify_checksums` stays at its default, off, which is its faster way.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Store, each_of, one_by_one, reader


def _open(path: Path) -> Handle:
    semidbm: Any = importlib.import_module("semidbm")
    db = semidbm.open(str(path), "c")
    get, put = db.__getitem__, db.__setitem__

    def get_missing(key: bytes) -> bytes | None:
        try:
            return get(key)  # type: ignore[no-any-return]
        except KeyError:
            return None

    def items() -> Iterable[tuple[bytes, bytes]]:
        keys = db.keys()
        return zip(keys, map(get, keys), strict=True)

    return Handle(
        put=put,
        get=get,
        get_missing=get_missing,
        delete=db.__delitem__,
        put_many=one_by_one(put),
        batch=one_by_one(put),
        get_many=each_of(get),
        items=items,
        close=db.close,
        compact=db.compact,
        kept=[],
    )


def _open_reader(path: Path) -> Handle:
    semidbm: Any = importlib.import_module("semidbm")
    db = semidbm.open(str(path), "r")
    return reader(db.__getitem__, db.close)


SEMIDBM = Store(
    name="semidbm",
    module="semidbm",
    distribution="semidbm",
    settings="defaults (verify_checksums=False)",
    promise="process",
    survives="process death: yes; power cut: what was synced",
    read_check="none (verify_checksums=False, its default)",
    open=_open,
    open_reader=_open_reader,
    is_ordered=False,
    is_thread_safe=False,
    has_batch=False,
)
