"""Write batches: several puts and deletes that become visible and durable together, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flash_kv.engine.batch_cy import BatchBuffer
from flash_kv.engine.views import _as_key
from flash_kv.errors import BatchStateError
from flash_kv.options import Durability, DurabilitySpec, parse_durability

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from flash_kv.engine.db import DB

_T = TypeVar("_T")


class WriteBatch:
    """Gathers writes in memory; `commit` makes them one commit.

    As a context manager it commits on success and discards on an exception. It reads its own writes. A crash leaves
    all of a batch or none. Not for several threads at once.
    """

    def __init__(self, db: DB, durability: DurabilitySpec | None) -> None:
        self._db = db
        self._durability: Durability | None = None if durability is None else parse_durability(durability)
        self._buffer = db._take_buffer()
        self._overlay: dict[bytes, bytes | None] = {}
        self._overlaid = 0
        self._state = "open"

    def _require_open(self) -> None:
        if self._state != "open":
            raise BatchStateError(self._state)

    def put(self, key: str | Buffer, value: str | Buffer) -> None:
        """Store `value` under `key` when the batch commits."""
        self._require_open()
        self._buffer.put(key, value)

    def delete(self, key: str | Buffer) -> None:
        """Delete `key`, if it is there, when the batch commits."""
        self._require_open()
        self._buffer.delete(key)

    def put_many(
        self, pairs: Iterable[tuple[str | Buffer, str | Buffer]] | Mapping[Any, str | Buffer]
    ) -> None:
        """Add a put for each pair, or for each item of a mapping."""
        self._require_open()
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            self._buffer.put(key, value)

    def delete_many(self, keys: Iterable[str | Buffer]) -> None:
        """Add a delete for each key."""
        self._require_open()
        for key in keys:
            self._buffer.delete(key)

    __setitem__ = put
    __delitem__ = delete

    @overload
    def get(self, key: str | Buffer, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str | Buffer, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str | Buffer, default: _T) -> bytes | _T: ...
    def get(self, key: str | Buffer, default: Any = None) -> Any:
        """The value `key` would have if the batch committed now, or `default`."""
        self._require_open()
        self._overlaid = self._buffer.find_last(self._overlaid, self._overlay)
        found = _as_key(key)
        if found in self._overlay:
            value = self._overlay[found]
            return default if value is None else value
        return self._db.get(key, default)

    def __getitem__(self, key: str | Buffer) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: str | Buffer) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        """The number of puts and deletes so far."""
        return len(self._buffer)

    @property
    def size_bytes(self) -> int:
        """Bytes the batch will take in the log."""
        return self._buffer.bytes_used

    def commit(self) -> None:
        """Make all of it one commit, as durable as the batch's (else the store's) durability says.

        Raises as `DB.put`; then nothing of it is stored, and the batch stays open to be tried again.
        """
        self._require_open()
        self._db._commit_waiting(self._buffer, self._durability)
        self._end("committed")

    def discard(self) -> None:
        """Forget all of it. On a batch that has ended: nothing."""
        if self._state == "open":
            self._end("discarded")

    def _end(self, state: str) -> None:
        self._state = state
        self._db._give_back(self._buffer)
        self._buffer = BatchBuffer()
        self._overlay = {}

    def __enter__(self) -> WriteBatch:
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

    def __repr__(self) -> str:
        return f"<flash_kv.WriteBatch of {len(self)} writes, {self._state}>"
