"""Threads that take turns: one runs at a time, and where another one takes over is decided beforehand.

A thread may be interrupted at its **points**: each call to the system (`PointSystem`), each step of a compaction, and
wherever else it says `turns.point(name)`. At the points whose numbers are in `switches` the next thread takes over;
everywhere else the thread goes on. A thread that waits for a lock which another one holds does not come to a point:
after `BLOCKED_S` it is taken for blocked and the next one runs, until it comes to a point by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path

from flash_kv.errors import StrPath
from flash_kv.io.mapping_cy import Mapping
from flash_kv.torture.stepped import UnsyncedSystem

BLOCKED_S = 0.01
DEADLOCK_S = 20.0


class DeadlockError(Exception):
    """No thread comes to a point any more."""


class Turns:
    """One schedule: `run` lets `calls` run, each in a thread of its own."""

    def __init__(self, switches: Collection[int]) -> None:
        self._switches = frozenset(switches)
        # Guards what follows; the threads and the caller of `run` wait on it for each other.
        self._changed = threading.Condition()
        self._running: int | None = None
        self._at_point: set[int] = set()
        self._finished: set[int] = set()
        self._numbers: dict[int, int] = {}
        self.errors: list[BaseException] = []
        self.trace: list[str] = []
        """The points in the order in which they were come to."""

    def point(self, name: str) -> None:
        """Here another thread may take over. Nothing in a thread that does not take turns."""
        number = self._numbers.get(threading.get_ident())
        if number is None:
            return
        with self._changed:
            self.trace.append(f"{number} {name}")
            self._wait_for_turn(number)

    def _wait_for_turn(self, number: int) -> None:
        """Requires: `_changed` held."""
        self._at_point.add(number)
        if self._running == number:
            self._running = None
        self._changed.notify_all()
        while self._running != number:
            self._changed.wait()
        self._at_point.discard(number)

    def _take_part(self, number: int, call: Callable[[], None]) -> None:
        with self._changed:
            self._numbers[threading.get_ident()] = number
            self._wait_for_turn(number)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the caller of `run` gets it
            self.errors.append(error)
        with self._changed:
            self._finished.add(number)
            if self._running == number:
                self._running = None
            self._changed.notify_all()

    def run(self, calls: list[Callable[[], None]]) -> None:
        """Back when all calls have ended; what they raised is in `errors`. DeadlockError."""
        threads = [
            threading.Thread(target=self._take_part, args=(number, call), name=f"turn-{number}", daemon=True)
            for number, call in enumerate(calls)
        ]
        for thread in threads:
            thread.start()
        with self._changed:
            while len(self._at_point) < len(calls):
                self._changed.wait()
            self._lead(len(calls))
        for thread in threads:
            thread.join()

    def _lead(self, count: int) -> None:
        """Requires: `_changed` held."""
        current = number = 0
        while len(self._finished) < count:
            ready = [
                (current + step) % count
                for step in range(count)
                if (current + step) % count in self._at_point
            ]
            if not ready:
                self._wait_for_blocked()
                continue
            current = ready[0]
            if number in self._switches and len(ready) > 1:
                current = ready[1]
            number += 1
            self._running = current
            self._changed.notify_all()
            while self._running is not None:
                if not self._changed.wait(BLOCKED_S) and self._running is not None:
                    # It waits for a lock, or works for long: either way the next one may run beside it.
                    self._running = None

    def _wait_for_blocked(self) -> None:
        """All that are left wait for locks, whose holders have just gone on."""
        if not self._changed.wait(DEADLOCK_S):
            raise DeadlockError(f"nothing happens any more after {self.trace[-5:]}")


class PointSystem(UnsyncedSystem):
    """A system whose calls are points: all but writes and reads, which may happen under the write lock."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def open(self, path: StrPath, flags: int, mode: int = 0o600) -> int:
        self._turns.point(f"open {Path(path).name}")
        return super().open(path, flags, mode)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._turns.point("allocate")
        super().allocate(fd, offset, size)

    def truncate(self, fd: int, size: int) -> None:
        self._turns.point("truncate")
        super().truncate(fd, size)

    def sync_data(self, fd: int) -> None:
        self._turns.point("sync_data")
        super().sync_data(fd)

    def sync_file(self, fd: int) -> None:
        self._turns.point("sync_file")
        super().sync_file(fd)

    def sync_directory(self, path: StrPath) -> None:
        self._turns.point("sync_directory")
        super().sync_directory(path)

    def map(self, fd: int, size: int, writable: bool) -> Mapping:
        self._turns.point("map")
        return super().map(fd, size, writable)

    def rename(self, src: StrPath, dst: StrPath) -> None:
        self._turns.point(f"rename {Path(dst).name}")
        super().rename(src, dst)

    def unlink(self, path: StrPath) -> None:
        self._turns.point(f"unlink {Path(path).name}")
        super().unlink(path)
