"""Write batches: several puts and deletes that become visible and durable together, or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flash_kv.engine.batch_cy import BatchWrites
from flash_kv.engine.views import _as_key
from flash_kv.options import Durability, DurabilitySpec, parse_durability

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from flash_kv.engine.db import DB

_T = TypeVar("_T")


class WriteBatch(BatchWrites):
    """Gathers writes in memory; `commit` makes them one commit.

    As a context manager it commits on success and discards on an exception. It reads its own writes. A crash leaves
    all of a batch or none. Not for several threads at once.
    """

    def __init__(self, db: DB, durability: DurabilitySpec | None) -> None:
        self._db = db
        self._durability: Durability | None = None if durability is None else parse_durability(durability)
        self._overlay: dict[bytes, bytes | None] = {}
        self._overlaid = 0
        self._begin(db._take_buffer())

    @overload
    def get(self, key: str | Buffer, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: str | Buffer, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str | Buffer, default: _T) -> bytes | _T: ...
    def get(self, key: str | Buffer, default: Any = None) -> Any:
        """The value `key` would have if the batch committed now, or `default`."""
        self._overlaid = self._open_buffer().find_last(self._overlaid, self._overlay)
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

    def commit(self) -> None:
        """Make all of it one commit, as durable as the batch's (else the store's) durability says.

        Raises as `DB.put`, and ConflictError when a condition of `require` does not hold; then nothing of it is stored,
        and the batch stays open to be tried again.
        """
        self._db._commit_waiting(self._open_buffer(), self._durability)
        self._finish("committed")
        if self._attributes is not None:
            self._db._sweeper.note(self._db, self._attributes)

    @property
    def lsns(self) -> range:
        """After a commit: the LSNs of what it wrote, in the order of the calls.

        All puts and deletes of a batch have one each; in a batch of deletes alone only those whose keys were there.
        """
        return self._written if self._state == "committed" else range(0)

    def discard(self) -> None:
        """Forget all of it. On a batch that has ended: nothing."""
        if self._state == "open":
            self._finish("discarded")

    def _finish(self, state: str) -> None:
        self._db._give_back(self._end(state))
        self._overlay = {}

    def __enter__(self) -> WriteBatch:
        self._open_buffer()
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
