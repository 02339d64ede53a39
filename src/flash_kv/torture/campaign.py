"""Many runs, side by side in processes: each has a seed of its own, so that any of them can be repeated alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from flash_kv.torture.crashes import CrashRun
from flash_kv.torture.damages import DamageRun
from flash_kv.torture.faults import FaultRun
from flash_kv.torture.schedules import ScheduleRun
from flash_kv.torture.settings import Settings
from flash_kv.torture.tally import Tally

Part: TypeAlias = Literal["crashes", "faults", "schedules", "damage"]
PARTS: tuple[Part, ...] = get_args(Part)
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


RUNS: dict[Part, Callable[..., CrashRun | FaultRun | ScheduleRun | DamageRun]] = {
    "crashes": CrashRun,
    "faults": FaultRun,
    "schedules": ScheduleRun,
    "damage": DamageRun,
}


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
        return self.ends is not None and time.time() >= self.ends


class _Workers:
    """Processes that run tasks; with one job the tasks run in this process. Results come in the order of the tasks."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._waiting: deque[Callable[[], Tally]] = deque()
        # Spawned: a forked one would share what threads of the caller have locked.
        self._pool = None if jobs == 1 else multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupt)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    @property
    def has_room(self) -> bool:
        # One more than there are workers, so that none waits for the slowest.
        return len(self._waiting) < (1 if self._pool is None else self._jobs + 1)

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def begin(self, task: _Task) -> None:
        self._waiting.append(task.run if self._pool is None else self._pool.apply_async(task.run).get)

    def next(self) -> Tally:
        return self._waiting.popleft()()


def _ignore_interrupt() -> None:
    """Ctrl-C is for the caller, who ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    """Not at once: what a run has begun itself, a child or files, ends with it."""
    sys.exit(1)
