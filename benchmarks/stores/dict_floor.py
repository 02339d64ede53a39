"""A dict and a SortedDict: no stores, the floors under all of them. Their methods are called bound, in the same
loops.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store, nothing


def _open(path: Path) -> Handle:
    return _handle({})


def _open_sorted(path: Path) -> Handle:
    sortedcontainers: Any = importlib.import_module("sortedcontainers")
    return _handle(sortedcontainers.SortedDict())


def _handle(data: dict[bytes, bytes]) -> Handle:
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
    promise="nothing",
    survives="nothing",
    read_check="none",
    open=_open,
    is_floor=True,
    is_ordered=False,
)
SORTED_DICT = replace(
    DICT,
    name="SortedDict",
    module="sortedcontainers",
    distribution="sortedcontainers",
    settings="bound methods, as of the dict",
    open=_open_sorted,
    is_ordered=True,
)
