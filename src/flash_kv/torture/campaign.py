"""Many runs, side by side in processes: each has a seed of its own, so that any of them can be repeated alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash_kv.torture.crashes import CrashRun
from flash_kv.torture.damages import DamageRun
from flash_kv.torture.faults import FaultRun
from flash_kv.torture.journal import Violation
from flash_kv.torture.runs import PARTS, Part, Run
from flash_kv.torture.schedules import ScheduleRun
from flash_kv.torture.settings import Settings
from flash_kv.torture.tally import Failure, Tally

# Memory, where there is a file system in it: no power cut reaches these stores, so nothing need reach a disk.
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What to try and for how long: until `states` have been tried or `seconds` are over."""

    seed: int
    states: int | None = None
    seconds: float | None = None
    parts: tuple[Part, ...] = PARTS
    settings: Settings = field(default_factory=Settings)
    jobs: int = 1
    directory: Path | None = None
    """Where to work; default: in memory if there is a file system in it, else where temporary files go."""

    def tallies(self) -> Iterator[Tally]:
        """The sum so far, after each run. The first run of each part is always gone through."""
        with tempfile.TemporaryDirectory(prefix="flash-kv-torture-", dir=self._parent()) as scratch:
            yield from self._sums(Path(scratch))

    def _parent(self) -> Path | None:
        if self.directory is not None:
            return self.directory
        return MEMORY if os.access(MEMORY, os.W_OK) else None

    def _sums(self, scratch: Path) -> Iterator[Tally]:
        ends = None if self.seconds is None else time.time() + self.seconds
        total = Tally()
        number = 0
        with _Workers(self.jobs) as workers:
            while True:
                is_enough = (self.states is not None and total.tried >= self.states) or (
                    ends is not None and time.time() >= ends
                )
                while workers.has_room and not (is_enough and number >= len(self.parts)):
                    part = self.parts[number % len(self.parts)]
                    seed = self.seed + number // len(self.parts)
                    workers.begin(_Task(part, seed, self.settings, scratch / f"run-{number}", ends))
                    number += 1
                if workers.is_idle:
                    return
                total.add(workers.next())
                yield total
                if workers.is_broken:
                    return


RUNS: dict[Part, type[Run]] = {kind.part: kind for kind in (CrashRun, FaultRun, ScheduleRun, DamageRun)}


@dataclass(frozen=True)
class _Task:
    part: Part
    seed: int
    settings: Settings
    scratch: Path
    ends: float | None

    def run(self) -> Tally:
        return RUNS[self.part](self.seed, self.settings, self.scratch, is_over=self._is_over).run()

    def _is_over(self) -> bool:
        return _is_stopping() or (self.ends is not None and time.time() >= self.ends)


class _Workers:
    """Processes that run tasks; with one job the tasks run in this process. Results come in the order of the tasks."""

    def __init__(self, jobs: int) -> None:
        self.is_broken = False
        """A process has died: nothing more can be begun."""
        self._jobs = jobs
        self._waiting: deque[tuple[_Task, Future[Tally] | None]] = deque()
        # Spawned: a forked one would share what threads of the caller have locked.
        context = multiprocessing.get_context("spawn")
        # Without a lock, which a process that dies could keep.
        self._stop = context.RawValue("b", 0)
        self._pool = None
        if jobs > 1:
            self._pool = ProcessPoolExecutor(jobs, context, _begin_worker, (self._stop,))

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """Each run ends at its next look, and removes what it has made."""
        self._stop.value = 1
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def has_room(self) -> bool:
        # One more than there are workers, so that none waits for the slowest.
        return len(self._waiting) < (1 if self._pool is None else self._jobs + 1)

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def begin(self, task: _Task) -> None:
        self._waiting.append((task, None if self._pool is None else self._pool.submit(task.run)))

    def next(self) -> Tally:
        task, future = self._waiting.popleft()
        try:
            return task.run() if future is None else future.result()
        except BrokenProcessPool:
            self.is_broken = True
            tally = Tally()
            for one in (task, *(waiting for waiting, _ in self._waiting)):
                ended = Violation(
                    "other", "a process has died, of this run or of another that is named like this"
                )
                tally.record(Failure(one.seed, one.part, "the run", ended))
            return tally


_stop: Any = None
"""In a worker: not zero once the campaign is over."""


def _is_stopping() -> bool:
    return _stop is not None and bool(_stop.value)


def _begin_worker(stop: Any) -> None:
    """Ctrl-C is for the caller, who stops the workers."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
