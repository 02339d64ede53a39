"""`RemoteDB`: a store behind a server as a mutable mapping of bytes to bytes.

The same methods with the same meaning as those of `flash_kv.DB`; each is one operation of `steps`, driven over one
`Transport`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from flash_kv.client.arguments import Bytes, as_key, as_keys, as_pairs, as_value, updates
from flash_kv.client.batch import RemoteBatch
from flash_kv.client.calls import Bounds, Steps, bounds_of
from flash_kv.client.scans import (
    RemoteItemsView,
    RemoteKeysView,
    RemoteValuesView,
    item_of,
    item_view_of,
    key_of,
    value_of,
    value_view_of,
)
from flash_kv.client.settings import Settings
from flash_kv.client.steps import admin, bulk, single
from flash_kv.client.transport import Transport
from flash_kv.client.watching import Watch, watch_call
from flash_kv.engine.record import Record
from flash_kv.engine.reports import BackupReport, CompactionReport, Stats, VerifyReport

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")


class RemoteDB(MutableMapping[bytes, bytes]):
    """A store behind a server: a mutable mapping, for any number of threads, and a context manager.

    Made by `flash_kv.connect`. It may be pickled, its token too, and used in a forked child; both then have
    connections of their own. Methods raise what those of `DB` raise, and RemoteError, AccessDeniedError,
    ServerUnreachableError and ServerTimeoutError.
    """

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._transport = transport or Transport(settings)

    def _run(self, steps: Steps[_T]) -> _T:
        return self._transport.run(steps)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._settings.url

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._transport.is_closed

    def close(self) -> None:
        """Close the connections; the store goes on. A second call does nothing."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<flash_kv.RemoteDB {self.url!r}, {'closed' if self.closed else 'open'}>"

    def __reduce__(self) -> Any:
        return type(self), (self._settings,)

    # -- reading

    @overload
    def get(self, key: Bytes, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: Bytes, default: bytes) -> bytes: ...
    @overload
    def get(self, key: Bytes, default: _T) -> bytes | _T: ...
    def get(self, key: Bytes, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        record = self._run(single.fetch(as_key(key)))
        return default if record is None else record.value

    def get_record(self, key: Bytes) -> Record | None:
        """The record of `key`: its value, LSN, expiry, and as `meta` its content type; None when it is absent."""
        found = self._run(single.fetch(as_key(key)))
        return None if found is None else Record(*found)

    def view(self, key: Bytes, default: Any = None, *, recheck: bool = False) -> Any:
        """The value as a memoryview, of a copy: it came over the network, and every read of it is checked."""
        record = self._run(single.fetch(as_key(key)))
        return default if record is None else memoryview(record.value)

    def __getitem__(self, key: Bytes) -> bytes:
        record = self._run(single.fetch(as_key(key)))
        if record is None:
            raise KeyError(key)
        return record.value

    def __contains__(self, key: object) -> bool:
        return self._run(single.contains(as_key(key)))

    def __len__(self) -> int:
        return self._run(bulk.count(Bounds()))

    def __bool__(self) -> bool:
        return True

    def get_many(self, keys: Iterable[Bytes]) -> list[bytes | None]:
        """The values in the order of `keys`, None for each absent one; a thousand keys in one request."""
        records = self._run(bulk.fetch_many(as_keys(keys)))
        return [None if record is None else record.value for record in records]

    def contains_many(self, keys: Iterable[Bytes]) -> list[bool]:
        """Whether each is there; a thousand keys in one request."""
        return self._run(bulk.contains_many(as_keys(keys)))

    # -- ranges

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __reversed__(self) -> Iterator[bytes]:
        return reversed(self.keys())

    def keys(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
    ) -> RemoteKeysView:
        """A view of the keys: all, those with a prefix, or from `start` (included) to `stop` (not included).

        Each iteration runs on a snapshot of the moment it begins, and holds a connection until its end.
        """
        return RemoteKeysView(self, bounds_of(prefix, start, stop), reverse, key_of)

    def values(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
        view: bool = False,
    ) -> RemoteValuesView:
        """A view of the values, in the order of their keys; bounds as in `keys`. `view`: as memoryviews."""
        pick = value_view_of if view else value_of
        return RemoteValuesView(self, bounds_of(prefix, start, stop), reverse, pick)

    def items(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
        view: bool = False,
    ) -> RemoteItemsView:
        """A view of the (key, value) pairs; bounds as in `keys`. `view`: values as memoryviews."""
        pick = item_view_of if view else item_of
        return RemoteItemsView(self, bounds_of(prefix, start, stop), reverse, pick)

    # -- writing

    def put(self, key: Bytes, value: Bytes) -> None:
        """Store `value` under `key`; back when the server has committed it."""
        self._run(single.store(as_key(key), as_value(value)))

    def put_record(
        self,
        key: Bytes,
        value: Bytes,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: bytes = b"",
        if_lsn: int | None = None,
        durability: Literal["process", "always"] | None = None,
    ) -> int:
        """Store a record; its LSN. `meta`: a content type, kept with it.

        `if_lsn`: only if the record has that LSN now, 0: only if it is absent, -1: only if it is there; else
        ConflictError.
        """
        ttl_s = single.remaining(ttl_s, expires_at)
        return self._run(
            single.store(
                as_key(key), as_value(value), ttl_s=ttl_s, meta=meta, if_lsn=if_lsn, durability=durability
            )
        )

    def delete(self, key: Bytes) -> bool:
        """Delete `key`; whether it was there."""
        return self.delete_record(key) is not None

    def delete_record(
        self,
        key: Bytes,
        *,
        if_lsn: int | None = None,
        durability: Literal["process", "always"] | None = None,
    ) -> int | None:
        """Delete `key`; the LSN of the delete, None: it was absent. `if_lsn` as in `put_record`."""
        return self._run(single.remove(as_key(key), if_lsn=if_lsn, durability=durability))

    def __setitem__(self, key: Bytes, value: Bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: Bytes) -> None:
        if not self.delete(key):
            raise KeyError(key)

    @overload
    def pop(self, key: Bytes) -> bytes: ...
    @overload
    def pop(self, key: Bytes, default: bytes, /) -> bytes: ...
    @overload
    def pop(self, key: Bytes, default: _T, /) -> bytes | _T: ...
    def pop(self, key: Bytes, *default: Any) -> Any:
        """Delete `key` and return its value, or `default`; KeyError when it is absent and there is none."""
        if len(default) > 1:
            raise TypeError(f"pop() takes at most 2 arguments, got {1 + len(default)}")
        value = self._run(single.pop(as_key(key)))
        if value is None:
            if not default:
                raise KeyError(key)
            return default[0]
        return value

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete and return the pair of the greatest key, any one of an unordered store; KeyError when it is empty."""
        found = self._run(single.popitem())
        if found is None:
            raise KeyError("popitem(): the store is empty")
        return found

    def setdefault(self, key: Bytes, default: Bytes = b"") -> bytes:
        """The value of `key`, after storing `default` where there was none."""
        return self._run(single.setdefault(as_key(key), as_value(default)))

    def put_many(
        self,
        pairs: Iterable[Any] | Mapping[Any, Bytes] | Buffer,
        values: Iterable[Any] | Buffer | None = None,
        *,
        sorted: bool = False,
    ) -> None:
        """All pairs of an iterable, a mapping, or of keys and values apart, as one batch in one request.

        `sorted`: any number of pairs in ascending order of keys, streamed and committed in pieces.
        """
        if sorted:
            self._run(bulk.load(as_pairs(pairs, values, is_sorted=True)))
        else:
            self._run(bulk.put_many(as_pairs(pairs, values)))

    def delete_many(self, keys: Iterable[Bytes]) -> int:
        """Delete the keys, as one batch; how many were there."""
        return self._run(bulk.delete_many(as_keys(keys)))

    def update(self, other: Any = (), /, **pairs: Any) -> None:
        """Store all pairs of a mapping or an iterable, and the keywords, as one batch: all of them or none."""
        self._run(bulk.put_many(updates(other, pairs)))

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def clear(self) -> None:
        """Delete every key, as one commit."""
        self.delete_range()

    def delete_range(
        self, *, prefix: Bytes | None = None, start: Bytes | None = None, stop: Bytes | None = None
    ) -> int:
        """Delete the keys with a prefix, or from `start` (included) to `stop` (not included), as one commit; how many.

        Without a bound: every key.
        """
        return self._run(bulk.delete_range(bounds_of(prefix, start, stop)))

    def batch(self, *, durability: Literal["process", "always"] | None = None) -> RemoteBatch:
        """A write batch: a context manager that commits on success and discards on an exception."""
        self._transport.require_open()
        return RemoteBatch(self, durability)

    # -- watching, looking after

    def watch(self, *, prefix: Bytes | None = None, since: int | None = None, values: bool = False) -> Watch:
        """The changes as they are committed, of all keys or those with a prefix, `since` an LSN or from now on."""
        return Watch(self._transport, watch_call(bounds_of(prefix, None, None), since, values))

    def stats(self) -> Stats:
        """The state of the store, as `DB.stats` gives it; `path` is one of the server's machine."""
        return self._run(admin.stats())

    def server_stats(self) -> dict[str, Any]:
        """What the server says of itself: uptime, connections, requests."""
        return self._run(admin.server_stats())

    def sync(self) -> None:
        """Back when everything committed so far survives a power cut of the server's machine."""
        self._run(admin.sync())

    def compact(self, *, dry_run: bool = False, progress: admin.Progress | None = None) -> CompactionReport:
        """Have the server compact, or wait for a compaction that runs; as `DB.compact`."""
        return self._run(admin.compact(dry_run=dry_run, progress=progress))

    def verify(self) -> VerifyReport:
        """Have the server read and check everything; as `DB.verify`."""
        return self._run(admin.verify())

    def backup(self, name: str) -> BackupReport:
        """Have the server copy the store under `name` into its folder of backups."""
        return self._run(admin.backup(name))

    def cancel(self, job: admin.Job) -> bool:
        """Have a job of the server end early; False when none of the kind runs.

        Who waits for a verification or a backup gets RemoteError with status 409; nothing of a backup is left.
        """
        return self._run(admin.cancel(job))
