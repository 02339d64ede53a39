"""Write batches of a client: gathered here, sent as one, committed by the server as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flash_kv.client.arguments import Bytes, as_key, as_keys, as_pairs, as_value
from flash_kv.client.calls import Steps, durability_params
from flash_kv.client.steps import bulk, single
from flash_kv.errors import BatchStateError

if TYPE_CHECKING:
    from flash_kv.client.async_remote_db import AsyncRemoteDB
    from flash_kv.client.remote_db import RemoteDB

_T = TypeVar("_T")


class Gathered:
    """What both kinds of batch are: writes and conditions in memory, until they are sent."""

    def __init__(self, durability: object) -> None:
        durability_params(durability)
        self._durability = durability
        self._writes: list[bulk.Write] = []
        self._required: list[tuple[bytes, int]] = []
        # The newest write of each key, for reads.
        self._overlay: dict[bytes, bytes | None] = {}
        self._size = 0
        self._state = "open"
        self._lsns: Sequence[int | None] = ()

    def put(self, key: Bytes, value: Bytes) -> None:
        """Add a put."""
        self._add(bulk.Write(as_key(key), as_value(value)))

    def put_record(
        self,
        key: Bytes,
        value: Bytes,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: bytes = b"",
    ) -> None:
        """Add a put of a record that expires, or has meta data: see `RemoteDB.put_record`."""
        ttl_s = single.remaining(ttl_s, expires_at)
        self._add(bulk.Write(as_key(key), as_value(value), ttl_s, meta))

    def delete(self, key: Bytes) -> None:
        """Add a delete; that of an absent key does nothing."""
        self._add(bulk.Write(as_key(key), None))

    def put_many(
        self, pairs: Iterable[Any] | Mapping[Any, Bytes], values: Iterable[Any] | None = None
    ) -> None:
        """Add a put for each pair, or none of them when one is wrong."""
        self._require_open()
        for write in [bulk.Write(key, value) for key, value in as_pairs(pairs, values)]:
            self._add(write)

    def delete_many(self, keys: Iterable[Bytes]) -> None:
        """Add a delete for each key, or none of them when one is wrong."""
        self._require_open()
        for key in list(as_keys(keys)):
            self._add(bulk.Write(key, None))

    def require(self, key: Bytes, lsn: int) -> None:
        """Commit only if the record of `key` has this LSN then; 0: only if it is absent, -1: only if it is there."""
        self._require_open()
        self._required.append((as_key(key), lsn))

    def __setitem__(self, key: Bytes, value: Bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: Bytes) -> None:
        self.delete(key)

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys and values."""
        return self._size

    @property
    def lsns(self) -> Sequence[int | None]:
        """The LSN of each write, once committed."""
        return self._lsns

    def discard(self) -> None:
        """Forget all of it. On a batch that has ended: nothing."""
        if self._state == "open":
            self._end("discarded")

    def _add(self, write: bulk.Write) -> None:
        self._require_open()
        self._writes.append(write)
        self._overlay[write.key] = write.value
        self._size += len(write.key) + len(write.value or b"")

    def _require_open(self) -> None:
        if self._state != "open":
            raise BatchStateError(self._state)

    def _end(self, state: str) -> None:
        self._state = state
        self._writes, self._overlay = [], {}

    def _committing(self) -> Steps[None]:
        self._require_open()
        if self._writes or self._required:
            self._lsns = yield from bulk.commit(self._required, self._writes, self._durability)
        self._end("committed")

    def _getting(self, key: Bytes, default: Any) -> Steps[Any]:
        self._require_open()
        found = as_key(key)
        if found in self._overlay:
            value = self._overlay[found]
        else:
            record = yield from single.fetch(found)
            value = None if record is None else record.value
        return default if value is None else value

    def __repr__(self) -> str:
        return f"<flash_kv.{type(self).__name__} of {len(self)} writes, {self._state}>"


class RemoteBatch(Gathered):
    """Gathers writes; `commit` makes them one commit of the server: all of it or none, also when either end dies.

    As a context manager it commits on success and discards on an exception. It reads its own writes.
    """

    def __init__(self, db: RemoteDB, durability: object) -> None:
        super().__init__(durability)
        self._db = db

    @overload
    def get(self, key: Bytes, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: Bytes, default: bytes) -> bytes: ...
    @overload
    def get(self, key: Bytes, default: _T) -> bytes | _T: ...
    def get(self, key: Bytes, default: Any = None) -> Any:
        """The value `key` would have if the batch committed now, or `default`."""
        return self._db._run(self._getting(key, default))

    def __getitem__(self, key: Bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Bytes) -> bool:
        return self.get(key) is not None

    def commit(self) -> None:
        """Make all of it one commit. ConflictError when a requirement is not met; then nothing of it is stored.

        After any error but ServerUnreachableError with `is_in_doubt` it may be tried again.
        """
        self._db._run(self._committing())

    def __enter__(self) -> RemoteBatch:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state != "open":
            return
        if kind is None:
            self.commit()
        else:
            self.discard()


class AsyncRemoteBatch(Gathered):
    """As `RemoteBatch`, with `async with`, and `get` and `commit` awaited."""

    def __init__(self, db: AsyncRemoteDB, durability: object) -> None:
        super().__init__(durability)
        self._db = db

    async def get(self, key: Bytes, default: Any = None) -> Any:
        """The value `key` would have if the batch committed now, or `default`."""
        return await self._db._run(self._getting(key, default))

    async def commit(self) -> None:
        """As `RemoteBatch.commit`."""
        await self._db._run(self._committing())

    async def __aenter__(self) -> AsyncRemoteBatch:
        self._require_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state != "open":
            return
        if kind is None:
            await self.commit()
        else:
            self.discard()
