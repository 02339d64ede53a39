"""`watch`: the changes of a store as they are committed, from a stream that is taken up again where it broke off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from flash_kv.client.calls import PROBLEM, Bounds, Call, require_process
from flash_kv.client.errors import ServerUnreachableError
from flash_kv.client.events import EventReader, WatchEvent, watch_event
from flash_kv.client.retrying import FIRST_DELAY_S

if TYPE_CHECKING:
    from flash_kv.client.transport import Transport

DELAY_S_MAX = 5.0


def watch_call(bounds: Bounds, since: int | None, values: bool) -> Call:
    """The call whose answer is a stream of events."""
    params: tuple[tuple[str, str | bytes], ...] = bounds.params
    if since is not None:
        params += (("since", str(since)),)
    if values:
        params += (("values", "true"),)
    return Call("GET", "/v1/watch", params, {"Accept": f"text/event-stream, {PROBLEM}"}, is_read=True)


def after(call: Call, lsn: int) -> Call:
    """The same call, going on behind what has been seen."""
    params = tuple(pair for pair in call.params if pair[0] != "since")
    return replace(call, params=(*params, ("since", str(lsn))))


def delay_of(failures: int) -> float:
    """Seconds before the stream is asked for again."""
    return min(FIRST_DELAY_S * 2.0**failures, DELAY_S_MAX)


class Watch(Iterator[WatchEvent]):
    """Changes, as an iterator without an end; close it, or use it as a context manager.

    A stream that breaks off is asked for again from the last LSN seen on, so that nothing is missed or seen twice;
    after `retries` times without an event in between, ServerUnreachableError.
    """

    def __init__(self, transport: Transport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._failures = 0
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._response = self._transport.open(self._call)
        self._chunks = self._transport.chunks(self._call, self._response)
        self._reader = EventReader()
        self._pending: Iterator[WatchEvent] = iter(())
        self._is_open = True

    def __next__(self) -> WatchEvent:
        while True:
            for event in self._pending:
                self._failures = 0
                self._call = after(self._call, event.lsn)
                return event
            if not self._is_open:
                raise StopIteration
            self._take_more()

    def _take_more(self) -> None:
        self._transport.require_open()
        require_process(self._transport.settings.url, self._pid)
        try:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise ServerUnreachableError(self._transport.settings.url, "the watch was ended")
            found = [watch_event(event) for event in self._reader.feed(chunk)]
            self._pending = iter([event for event in found if event is not None])
        except ServerUnreachableError:
            self.close()
            if self._failures >= self._transport.settings.retries:
                raise
            time.sleep(delay_of(self._failures))
            self._failures += 1
            self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the iterator is at its end."""
        if self._is_open:
            self._is_open = False
            if self._pid == os.getpid():
                self._response.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()
