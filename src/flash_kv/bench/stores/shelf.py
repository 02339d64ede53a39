"""shelve, over the dbm that this Python takes: keys are str, values are pickled.

None of its back ends promises anything about a process that is killed before `close` or `sync`, so it is compared
with nothing but shown.
"""

from __future__ import annotations

import shelve
from collections.abc import Iterable
from pathlib import Path

from flash_kv.bench.stores.base import Handle, Store, each_of, one_by_one


def _open(path: Path) -> Handle:
    shelf: shelve.Shelf[bytes] = shelve.DbfilenameShelf(str(path / "shelf"), "c")

    def put(key: bytes, value: bytes) -> None:
        shelf[key.decode()] = value

    def get(key: bytes) -> bytes | None:
        return shelf.get(key.decode())

    def delete(key: bytes) -> None:
        del shelf[key.decode()]

    def items() -> Iterable[tuple[bytes, bytes]]:
        return ((key.encode(), value) for key, value in shelf.items())

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=delete,
        put_many=one_by_one(put),
        batch=one_by_one(put),
        get_many=each_of(get),
        items=items,
        close=shelf.close,
    )


SHELVE = Store(
    name="shelve",
    module="shelve",
    distribution=None,
    settings="the dbm of this Python, as it comes; pickled values",
    promise="nothing",
    survives="a clean close",
    read_check="none",
    open=_open,
    is_ordered=False,
    is_thread_safe=False,
    has_batch=False,
)
