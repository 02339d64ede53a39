"""Several threads at once, until a time has passed or one of them fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns after a microsecond, so that they meet in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def repeat_together(seconds: float, *steps: Callable[[], object], at_least: int = 1) -> None:
    """Call each step again and again in a thread of its own for `seconds`, and until each was called `at_least` times.

    The first exception of any of them ends all and is raised here.
    """
    end = time.monotonic() + seconds
    errors: list[BaseException] = []
    counts = [0] * len(steps)
    barrier = threading.Barrier(len(steps))

    def repeat(number: int) -> None:
        try:
            barrier.wait()
            while not errors and (time.monotonic() < end or min(counts) < at_least):
                steps[number]()
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    _run([threading.Thread(target=repeat, args=(number,)) for number in range(len(steps))])
    if errors:
        raise errors[0]


def call_together(*calls: Callable[[], object]) -> None:
    """Call each once, all at the same moment, each in a thread of its own; the first exception is raised here."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(calls))

    def call(number: int) -> None:
        try:
            barrier.wait()
            calls[number]()
        except BaseException as error:
            errors.append(error)

    _run([threading.Thread(target=call, args=(number,)) for number in range(len(calls))])
    if errors:
        raise errors[0]


def _run(threads: list[threading.Thread]) -> None:
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
