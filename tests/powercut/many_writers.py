"""Several threads that wait for one sync together, for a recorded device.

Each thread has two keys of its own and writes both in one batch, with a number that rises; every commit waits until it
is durable. So of each thread the newest number that was acknowledged must be there, or a later one, under both keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flash_kv import DB
from flash_kv.torture.journal import Violation
from powercut.commits import options

THREADS = 4
# All their numbers are told as one of 64 bits.
BITS = 16


class ManyWriters:
    """`count` batches of each thread."""

    def __init__(self, seed: int, count: int = 60) -> None:
        self.seed = seed
        self.options = options(seed, durability="always")
        self._count = count
        self._numbers = [0] * THREADS
        self._lock = threading.Lock()

    @property
    def acknowledged(self) -> int:
        return sum(self._numbers)

    def run(self, db: DB, note: Callable[[int], object]) -> None:
        def write(thread: int) -> None:
            for number in range(1, self._count + 1):
                with db.batch() as batch:
                    for key in _keys(thread):
                        batch.put(key, b"%d " % number * (1 + (number * 37 + self.seed) % 500))
                with self._lock:
                    self._numbers[thread] = number
                    note(self.promised())

        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(write, thread) for thread in range(THREADS)]:
                done.result()

    def promised(self) -> int:
        return sum(number << (BITS * thread) for thread, number in enumerate(self._numbers))

    def judge(self, path: Path, floor: int) -> Violation | None:
        path.mkdir(exist_ok=True)
        with DB(path, options(self.seed, compaction="off")) as db:
            for thread in range(THREADS):
                promised = (floor >> (BITS * thread)) & ((1 << BITS) - 1)
                found = [int((db.get(key) or b"0").split()[0]) for key in _keys(thread)]
                if found[0] != found[1]:
                    return Violation("torn", f"thread {thread}: {found}")
                if found[0] < promised:
                    return Violation("lost", f"thread {thread}: {promised} was promised, {found[0]} is there")
        return None


def _keys(thread: int) -> tuple[bytes, bytes]:
    return b"%d a" % thread, b"%d b" % thread
