"""Views of typed keys, values and items: the views of bytes, decoded one by one as they are iterated."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flash_kv.codecs.codec import K, V
from flash_kv.codecs.coding import Coding

if TYPE_CHECKING:
    from flash_kv.engine.db import DB
    from flash_kv.engine.snapshot import Snapshot


class _TypedView:
    def __init__(
        self, source: DB | Snapshot, coding: Coding[Any, Any], bounds: dict[str, Any], reverse: bool
    ) -> None:
        self._source = source
        self._coding = coding
        # Made here, so that bounds that cannot be are refused here; it also knows which keys are within them.
        self._raw_keys = source.keys(**bounds, reverse=reverse)
        self._bounds = bounds
        self._reverse = reverse

    def __len__(self) -> int:
        """The number of entries: O(1) for all keys of a store, else by counting."""
        return len(self._raw_keys)

    def _items(self, reverse: bool) -> Iterator[tuple[bytes, Any]]:
        if self._coding.reads_in_place:
            return iter(self._source.items(**self._bounds, reverse=reverse, view=True))
        return iter(self._source.items(**self._bounds, reverse=reverse))

    def __repr__(self) -> str:
        return f"<flash_kv {type(self).__name__} of {self._raw_keys!r}>"


class TypedKeysView(_TypedView, collections.abc.KeysView[K]):
    """The keys, as a set-like view."""

    _coding: Coding[K, Any]

    def __iter__(self) -> Iterator[K]:
        return map(self._coding.read_key, self._raw_keys)

    def __reversed__(self) -> Iterator[K]:
        return map(self._coding.read_key, reversed(self._raw_keys))

    def __contains__(self, key: object) -> bool:
        return self._coding.key(key) in self._raw_keys  # type: ignore[arg-type]


class TypedValuesView(_TypedView, collections.abc.ValuesView[V]):
    """The values, in the order of their keys."""

    _coding: Coding[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (self._coding.read_value(key, data) for key, data in self._items(self._reverse))

    def __reversed__(self) -> Iterator[V]:
        return (self._coding.read_value(key, data) for key, data in self._items(not self._reverse))

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)


class TypedItemsView(_TypedView, collections.abc.ItemsView[K, V]):
    """The (key, value) pairs, as a set-like view."""

    _coding: Coding[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return map(self._read, self._items(self._reverse))

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return map(self._read, self._items(not self._reverse))

    def _read(self, item: tuple[bytes, Any]) -> tuple[K, V]:
        return self._coding.read_key(item[0]), self._coding.read_value(*item)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key = self._coding.key(item[0])
        if key not in self._raw_keys:
            return False
        data = self._source.get(key)
        return data is not None and bool(self._coding.read_value(key, data) == item[1])
