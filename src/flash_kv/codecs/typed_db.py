"""`TypedDB`: a store of typed keys and values, composed of a `DB` and two codecs.

Everything is the `DB`'s own doing, on encoded keys and values: one commit there is one commit here. What has nothing
to do with either is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from flash_kv.codecs.codec import Codec, K, KeyCodec, V
from flash_kv.codecs.coding import Coding
from flash_kv.codecs.passing import passed
from flash_kv.codecs.typed_batch import TypedBatch
from flash_kv.codecs.typed_reads import TypedReads, TypedRecord
from flash_kv.engine.db import DB
from flash_kv.engine.snapshot import Snapshot
from flash_kv.errors import CodecMismatchError
from flash_kv.options import DurabilitySpec, Options

_T = TypeVar("_T")


class TypedDB(TypedReads[K, V], MutableMapping[K, V]):
    """An open store as a mutable mapping of `K` to `V`, for any number of threads, and a context manager.

    Made by `flash_kv.open(path, codec=..., key_codec=...)`. Methods do what those of `DB` do, raise what those raise,
    and EncodeError and DecodeError.
    """

    def __init__(self, raw: DB, codec: Codec[V], key_codec: KeyCodec[K]) -> None:
        self._raw = self._source = raw
        self._coding = Coding(codec, key_codec)
        # An empty store that is only read cannot be named, and there is nothing in it to misread.
        if raw.codecs != self._coding.names and (len(raw) or not raw.options.read_only):
            raise CodecMismatchError(raw.path, raw.codecs, self._coding.names)

    @property
    def raw(self) -> DB:
        """The store of bytes below."""
        return self._raw

    close = passed(DB.close)
    sync = passed(DB.sync)
    compact = passed(DB.compact)
    backup = passed(DB.backup)
    verify = passed(DB.verify)
    stats = passed(DB.stats)

    @property
    def path(self) -> Path:
        """The store's directory."""
        return self._raw.path

    @property
    def options(self) -> Options:
        """The options it was opened with."""
        return self._raw.options

    @property
    def codecs(self) -> tuple[str, str]:
        """The names of the codecs of its values and of its keys."""
        return self._coding.names

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._raw.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<flash_kv.TypedDB {'/'.join(self.codecs)} of {self._raw!r}>"

    def __reversed__(self) -> Iterator[K]:
        return map(self._coding.read_key, reversed(self._raw))

    # -- single keys

    def put(self, key: K, value: V) -> None:
        """Store `value` under `key`."""
        self._raw.put(self._coding.key(key), self._coding.value(value))

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def delete(self, key: K) -> bool:
        """Delete `key`; whether it was there."""
        return self._raw.delete(self._coding.key(key))

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V, /) -> V: ...
    @overload
    def pop(self, key: K, default: _T, /) -> V | _T: ...
    def pop(self, key: K, *default: Any) -> Any:
        """Delete `key` and return its value, or `default`; KeyError when it is absent and there is none.

        A value that cannot be decoded stays where it is. No other thread comes between the value that is returned and
        its end.
        """
        encoded = self._coding.key(key)
        data = self._raw.get(encoded)
        # Decoded before it is deleted, and again if another thread has changed it meanwhile.
        value = self._coding.read_found(encoded, data, None)
        if data is not None and (popped := self._raw.pop(encoded, None)) is not None:
            return value if popped == data else self._coding.read_value(encoded, popped)
        if not default:
            raise KeyError(key)
        return default[0]

    def popitem(self) -> tuple[K, V]:
        """Delete and return one pair, as `DB.popitem`; one that cannot be decoded stays where it is."""
        while True:
            encoded = next(reversed(self._raw) if self._raw._is_ordered else iter(self._raw), None)
            if encoded is None:
                raise KeyError("popitem(): the store is empty")
            key = self._coding.read_key(encoded)
            try:
                return key, self.pop(key)
            except KeyError:
                continue  # another thread has deleted it

    @overload
    def setdefault(self: TypedDB[K, _T | None], key: K, default: None = None) -> _T | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of `key`, after storing `default` if there was none."""
        encoded = self._coding.key(key)
        data = self._data(encoded)
        if data is None:
            data = self._raw.setdefault(encoded, self._coding.value(default))
        return self._coding.read_value(encoded, data)

    # -- records

    def get_record(self, key: K) -> TypedRecord[V] | None:
        """The value of `key` with its LSN, expiry and meta, or None: see `DB.get_record`."""
        encoded = self._coding.key(key)
        record = self._raw.get_record(encoded, view=self._coding.reads_in_place)
        return None if record is None else self._decoded(encoded, record)

    def put_record(
        self,
        key: K,
        value: V,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: str | bytes = b"",
        if_lsn: int | None = None,
        durability: DurabilitySpec | None = None,
    ) -> int:
        """Store `value` with what is to be known of it; the LSN of the write: see `DB.put_record`."""
        return self._raw.put_record(
            self._coding.key(key),
            self._coding.value(value),
            ttl_s=ttl_s,
            expires_at=expires_at,
            meta=meta,
            if_lsn=if_lsn,
            durability=durability,
        )

    def delete_record(
        self, key: K, *, if_lsn: int | None = None, durability: DurabilitySpec | None = None
    ) -> int | None:
        """Delete `key`; the LSN of the delete, None when it was absent: see `DB.delete_record`."""
        return self._raw.delete_record(self._coding.key(key), if_lsn=if_lsn, durability=durability)

    remove_expired = passed(DB.remove_expired)

    @property
    def last_lsn(self) -> int:
        """The LSN of the newest write."""
        return self._raw.last_lsn

    # -- many keys

    def get_many(self, keys: Iterable[K]) -> list[V | None]:
        """The values in the order of `keys`, None for each absent one."""
        encoded = list(self._coding.keys(keys))
        if self._coding.reads_in_place:
            return [self._coding.read_found(key, self._raw.view(key), None) for key in encoded]
        found = self._raw.get_many(encoded)
        return [self._coding.read_found(key, data, None) for key, data in zip(encoded, found, strict=True)]

    def contains_many(self, keys: Iterable[K]) -> list[bool]:
        """For each of `keys` whether it is there."""
        return self._raw.contains_many(self._coding.keys(keys))

    @overload
    def put_many(
        self, pairs: Mapping[K, V] | Iterable[tuple[K, V]], values: None = None, *, sorted: bool = False
    ) -> None: ...
    @overload
    def put_many(self, pairs: Iterable[K], values: Iterable[V], *, sorted: bool = False) -> None: ...
    def put_many(self, pairs: Any, values: Any = None, *, sorted: bool = False) -> None:
        """Store all pairs, of a key and a value each when `values` is given, as one commit: all of them or none.

        `sorted`: they come in ascending order of keys, any number of them, and are stored in pieces; see `DB.put_many`.
        """
        self._raw.put_many(self._coding.pairs(pairs, values), sorted=sorted)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete all of `keys` as one commit; how many were there."""
        return self._raw.delete_many(self._coding.keys(keys))

    def delete_range(self, *, prefix: K | None = None, start: K | None = None, stop: K | None = None) -> int:
        """Delete the keys within the bounds, which are those of `keys`, as one commit; how many."""
        low, high = self._coding.bounds(prefix, start, stop)
        return self._raw.delete_range(start=low, stop=high)

    def clear(self) -> None:
        """Delete every key, as one commit."""
        self._raw.clear()

    def update(self, other: Any = (), /, **pairs: Any) -> None:
        """Store all pairs of a mapping or an iterable, and the keywords, as one batch: all of them or none."""
        with self.batch() as batch:
            batch.put_many(other)
            batch.put_many(cast("dict[K, V]", pairs))

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    # -- batches and snapshots

    def batch(self, *, durability: DurabilitySpec | None = None) -> TypedBatch[K, V]:
        """A write batch: a context manager that commits on success and discards on an exception."""
        return TypedBatch(self._raw.batch(durability=durability), self._coding)

    def snapshot(self) -> TypedSnapshot[K, V]:
        """The store as of now, as a read-only mapping; opened in O(1)."""
        return TypedSnapshot(self, self._raw.snapshot())


class TypedSnapshot(TypedReads[K, V], Mapping[K, V]):
    """A `Snapshot` with codecs: see there."""

    def __init__(self, db: TypedDB[K, V], raw: Snapshot) -> None:
        self._db = db
        self._raw = self._source = raw
        self._coding = db._coding

    @property
    def raw(self) -> Snapshot:
        """The snapshot of bytes below."""
        return self._raw

    @property
    def db(self) -> TypedDB[K, V]:
        """The store this is a snapshot of."""
        return self._db

    @property
    def sequence(self) -> int:
        """The LSN it reads at."""
        return self._raw.sequence

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._raw.closed

    close = passed(Snapshot.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<flash_kv.TypedSnapshot of {self._raw!r}>"
