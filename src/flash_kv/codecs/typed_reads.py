"""Reading with codecs: what a `TypedDB` and a `TypedSnapshot` have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from flash_kv.codecs.codec import Codec, K, KeyCodec, V
from flash_kv.codecs.coding import Coding
from flash_kv.codecs.typed_views import TypedItemsView, TypedKeysView, TypedValuesView

if TYPE_CHECKING:
    from flash_kv.engine.db import DB
    from flash_kv.engine.record import Record
    from flash_kv.engine.snapshot import Snapshot

_T = TypeVar("_T")


class TypedRecord(NamedTuple, Generic[V]):
    """A `Record` with its value decoded: see there."""

    value: V
    lsn: int
    expires_at: float | None
    meta: bytes


class TypedReads(Generic[K, V]):
    """Lookups and views over something that reads bytes."""

    _source: DB | Snapshot
    _coding: Coding[K, V]

    @property
    def codec(self) -> Codec[V]:
        """The codec of its values."""
        return self._coding.codec

    @property
    def key_codec(self) -> KeyCodec[K]:
        """The codec of its keys."""
        return self._coding.key_codec

    def _data(self, key: bytes) -> bytes | memoryview | None:
        return self._source.view(key) if self._coding.reads_in_place else self._source.get(key)

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: _T) -> V | _T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value of `key`, or `default`. EncodeError, DecodeError, and whatever `DB.get` raises."""
        encoded = self._coding.key(key)
        return self._coding.read_found(encoded, self._data(encoded), default)

    def __getitem__(self, key: K) -> V:
        encoded = self._coding.key(key)
        data = self._data(encoded)
        if data is None:
            raise KeyError(key)
        return self._coding.read_value(encoded, data)

    @overload
    def view(self, key: K, default: None = None, *, recheck: bool = False) -> memoryview | None: ...
    @overload
    def view(self, key: K, default: _T, *, recheck: bool = False) -> memoryview | _T: ...
    def view(self, key: K, default: Any = None, *, recheck: bool = False) -> Any:
        """The encoded value as a read-only memoryview without a copy, or `default`: see `DB.view`."""
        return self._source.view(self._coding.key(key), default, recheck=recheck)

    def __contains__(self, key: object) -> bool:
        return self._coding.key(key) in self._source  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._source)

    def __bool__(self) -> bool:
        return bool(self._source)

    def __iter__(self) -> Iterator[K]:
        return map(self._coding.read_key, iter(self._source))

    def records(
        self, *, prefix: K | None = None, start: K | None = None, stop: K | None = None, reverse: bool = False
    ) -> Iterator[tuple[K, TypedRecord[V]]]:
        """The keys with what the store knows of their values; bounds as in `keys`."""
        low, high = self._coding.bounds(prefix, start, stop)
        in_place = self._coding.reads_in_place
        for key, record in self._source.records(start=low, stop=high, reverse=reverse, view=in_place):
            yield self._coding.read_key(key), self._decoded(key, record)

    def _decoded(self, key: bytes, record: Record) -> TypedRecord[V]:
        value = self._coding.read_value(key, record.value)
        return TypedRecord(value, record.lsn, record.expires_at, record.meta)

    def _view(
        self, prefix: K | None, start: K | None, stop: K | None, reverse: bool
    ) -> tuple[DB | Snapshot, Coding[K, V], dict[str, Any], bool]:
        low, high = self._coding.bounds(prefix, start, stop)
        return self._source, self._coding, {"start": low, "stop": high}, reverse

    def keys(
        self, *, prefix: K | None = None, start: K | None = None, stop: K | None = None, reverse: bool = False
    ) -> TypedKeysView[K]:
        """A view of the keys: all, those that begin with a prefix, or from `start` (included) to `stop` (not included).

        What begins with a prefix is the key codec's to say: tuples with their first elements, texts with their first
        characters. `reverse` gives falling order. UnorderedIndexError for a bound or `reverse` with index="hash".
        """
        return TypedKeysView(*self._view(prefix, start, stop, reverse))

    def values(
        self,
        *,
        prefix: K | None = None,
        start: K | None = None,
        stop: K | None = None,
        reverse: bool = False,
    ) -> TypedValuesView[V]:
        """A view of the values, in the order of their keys; bounds as in `keys`."""
        return TypedValuesView(*self._view(prefix, start, stop, reverse))

    def items(
        self,
        *,
        prefix: K | None = None,
        start: K | None = None,
        stop: K | None = None,
        reverse: bool = False,
    ) -> TypedItemsView[K, V]:
        """A view of the (key, value) pairs; bounds as in `keys`."""
        return TypedItemsView(*self._view(prefix, start, stop, reverse))
