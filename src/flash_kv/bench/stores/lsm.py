"""SQLite4's LSM tree through lsm-db: its log is written with each commit and never synced."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, each_of, one_by_one


def _open(path: Path) -> Handle:
    lsm: Any = importlib.import_module("lsm")
    db = lsm.LSM(str(path / "kv.lsm"), transaction_log=True, write_safety=lsm.SAFETY_OFF)
    put, fetch = db.insert, db.fetch

    def get(key: bytes) -> bytes | None:
        try:
            return fetch(key)  # type: ignore[no-any-return]
        except KeyError:
            return None

    def put_many(pairs: Pairs) -> None:
        with db.transaction():
            db.update(dict(pairs))

    def batch(pairs: Pairs) -> None:
        with db.transaction():
            one_by_one(put)(pairs)

    def items(start: bytes | None = None, *, is_reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        with db.cursor(is_reverse) as cursor:
            if start is not None:
                try:
                    cursor.seek(start, lsm.SEEK_GE)
                except KeyError:
                    return
            elif is_reverse:
                cursor.last()
            else:
                cursor.first()
            while cursor.is_valid():
                yield cursor.key(), cursor.value()
                try:
                    cursor.previous() if is_reverse else cursor.next()
                except StopIteration:
                    return

    def prefix(prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        return takewhile(lambda pair: pair[0].startswith(prefix), items(prefix))

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=db.delete,
        put_many=put_many,
        batch=batch,
        get_many=each_of(get),
        items=items,
        reverse=lambda: items(is_reverse=True),
        scan_from=lambda key, count: [pair for pair, _ in zip(items(key), range(count), strict=False)],
        prefix=prefix,
        close=db.close,
    )


LSM = Store(
    name="lsm-db",
    module="lsm",
    distribution="lsm-db",
    settings="transaction_log=True, write_safety=SAFETY_OFF",
    promise="process",
    survives="process death: yes; power cut: may damage the file (SAFETY_OFF)",
    read_check="none",
    open=_open,
    is_thread_safe=False,
)
