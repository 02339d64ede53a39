"""`TypedBatch`: a write batch of typed keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from flash_kv.codecs.codec import K, V
from flash_kv.codecs.coding import Coding
from flash_kv.codecs.passing import passed
from flash_kv.engine.batch import WriteBatch

_T = TypeVar("_T")


class TypedBatch(Generic[K, V]):
    """A `WriteBatch` with codecs: see there. A key or value that cannot be encoded is not added, and ends nothing."""

    def __init__(self, raw: WriteBatch, coding: Coding[K, V]) -> None:
        self._raw = raw
        self._coding = coding

    @property
    def raw(self) -> WriteBatch:
        """The batch of bytes below."""
        return self._raw

    commit = passed(WriteBatch.commit)
    discard = passed(WriteBatch.discard)

    def put(self, key: K, value: V) -> None:
        """Add a write."""
        self._raw.put(self._coding.key(key), self._coding.value(value))

    @overload
    def put_many(self, pairs: Mapping[K, V] | Iterable[tuple[K, V]], values: None = None) -> None: ...
    @overload
    def put_many(self, pairs: Iterable[K], values: Iterable[V]) -> None: ...
    def put_many(self, pairs: Any, values: Any = None) -> None:
        """Add a write for each pair of an iterable or a mapping, or of a key and a value each."""
        self._raw.put_many(self._coding.pairs(pairs, values))

    def put_record(
        self,
        key: K,
        value: V,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: str | bytes = b"",
    ) -> None:
        """Add a write with what is to be known of the value: see `DB.put_record`."""
        encoded, data = self._coding.key(key), self._coding.value(value)
        self._raw.put_record(encoded, data, ttl_s=ttl_s, expires_at=expires_at, meta=meta)

    def require(self, key: K, lsn: int) -> None:
        """Commit only if `key` has this LSN then: see `WriteBatch.require`."""
        self._raw.require(self._coding.key(key), lsn)

    @property
    def lsns(self) -> range:
        """After a commit: the LSNs of its writes, in order."""
        return self._raw.lsns

    def delete(self, key: K) -> None:
        """Add a delete; of an absent key it is none."""
        self._raw.delete(self._coding.key(key))

    def delete_many(self, keys: Iterable[K]) -> None:
        """Add a delete for each key."""
        self._raw.delete_many(self._coding.keys(keys))

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        self.delete(key)

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: _T) -> V | _T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value `key` would have if the batch committed now, or `default`."""
        encoded = self._coding.key(key)
        return self._coding.read_found(encoded, self._raw.get(encoded), default)

    def __getitem__(self, key: K) -> V:
        encoded = self._coding.key(key)
        data = self._raw.get(encoded)
        if data is None:
            raise KeyError(key)
        return self._coding.read_value(encoded, data)

    def __contains__(self, key: K) -> bool:
        return self._coding.key(key) in self._raw

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def size_bytes(self) -> int:
        """Bytes its writes will take in the log."""
        return self._raw.size_bytes

    def __enter__(self) -> Self:
        self._raw.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<flash_kv.TypedBatch of {self._raw!r}>"
