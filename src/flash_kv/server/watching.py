"""`Hub`: the changes of the store for any number of watchers, by one reader of the log.

The reader follows the log while there is a watcher and keeps the newest events, as bytes ready to be sent, within
`RING_BYTES`. A watcher takes from there what comes after the LSN it is at, as fast as its connection does; whoever is
so slow that its next event has been dropped is told what it missed. So neither the store nor another watcher waits for
it. What is older than the ring is read from the log by the watcher's own cursor, one watcher at a time.

The reader keeps no more ahead of the watchers than it has to: the log is the buffer. With a full ring it waits for
those who get on, but for nobody who has not for `PATIENCE_S`.

All of it runs in the event loop, except for reading the log, which may wait for the disk.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from flash_kv import Change, Changes, ChangesLostError, ClosedError, FlashKVError
from flash_kv.server.http.events import event
from flash_kv.server.http.problems import key_fields
from flash_kv.server.service import Service

log = logging.getLogger("flash_kv.server")

# Events kept for those who are behind, frames and keys and values.
RING_BYTES = 16 * 1024**2
# A value that is larger is not in its event.
VALUE_BYTES_MAX = 64 * 1024
# Looking for news costs a microsecond.
POLL_S = 0.01
BEAT_S = 15.0
PATIENCE_S = 1.0
# What is given to a connection at once.
CHUNK_BYTES = 64 * 1024
# Beside its bytes, an event takes so much memory.
EVENT_OVERHEAD_BYTES = 400


class Event:
    """One change, as it is sent: with its value or without, made once for all watchers."""

    __slots__ = ("_change", "_full", "lsn", "plain")

    def __init__(self, change: Change) -> None:
        self._change = change
        self.lsn = change.lsn
        self.plain = self._encode(with_value=False)
        self._full: bytes | None = None

    @property
    def key(self) -> bytes:
        return self._change.key

    @property
    def size(self) -> int:
        """Memory, about, if all of it comes to be used."""
        return 3 * (len(self.plain) + len(self._change.value or b"")) + EVENT_OVERHEAD_BYTES

    @property
    def full(self) -> bytes:
        """With the value, unless it is too large."""
        if self._full is None:
            self._full = self._encode(with_value=True)
        return self._full

    def _encode(self, with_value: bool) -> bytes:
        change = self._change
        if change.is_delete:
            return event("delete", {**key_fields(change.key), "lsn": change.lsn}, change.lsn)
        data: dict[str, Any] = {
            **key_fields(change.key),
            "lsn": change.lsn,
            "value_bytes": change.value_size,
        }
        if with_value and change.value is not None:
            data |= _value_fields(change.value)
        return event("put", data, change.lsn)


def _value_fields(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_b64": base64.b64encode(value).decode()}


class Hub:
    """The newest changes, and who waits for more."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ring: deque[Event] = deque()
        self.ring_bytes = 0
        self.ring_bytes_max = RING_BYTES
        self.beat_s = BEAT_S
        self.watchers: set[Watcher] = set()
        # The number of the first event of the ring, counted from the start of the server.
        self.first = 0
        # The ring has every change after `floor` up to `lsn`.
        self.floor = self.lsn = 0
        self.reads = 0
        """Pieces of the log that the one reader has read."""
        self.news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.catching_up = asyncio.Lock()
        service.stoppers.append(self.stop)
        service.gauges["watchers"] = lambda: len(self.watchers)
        service.gauges["watch_reads"] = lambda: self.reads

    # -- the one reader

    def join(self, watcher: Watcher) -> None:
        """One more watcher: the reader runs from now on."""
        self.watchers.add(watcher)
        if self._reader is None or self._reader.done():
            self._begin_at(self.service.db.last_lsn)
            self._reader = asyncio.create_task(self._follow(), name="watch")

    async def leave(self, watcher: Watcher) -> None:
        """One less; without any nothing is read."""
        self.watchers.discard(watcher)
        if not self.watchers:
            await self.stop()

    async def stop(self) -> None:
        """End the reader."""
        reader, self._reader = self._reader, None
        self._tell()
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if not self.watchers:
            self._begin_at(self.lsn)

    @property
    def end(self) -> int:
        """The number of the event that will come next."""
        return self.first + len(self.ring)

    @property
    def is_read(self) -> bool:
        """Whether more will come."""
        return self._reader is not None and not self._reader.done() and not self.service.is_stopping

    def _begin_at(self, lsn: int) -> None:
        self.first += len(self.ring)
        self.ring.clear()
        self.ring_bytes = 0
        self.floor = self.lsn = lsn

    async def _follow(self) -> None:
        """Follow the log until the server stops; what nobody foresaw ends all streams, and clients come back."""
        try:
            await self._read_on()
        except Exception:
            log.exception("watching")
        finally:
            self._tell()

    async def _read_on(self) -> None:
        db = self.service.db
        changes = db.changes(self.lsn, value_bytes_max=VALUE_BYTES_MAX)
        ticks = 0.0
        while not self.service.is_stopping:
            if changes.lsn < db.last_lsn:
                await self._wait_for_room()
                try:
                    found = await self.service.call(changes.read, bytes_max=self.ring_bytes_max // 16)
                    self._add(found, changes)
                except ClosedError:
                    break
                except FlashKVError as error:
                    # Overtaken by compaction, or a damaged record: all watchers are told, and it goes on from now.
                    if not isinstance(error, ChangesLostError):
                        log.error("watching: %s", error)
                    changes = db.changes(db.last_lsn, value_bytes_max=VALUE_BYTES_MAX)
                    # One number is left out, so that everybody sees that something is missing.
                    self.first += 1
                    self._begin_at(changes.lsn)
                self._tell()
                continue
            await asyncio.sleep(POLL_S)
            ticks += POLL_S
            if ticks >= min(1.0, self.beat_s):
                ticks = 0.0
                self._tell()

    async def _wait_for_room(self) -> None:
        """Until nobody who gets on needs the older half of a ring that is full."""
        clock = asyncio.get_running_loop().time
        while self.ring_bytes > self.ring_bytes_max // 2 and not self.service.is_stopping:
            half = self.first + len(self.ring) // 2
            if not any(one.is_waited_for(half, clock()) for one in self.watchers):
                return
            await asyncio.sleep(POLL_S / 2)

    def _add(self, found: list[Change], changes: Changes) -> None:
        self.reads += 1
        for change in found:
            made = Event(change)
            self.ring.append(made)
            self.ring_bytes += made.size
        self.lsn = changes.lsn
        while self.ring_bytes > self.ring_bytes_max and self.ring:
            dropped = self.ring.popleft()
            self.ring_bytes -= dropped.size
            self.first += 1
            self.floor = dropped.lsn

    def _tell(self) -> None:
        """Wake all who wait."""
        before, self.news = self.news, asyncio.Event()
        before.set()

    def number_after(self, lsn: int) -> int:
        """The number of the first event after `lsn`, one that is not there when it was dropped."""
        if lsn < self.floor:
            return self.first - 1
        low, high = 0, len(self.ring)
        while low < high:
            middle = (low + high) // 2
            if self.ring[middle].lsn <= lsn:
                low = middle + 1
            else:
                high = middle
        return self.first + low


class Watcher:
    """One stream of events: of the keys that it `wants`, after the LSN `since` or from now on."""

    def __init__(
        self, hub: Hub, since: int | None, wants: Callable[[bytes], bool], with_values: bool
    ) -> None:
        self._hub = hub
        self._lsn = since
        self._wants = wants
        self._with_values = with_values
        # The event of the ring that comes next, and when the one before was taken; None while it reads the log itself.
        self._number: int | None = None
        self._moved_at = 0.0

    def is_waited_for(self, number: int, now: float) -> bool:
        """Whether it needs events before this one and gets on."""
        return self._number is not None and self._number < number and now - self._moved_at < PATIENCE_S

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events as bytes, until the server stops or the generator is closed."""
        hub = self._hub
        hub.join(self)
        try:
            lsn = hub.lsn if self._lsn is None else self._lsn
            yield b"retry: 1000\n" + _beat(lsn)
            if lsn < hub.floor or lsn > hub.service.db.last_lsn:
                catching_up = self._catch_up(lsn)
                async for frames, reached in catching_up:
                    yield frames
                    lsn = reached
            async for frames in self._take(lsn):
                yield frames
        finally:
            await hub.leave(self)

    def _frame(self, one: Event) -> bytes:
        return one.full if self._with_values else one.plain

    async def _catch_up(self, lsn: int) -> AsyncGenerator[tuple[bytes, int], None]:
        """What is in the log and not in the ring any more, and how far each piece goes."""
        hub = self._hub
        try:
            changes = hub.service.db.changes(lsn, value_bytes_max=VALUE_BYTES_MAX)
            # From the log as long as the ring moves on faster than the client does.
            while changes.lsn < hub.floor and not hub.service.is_stopping:
                async with hub.catching_up:
                    found = await hub.service.call(changes.read)
                if not found:
                    break
                lsn = changes.lsn
                frames = [self._frame(Event(change)) for change in found if self._wants(change.key)]
                # A beat behind each piece: where to resume, also when nothing of it was wanted.
                yield b"".join([*frames, _beat(lsn)]), lsn
        except ChangesLostError:
            yield _missed(lsn, hub.lsn), hub.lsn

    async def _take(self, lsn: int) -> AsyncGenerator[bytes, None]:
        """Events of the ring after `lsn`, as they come."""
        hub = self._hub
        number = hub.number_after(lsn)
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        while hub.is_read:
            news = hub.news
            if number < hub.first:
                # What it should have got next is gone.
                yield _missed(lsn, hub.lsn)
                number, lsn, sent_at = hub.end, hub.lsn, clock()
                continue
            frames, number, lsn = self._gather(number, lsn)
            self._number, self._moved_at = number, clock()
            if frames:
                yield b"".join(frames)
                sent_at = clock()
            elif number == hub.end:
                if clock() - sent_at >= hub.beat_s:
                    yield _beat(max(lsn, hub.lsn))
                    sent_at = clock()
                await news.wait()

    def _gather(self, number: int, lsn: int) -> tuple[list[bytes], int, int]:
        """What to send of the ring from an event on, which one comes next, and the LSN that was come to."""
        hub = self._hub
        frames: list[bytes] = []
        size = 0
        while number < hub.end and size < CHUNK_BYTES:
            one = hub.ring[number - hub.first]
            number += 1
            # A cursor of the log may have been ahead of the ring.
            if one.lsn > lsn:
                lsn = one.lsn
                if self._wants(one.key):
                    frames.append(self._frame(one))
                    size += len(frames[-1])
        return frames, number, lsn


def _beat(lsn: int) -> bytes:
    return event("beat", {"lsn": lsn}, lsn)


def _missed(since: int, lsn: int) -> bytes:
    """Changes after `since` up to `lsn` are not sent; it goes on behind them."""
    return event("missed", {"since": since, "lsn": lsn}, lsn)
