"""shelve, and with it the best dbm there is: gdbm, ndbm, or the one in pure Python.

Values are pickled, keys are text, so the adapter decodes and encodes them as its user would have to. With `dbm.dumb`
the index is written when the shelf is closed or synced, so an acknowledged put does not survive the death of the
process: it is measured beside the floors only.
"""

from __future__ import annotations

import shelve
from collections.abc import Iterable
from pathlib import Path

from benchmarks.stores.base import Handle, Pairs, Store


def _open(path: Path) -> Handle:
    shelf: shelve.Shelf[bytes] = shelve.open(str(path / "shelf"))  # noqa: SIM115 - closed by the handle

    def put(key: bytes, value: bytes) -> None:
        shelf[key.decode("latin-1")] = value

    def get(key: bytes) -> bytes | None:
        return shelf.get(key.decode("latin-1"))

    def delete(key: bytes) -> None:
        del shelf[key.decode("latin-1")]

    def put_many(pairs: Pairs) -> None:
        for key, value in pairs:
            put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    def items() -> Iterable[tuple[bytes, bytes]]:
        return ((key.encode("latin-1"), value) for key, value in shelf.items())

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=delete,
        put_many=put_many,
        batch=put_many,
        get_many=get_many,
        items=items,
        close=shelf.close,
        kept=[],
    )


SHELVE = Store(
    name="shelve",
    module="shelve",
    distribution=None,
    settings="shelve.open(path), with whichever dbm Python chooses, keys as text, values pickled",
    promise="nothing",
    survives="process death: with dbm.dumb only what was there at the last sync; power cut: no",
    read_check="none",
    open=_open,
    is_ordered=False,
    has_batch=False,
)
