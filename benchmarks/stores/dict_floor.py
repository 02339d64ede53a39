"""A dict: no store, the floor under all of them. Its methods are called bound, in the same loops."""

from __future__ import annotations

from pathlib import Path

from benchmarks.stores.base import Handle, Pairs, Store, nothing


def _open(path: Path) -> Handle:
    data: dict[bytes, bytes] = {}
    get, put = data.get, data.__setitem__

    def batch(pairs: Pairs) -> None:
        for key, value in pairs:
            put(key, value)

    def get_many(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    return Handle(
        put=put,
        get=get,
        get_missing=get,
        delete=data.__delitem__,
        put_many=data.update,
        batch=batch,
        get_many=get_many,
        items=data.items,
        close=nothing,
        kept=[],
    )


DICT = Store(
    name="dict",
    module=None,
    distribution=None,
    settings="bound methods: dict.get, dict.__setitem__, dict.__delitem__, dict.update",
    survives="nothing",
    read_check="none",
    open=_open,
    is_floor=True,
    is_ordered=False,
)
