"""semidbm: a Bitcask in pure Python, one write(2) per put, an index in a dict.

It has no `get`, no batch and no many-key reads: a miss is the `KeyError` a user would have to catch, and
the many-key operations are loops. `verify_checksums` stays at its default, off, which is its faster way.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store


def _open(path: Path) -> Handle:
    semidbm: Any = importlib.import_module("semidbm")
    db = semidbm.open(str(path), "c")
    get, put = db.__getitem__, db.__setitem__

    def get_missing(key: bytes) -> bytes | None:
        try:
            return get(key)  # type: ignore[no-any-return]
        except KeyError:
            return None

    def put_many(pairs: Pairs) -> None:
        for key, value in pairs:
            put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    def items() -> Iterable[tuple[bytes, bytes]]:
        keys = db.keys()
        return zip(keys, map(get, keys), strict=True)

    return Handle(
        put=put,
        get=get,
        get_missing=get_missing,
        delete=db.__delitem__,
        put_many=put_many,
        batch=put_many,
        get_many=get_many,
        items=items,
        close=db.close,
        compact=db.compact,
        kept=[],
    )


SEMIDBM = Store(
    name="semidbm",
    module="semidbm",
    distribution="semidbm",
    settings="defaults (verify_checksums=False)",
    survives="process death: yes; power cut: what was synced",
    read_check="none (verify_checksums=False, its default)",
    open=_open,
    is_ordered=False,
    has_batch=False,
)
