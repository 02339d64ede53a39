"""Iteration over what a server streams, and the views that begin one.

Invariant: an iteration begins when it is made, sees the store of that moment, and holds a connection until it is at
its end, closed, or dropped. An answer that is cut short raises ServerUnreachableError: it never looks like the end.
"""

from __future__ import annotations

import collections.abc
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from flash_kv.client.arguments import as_bound
from flash_kv.client.calls import PROBLEM, Answer, Bounds, require_process
from flash_kv.client.errors import ServerUnreachableError
from flash_kv.client.frames import Frame, FrameReader
from flash_kv.client.problems import error_of
from flash_kv.client.steps import bulk
from flash_kv.errors import FlashKVError

if TYPE_CHECKING:
    from flash_kv.client.remote_db import RemoteDB
    from flash_kv.client.transport import Transport

Pick = Callable[[Frame], Any]


def key_of(frame: Frame) -> bytes:
    """Of a frame, what `keys()` gives."""
    return frame[0]


def value_of(frame: Frame) -> bytes:
    """Of a frame, what `values()` gives."""
    return frame[1]


def item_of(frame: Frame) -> tuple[bytes, bytes]:
    """Of a frame, what `items()` gives."""
    return frame[:2]


def value_view_of(frame: Frame) -> memoryview:
    """Of a frame, what `values(view=True)` gives."""
    return memoryview(frame[1])


def item_view_of(frame: Frame) -> tuple[bytes, memoryview]:
    """Of a frame, what `items(view=True)` gives."""
    return frame[0], memoryview(frame[1])


def broken_off(reader: FrameReader, url: str) -> FlashKVError | None:
    """The error for a stream that is over and does not end as it should; None for one that does."""
    if not reader.is_at_end:
        return ServerUnreachableError(url, "the answer was cut short")
    if reader.last_words:
        status = int(json.loads(reader.last_words).get("status", 500))
        return error_of(Answer(status, {"content-type": PROBLEM}, reader.last_words), url)
    return None


class Scan(Iterator[Any]):
    """An iterator over the answer to one call."""

    def __init__(
        self, transport: Transport, bounds: Bounds, pick: Pick, *, reverse: bool, keys_only: bool
    ) -> None:
        call = bulk.scan_call(bounds, reverse=reverse, keys_only=keys_only)
        self._transport = transport
        self._pick = pick
        self._reader = FrameReader()
        self._pending: Iterator[Frame] = iter(())
        self._error: FlashKVError | None = None
        self._pid = os.getpid()
        self._response = transport.open(call)
        self._chunks = transport.chunks(call, self._response)
        self._is_open = True
        self._is_done = False

    def __next__(self) -> Any:
        if not self._is_done:
            # A client that was closed ends what it began, also what has come already.
            self._transport.require_open()
        while True:
            for frame in self._pending:
                return self._pick(frame)
            if self._error is not None:
                # Told once: an iterator that has raised is at its end.
                error, self._error = self._error, None
                raise error
            if not self._is_open:
                self._is_done = True
                raise StopIteration
            self._take_more()

    def _take_more(self) -> None:
        require_process(self._transport.settings.url, self._pid)
        try:
            chunk = next(self._chunks, None)
        except BaseException:
            self.close()
            raise
        if chunk is not None:
            self._pending = iter(self._reader.feed(chunk))
        if chunk is None or self._reader.is_at_end:
            self.close()
            # After the frames that came before it.
            self._error = broken_off(self._reader, self._transport.settings.url)

    def close(self) -> None:
        """Let go of the connection; the iterator is at its end."""
        if self._is_open:
            self._is_open = False
            # What is left unread cannot be skipped, so the connection ends with it, unless it is a parent's.
            if self._pid == os.getpid():
                self._response.close()

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()


class _View:
    def __init__(self, db: RemoteDB, bounds: Bounds, reverse: bool, pick: Pick) -> None:
        self._db = db
        self._bounds = bounds
        self._reverse = reverse
        self._pick = pick

    def __len__(self) -> int:
        """The number of entries, counted by the server."""
        return self._db._run(bulk.count(self._bounds))

    def _scan(self, reverse: bool) -> Iterator[Any]:
        if self._bounds.range.is_empty:
            return iter(())
        return Scan(
            self._db._transport, self._bounds, self._pick, reverse=reverse, keys_only=self._pick is key_of
        )

    def __repr__(self) -> str:
        return f"<flash_kv.{type(self).__name__} of {self._db.url!r}>"


class RemoteKeysView(_View, collections.abc.KeysView[bytes]):
    """The keys, as a set-like view."""

    def __iter__(self) -> Iterator[bytes]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[bytes]:
        return self._scan(not self._reverse)

    def __contains__(self, key: object) -> bool:
        found = as_bound(key)
        return found is not None and found in self._bounds.range and found in self._db


class RemoteValuesView(_View, collections.abc.ValuesView[bytes]):
    """The values, in the order of their keys."""

    def __iter__(self) -> Iterator[bytes]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[bytes]:
        return self._scan(not self._reverse)

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)


class RemoteItemsView(_View, collections.abc.ItemsView[bytes, bytes]):
    """The (key, value) pairs, as a set-like view."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._scan(not self._reverse)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key = as_bound(item[0])
        if key is None or key not in self._bounds.range:
            return False
        value = self._db.get(key)
        return value is not None and value == item[1]
