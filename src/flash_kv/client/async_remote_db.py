"""`AsyncRemoteDB`: a store behind a server, for asyncio and trio.

The operations of `RemoteDB`, each awaited; iteration with `async for`. What cannot be awaited in Python's syntax has a
name: `await db.contains(key)` for `in`, `await db.count()` for `len`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import anyio

from flash_kv.client.arguments import Bytes, as_key, as_keys, as_pairs, as_value, updates
from flash_kv.client.async_transport import AsyncTransport
from flash_kv.client.batch import AsyncRemoteBatch
from flash_kv.client.calls import Bounds, Steps, bounds_of
from flash_kv.client.errors import ServerUnreachableError
from flash_kv.client.events import EventReader, WatchEvent, watch_event
from flash_kv.client.frames import FrameReader
from flash_kv.client.scans import Pick, broken_off, item_of, key_of, value_of
from flash_kv.client.settings import Settings
from flash_kv.client.steps import admin, bulk, single
from flash_kv.client.watching import after, delay_of, watch_call
from flash_kv.engine.record import Record
from flash_kv.engine.reports import BackupReport, CompactionReport, Stats, VerifyReport

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")
DurabilityWord = Literal["process", "always"]


class AsyncRemoteDB:
    """A store behind a server, for any number of tasks of one event loop; an async context manager.

    Made by `flash_kv.connect_async`. Methods raise what those of `RemoteDB` raise. It may be pickled, its token too.
    """

    def __init__(self, settings: Settings, transport: AsyncTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport or AsyncTransport(settings)

    async def _run(self, steps: Steps[_T]) -> _T:
        return await self._transport.run(steps)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._settings.url

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._transport.is_closed

    async def close(self) -> None:
        """Close the connections; the store goes on. A second call does nothing."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<flash_kv.AsyncRemoteDB {self.url!r}, {'closed' if self.closed else 'open'}>"

    def __reduce__(self) -> Any:
        return type(self), (self._settings,)

    # -- reading

    @overload
    async def get(self, key: Bytes, default: None = None) -> bytes | None: ...
    @overload
    async def get(self, key: Bytes, default: bytes) -> bytes: ...
    @overload
    async def get(self, key: Bytes, default: _T) -> bytes | _T: ...
    async def get(self, key: Bytes, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        record = await self._run(single.fetch(as_key(key)))
        return default if record is None else record.value

    async def get_record(self, key: Bytes) -> Record | None:
        """The record of `key`: its value, LSN, expiry, and as `meta` its content type; None when it is absent."""
        found = await self._run(single.fetch(as_key(key)))
        return None if found is None else Record(*found)

    async def contains(self, key: Bytes) -> bool:
        """Whether `key` is there."""
        return await self._run(single.contains(as_key(key)))

    async def count(
        self, *, prefix: Bytes | None = None, start: Bytes | None = None, stop: Bytes | None = None
    ) -> int:
        """How many keys there are: in all, with a prefix, or in a range."""
        return await self._run(bulk.count(bounds_of(prefix, start, stop)))

    async def get_many(self, keys: Iterable[Bytes]) -> list[bytes | None]:
        """The values in the order of `keys`, None for each absent one."""
        records = await self._run(bulk.fetch_many(as_keys(keys)))
        return [None if record is None else record.value for record in records]

    async def contains_many(self, keys: Iterable[Bytes]) -> list[bool]:
        """Whether each is there."""
        return await self._run(bulk.contains_many(as_keys(keys)))

    # -- ranges

    def keys(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
    ) -> AsyncIterator[bytes]:
        """The keys: all, those with a prefix, or from `start` (included) to `stop` (not included)."""
        return self._scan(bounds_of(prefix, start, stop), key_of, reverse, keys_only=True)

    def values(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
    ) -> AsyncIterator[bytes]:
        """The values, in the order of their keys; bounds as in `keys`."""
        return self._scan(bounds_of(prefix, start, stop), value_of, reverse)

    def items(
        self,
        *,
        prefix: Bytes | None = None,
        start: Bytes | None = None,
        stop: Bytes | None = None,
        reverse: bool = False,
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """The (key, value) pairs; bounds as in `keys`."""
        return self._scan(bounds_of(prefix, start, stop), item_of, reverse)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    async def _scan(
        self, bounds: Bounds, pick: Pick, reverse: bool, *, keys_only: bool = False
    ) -> AsyncIterator[Any]:
        """One iteration: it sees the moment of its first step, and holds a connection until its end."""
        if bounds.range.is_empty:
            return
        call = bulk.scan_call(bounds, reverse=reverse, keys_only=keys_only)
        reader = FrameReader()
        response = await self._transport.open(call)
        try:
            async for chunk in self._transport.chunks(call, response):
                for frame in reader.feed(chunk):
                    # A client that was closed ends what it began, also what has come already.
                    self._transport.require_open()
                    yield pick(frame)
                if reader.is_at_end:
                    break
        finally:
            await response.aclose()
        if (error := broken_off(reader, self.url)) is not None:
            raise error

    # -- writing

    async def put(self, key: Bytes, value: Bytes) -> None:
        """Store `value` under `key`; back when the server has committed it."""
        await self._run(single.store(as_key(key), as_value(value)))

    async def put_record(
        self,
        key: Bytes,
        value: Bytes,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: bytes = b"",
        if_lsn: int | None = None,
        durability: DurabilityWord | None = None,
    ) -> int:
        """Store a record; its LSN. As `RemoteDB.put_record`."""
        ttl_s = single.remaining(ttl_s, expires_at)
        return await self._run(
            single.store(
                as_key(key), as_value(value), ttl_s=ttl_s, meta=meta, if_lsn=if_lsn, durability=durability
            )
        )

    async def delete(self, key: Bytes) -> bool:
        """Delete `key`; whether it was there."""
        return await self.delete_record(key) is not None

    async def delete_record(
        self, key: Bytes, *, if_lsn: int | None = None, durability: DurabilityWord | None = None
    ) -> int | None:
        """Delete `key`; the LSN of the delete, None: it was absent. `if_lsn` as in `put_record`."""
        return await self._run(single.remove(as_key(key), if_lsn=if_lsn, durability=durability))

    async def pop(self, key: Bytes, default: Any = None) -> Any:
        """Delete `key` and return its value, or `default`."""
        value = await self._run(single.pop(as_key(key)))
        return default if value is None else value

    async def popitem(self) -> tuple[bytes, bytes] | None:
        """Delete and return the pair of the greatest key, any one of an unordered store; None when it is empty."""
        return await self._run(single.popitem())

    async def setdefault(self, key: Bytes, default: Bytes = b"") -> bytes:
        """The value of `key`, after storing `default` where there was none."""
        return await self._run(single.setdefault(as_key(key), as_value(default)))

    async def put_many(
        self,
        pairs: Iterable[Any] | Mapping[Any, Bytes] | Buffer,
        values: Iterable[Any] | Buffer | None = None,
        *,
        sorted: bool = False,
    ) -> None:
        """All pairs as one batch; `sorted`: in ascending order, in pieces. As `RemoteDB.put_many`."""
        if sorted:
            await self._run(bulk.load(as_pairs(pairs, values, is_sorted=True)))
        else:
            await self._run(bulk.put_many(as_pairs(pairs, values)))

    async def delete_many(self, keys: Iterable[Bytes]) -> int:
        """Delete the keys, as one batch; how many were there."""
        return await self._run(bulk.delete_many(as_keys(keys)))

    async def update(self, other: Any = (), /, **pairs: Any) -> None:
        """Store all pairs of a mapping or an iterable, and the keywords, as one batch: all of them or none."""
        await self._run(bulk.put_many(updates(other, pairs)))

    async def clear(self) -> None:
        """Delete every key, as one commit."""
        await self.delete_range()

    async def delete_range(
        self, *, prefix: Bytes | None = None, start: Bytes | None = None, stop: Bytes | None = None
    ) -> int:
        """Delete the keys with a prefix, or in a range, as one commit; how many. Without a bound: every key."""
        return await self._run(bulk.delete_range(bounds_of(prefix, start, stop)))

    def batch(self, *, durability: DurabilityWord | None = None) -> AsyncRemoteBatch:
        """A write batch: an async context manager that commits on success and discards on an exception."""
        self._transport.require_open()
        return AsyncRemoteBatch(self, durability)

    # -- watching, looking after

    async def watch(
        self, *, prefix: Bytes | None = None, since: int | None = None, values: bool = False
    ) -> AsyncIterator[WatchEvent]:
        """The changes as they are committed; taken up again where the stream breaks off, as `RemoteDB.watch`."""
        call = watch_call(bounds_of(prefix, None, None), since, values)
        failures = 0
        while True:
            try:
                response = await self._transport.open(call)
                reader = EventReader()
                try:
                    async for chunk in self._transport.chunks(call, response):
                        for raw in reader.feed(chunk):
                            if (event := watch_event(raw)) is not None:
                                failures = 0
                                call = after(call, event.lsn)
                                yield event
                finally:
                    await response.aclose()
                raise ServerUnreachableError(self.url, "the watch was ended")
            except ServerUnreachableError:
                if failures >= self._settings.retries:
                    raise
                await anyio.sleep(delay_of(failures))
                failures += 1

    async def stats(self) -> Stats:
        """The state of the store, as `DB.stats` gives it; `path` is one of the server's machine."""
        return await self._run(admin.stats())

    async def server_stats(self) -> dict[str, Any]:
        """What the server says of itself: uptime, connections, requests."""
        return await self._run(admin.server_stats())

    async def sync(self) -> None:
        """Back when everything committed so far survives a power cut of the server's machine."""
        await self._run(admin.sync())

    async def compact(
        self, *, dry_run: bool = False, progress: admin.Progress | None = None
    ) -> CompactionReport:
        """Have the server compact, or wait for a compaction that runs; as `DB.compact`."""
        return await self._run(admin.compact(dry_run=dry_run, progress=progress))

    async def verify(self) -> VerifyReport:
        """Have the server read and check everything; as `DB.verify`."""
        return await self._run(admin.verify())

    async def backup(self, name: str) -> BackupReport:
        """Have the server copy the store under `name` into its folder of backups."""
        return await self._run(admin.backup(name))

    async def cancel(self, job: admin.Job) -> bool:
        """As `RemoteDB.cancel`."""
        return await self._run(admin.cancel(job))
