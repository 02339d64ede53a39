"""No stores, the floors under all of them: a dict, and a SortedDict for what needs an order.

Their methods are called bound, in the same loops.
"""

from __future__ import annotations

import importlib
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, Store, each_of, one_by_one


def _handle(data: Any, **ordered: Any) -> Handle:
    """Of a mapping in memory; `ordered` is what one with an order can do besides."""
    return Handle(
        put=data.__setitem__,
        get=data.get,
        get_missing=data.get,
        delete=data.__delitem__,
        put_many=data.update,
        batch=one_by_one(data.__setitem__),
        get_many=each_of(data.get),
        items=data.items,
        kept=[],
        **ordered,
    )


def _open_dict(_path: Path) -> Handle:
    return _handle({})


def _open_sorted(_path: Path) -> Handle:
    sortedcontainers: Any = importlib.import_module("sortedcontainers")
    data = sortedcontainers.SortedDict()
    irange, get = data.irange, data.__getitem__

    def scan_from(key: bytes, count: int) -> Pairs:
        return [(found, get(found)) for found in islice(irange(key), count)]

    return _handle(
        data,
        reverse=lambda: ((key, get(key)) for key in reversed(data)),
        scan_from=scan_from,
        prefix=lambda prefix: (
            (key, get(key)) for key in takewhile(lambda key: key.startswith(prefix), irange(prefix))
        ),
    )


DICT = Store(
    name="dict",
    module=None,
    distribution=None,
    settings="bound methods: dict.get, dict.__setitem__, dict.__delitem__, dict.update",
    promise="nothing",
    survives="nothing",
    read_check="none",
    open=_open_dict,
    is_floor=True,
    is_ordered=False,
)
SORTED_DICT = Store(
    name="SortedDict",
    module="sortedcontainers",
    distribution="sortedcontainers",
    settings="bound methods, as those of dict",
    promise="nothing",
    survives="nothing",
    read_check="none",
    open=_open_sorted,
    is_floor=True,
)
